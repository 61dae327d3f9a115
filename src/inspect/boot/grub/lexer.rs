//! The words of GRUB's language, by the manual's chapter "Shell-like scripting". Pure.

/// What a command is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word.
    Word(Word<'a>),
    /// The end of a line, or a semicolon.
    End,
    /// `{`.
    Open,
    /// `}`.
    Close,
}

/// A word before its variables are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// As it is written, quotes included.
    pub(super) raw: &'a str,
    /// What it is made of.
    pub(super) pieces: Vec<Piece<'a>>,
    /// Whether any of it is quoted: then it is a word even if it is empty.
    pub(super) is_quoted: bool,
}

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// What stands for itself.
    Text(&'a str),
    /// A variable; one that is not quoted is split where it has white space.
    Variable {
        /// Its name, or the number or sign of a function's parameter.
        name: &'a str,
        /// Whether it is within double quotes.
        is_quoted: bool,
    },
}

const NO_NAME: &str = "a $ without a name";

/// What a `$` without a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dollar {
    Itself,
    Variable,
}

/// Cuts a text into words.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on behind the end of the line.
    pub(super) fn skip_line(&mut self) {
        self.at = self.rest().find('\n').map_or(self.text.len(), |len| self.at.saturating_add(len).saturating_add(1));
    }

    /// The next token, or `None` at the end.
    ///
    /// # Errors
    /// What GRUB would call a syntax error.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, &'static str> {
        loop {
            match self.peek() {
                None => return Ok(None),
                Some('#') => {
                    self.at = self.rest().find('\n').map_or(self.text.len(), |len| self.at.saturating_add(len))
                }
                Some('\\') if self.rest().starts_with("\\\n") => self.skip(2),
                Some(' ' | '\t' | '\r') => self.skip(1),
                Some('\n' | ';') => return Ok(self.sign(Token::End)),
                Some('{') => return Ok(self.sign(Token::Open)),
                Some('}') => return Ok(self.sign(Token::Close)),
                Some('|' | '&' | '<' | '>') => {
                    self.skip(1);
                    return Err("|, &, < and > mean nothing to GRUB unless they are quoted");
                }
                Some(_) => return self.word().map(|word| Some(Token::Word(word))),
            }
        }
    }

    fn sign(&mut self, token: Token<'a>) -> Option<Token<'a>> {
        self.skip(1);
        Some(token)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    /// Goes on behind the next character, whatever it is.
    fn skip_char(&mut self) {
        self.skip(self.peek().map_or(0, char::len_utf8));
    }

    fn word(&mut self) -> Result<Word<'a>, &'static str> {
        let start = self.at;
        let mut word = Word { raw: "", pieces: Vec::new(), is_quoted: false };
        let mut from = start;
        loop {
            match self.peek() {
                None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | '}' | '|' | '&' | '<' | '>') => break,
                Some('\\') => {
                    self.take(from, &mut word);
                    self.skip(1);
                    let is_continued = self.peek() == Some('\n');
                    from = if is_continued { self.at.saturating_add(1) } else { self.at };
                    self.skip_char();
                }
                Some('\'') => {
                    self.take(from, &mut word);
                    self.skip(1);
                    from = self.at;
                    self.skip(self.rest().find('\'').ok_or("a ' without another one")?);
                    self.take(from, &mut word);
                    self.skip(1);
                    (from, word.is_quoted) = (self.at, true);
                }
                Some('"') => {
                    self.take(from, &mut word);
                    self.double_quoted(&mut word, Dollar::Variable)?;
                    from = self.at;
                }
                Some('$') => {
                    self.take(from, &mut word);
                    self.skip(1);
                    if self.peek() == Some('"') {
                        // Translated, where there is a translation.
                        self.double_quoted(&mut word, Dollar::Itself)?;
                    } else {
                        let name = self.variable()?.ok_or(NO_NAME)?;
                        word.pieces.push(Piece::Variable { name, is_quoted: false });
                    }
                    from = self.at;
                }
                Some(_) => self.skip_char(),
            }
        }
        self.take(from, &mut word);
        word.raw = self.text.get(start..self.at).unwrap_or_default();
        Ok(word)
    }

    /// Adds what stands for itself, from a place up to here.
    fn take(&self, from: usize, word: &mut Word<'a>) {
        let text = self.text.get(from..self.at).unwrap_or_default();
        if !text.is_empty() {
            word.pieces.push(Piece::Text(text));
        }
    }

    fn double_quoted(&mut self, word: &mut Word<'a>, dollar_is: Dollar) -> Result<(), &'static str> {
        word.is_quoted = true;
        self.skip(1);
        let mut from = self.at;
        loop {
            match self.peek() {
                None => return Err("a \" without another one"),
                Some('"') => break,
                Some('\\') => {
                    let next = self.rest().chars().nth(1);
                    if matches!(next, Some('$' | '"' | '\\' | '\n')) {
                        self.take(from, word);
                        from = self.at.saturating_add(if next == Some('\n') { 2 } else { 1 });
                        self.skip(1);
                    }
                    self.skip_char();
                }
                Some('$') => {
                    let dollar = self.at;
                    self.skip(1);
                    if let Some(name) = self.variable()? {
                        let after = std::mem::replace(&mut self.at, dollar);
                        self.take(from, word);
                        (self.at, from) = (after, after);
                        word.pieces.push(Piece::Variable { name, is_quoted: true });
                    } else if dollar_is == Dollar::Variable {
                        return Err(NO_NAME);
                    }
                }
                Some(_) => self.skip_char(),
            }
        }
        self.take(from, word);
        self.skip(1);
        Ok(())
    }

    /// The name of a variable behind its `$`, or `None` if there is none.
    fn variable(&mut self) -> Result<Option<&'a str>, &'static str> {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix('{') {
            let name = inner.get(..name_len(inner)).unwrap_or_default();
            if name.is_empty() || !inner.get(name.len()..).is_some_and(|rest| rest.starts_with('}')) {
                return Err("a ${ without a name and }");
            }
            self.skip(name.len().saturating_add(2));
            return Ok(Some(name));
        }
        let name = rest.get(..name_len(rest)).unwrap_or_default();
        self.skip(name.len());
        Ok(Some(name).filter(|name| !name.is_empty()))
    }
}

/// The bytes of the name at the start of a text: letters, digits and `_`, digits alone, or one sign.
fn name_len(text: &str) -> usize {
    let len = |is_part: fn(&u8) -> bool| text.bytes().take_while(is_part).count();
    match text.bytes().next() {
        Some(b'0'..=b'9') => len(u8::is_ascii_digit),
        Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => len(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'),
        Some(b'?' | b'@' | b'*' | b'#') => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<String>, &'static str> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        while let Some(token) = lexer.next()? {
            tokens.push(match token {
                Token::End => ";".to_owned(),
                Token::Open => "{".to_owned(),
                Token::Close => "}".to_owned(),
                Token::Word(word) => {
                    let piece = |piece: &Piece<'_>| match piece {
                        Piece::Text(text) => (*text).to_owned(),
                        Piece::Variable { name, is_quoted: true } => format!("<{name}>"),
                        Piece::Variable { name, is_quoted: false } => format!("<<{name}>>"),
                    };
                    word.pieces.iter().map(piece).collect()
                }
            });
        }
        Ok(tokens)
    }

    /// As `grub-emu` takes them.
    #[test]
    fn words_are_those_of_grub() {
        for (text, wanted) in [
            ("a b\tc\n", &["a", "b", "c", ";"][..]),
            ("# x\na#b # c", &[";", "a#b"]),
            ("a;b;  c", &["a", ";", "b", ";", "c"]),
            ("menuentry 'x y' {l}", &["menuentry", "x y", "{", "l", "}"]),
            ("a\\ b \\$x '\\$x' \"\\$x\" \"a\\b\" $\"t\"", &["a b", "$x", "\\$x", "$x", "a\\b", "t"]),
            ("a$x'b c'\"$y-${z}\"", &["a<<x>>b c<y>-<z>"]),
            ("a\\\nb \"c\\\nd\" \\\n e", &["ab", "cd", "e"]),
            ("$\"a $ b\" \"${x}\"]", &["a $ b", "<x>]"]),
            ("$1x $? ($d)/é", &["<<1>>x", "<<?>>", "(<<d>>)/é"]),
            ("'' \"\"", &["", ""]),
        ] {
            assert_eq!(tokens(text).unwrap(), wanted, "{text}");
        }
        for text in ["'", "\"", "\"\\\"", "a|b", "a & b", "a >b", "$", "a$ ", "\"a $ b\"", "${x", "${}", "\"${x y}\""] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
