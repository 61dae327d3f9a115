//! The commands of a grub.cfg. Pure.

use super::lexer::{Lexer, Token, Word};

/// As deep as commands stand in others.
const MAX_DEPTH: usize = 64;
/// As many faults as are told.
const MAX_FAULTS: usize = 5;

/// What ends a list of commands.
const CLOSE: &str = "}";

/// A text as commands.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) commands: Vec<Command<'a>>,
    /// The first lines that are none, and why.
    pub(super) faults: Vec<(usize, &'static str)>,
}

/// A command.
#[derive(Debug)]
pub(super) enum Command<'a> {
    /// Words, the first of which says what to do, and what stands behind them in braces.
    Simple { words: Vec<Word<'a>>, block: Option<Vec<Command<'a>>> },
    /// `!` and a command.
    Not(Vec<Command<'a>>),
    /// Conditions and what is done if they are met, in order; then what is done if none is.
    If { branches: Vec<(Vec<Command<'a>>, Vec<Command<'a>>)>, otherwise: Vec<Command<'a>> },
    /// What is done for each of the words.
    For { name: &'a str, words: Vec<Word<'a>>, body: Vec<Command<'a>> },
    /// What is done as long as a condition is met, or is not.
    While { is_until: bool, condition: Vec<Command<'a>>, body: Vec<Command<'a>> },
    /// What is done when a command of this name is met.
    Function { name: &'a str, body: Vec<Command<'a>> },
}

/// Reads all commands. Where GRUB finds a syntax error, it drops what it has of the command and goes on with the next line.
pub(super) fn parse(text: &str) -> Script<'_> {
    let mut script = Script { commands: Vec::new(), faults: Vec::new() };
    let mut parser = Parser { lexer: Lexer::new(text), next: None };
    loop {
        match parser.next_command() {
            Ok(Some(command)) => script.commands.push(command),
            Ok(None) => return script,
            Err(what) => {
                let before = text.get(..parser.lexer.at()).unwrap_or(text);
                // The end of the line may be what is wrong.
                let is_behind = before.ends_with('\n');
                if script.faults.len() < MAX_FAULTS {
                    let line = before.matches('\n').count().saturating_add(usize::from(!is_behind));
                    script.faults.push((line, what));
                }
                parser.next = None;
                if !is_behind {
                    parser.lexer.skip_line();
                }
            }
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// What was looked at ahead.
    next: Option<Token<'a>>,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Parsed<Option<&Token<'a>>> {
        if self.next.is_none() {
            self.next = self.lexer.next()?;
        }
        Ok(self.next.as_ref())
    }

    fn take(&mut self) -> Parsed<Option<Token<'a>>> {
        self.peek()?;
        Ok(self.next.take())
    }

    fn skip_ends(&mut self) -> Parsed<()> {
        while self.peek()? == Some(&Token::End) {
            self.next = None;
        }
        Ok(())
    }

    /// The next command of the file, or `None` at its end.
    fn next_command(&mut self) -> Parsed<Option<Command<'a>>> {
        self.skip_ends()?;
        match self.take()? {
            None => Ok(None),
            Some(Token::Word(word)) => self.command(word, 0).map(Some),
            Some(_) => Err("a brace where a command should be"),
        }
    }

    /// Commands up to one of `ends`, and which it is.
    fn list(&mut self, ends: &[&'static str], depth: usize) -> Parsed<(Vec<Command<'a>>, &'static str)> {
        if depth > MAX_DEPTH {
            return Err("too many commands in each other");
        }
        let mut commands = Vec::new();
        loop {
            self.skip_ends()?;
            let (found, word) = match self.take()? {
                None => return Err("the file ends within a command"),
                Some(Token::Word(word)) => (word.raw, Some(word)),
                Some(Token::Close) => (CLOSE, None),
                Some(_) => return Err("a brace where a command should be"),
            };
            if let Some(end) = ends.iter().find(|end| **end == found) {
                return if commands.is_empty() { Err("no command where one must be") } else { Ok((commands, end)) };
            }
            commands.push(self.command(word.ok_or("a } without a {")?, depth)?);
        }
    }

    fn command(&mut self, first: Word<'a>, depth: usize) -> Parsed<Command<'a>> {
        let command = self.whole_command(first, depth.saturating_add(1))?;
        match self.peek()? {
            Some(Token::Word(_) | Token::Open) => Err("more words behind the end of a command"),
            _ => Ok(command),
        }
    }

    fn whole_command(&mut self, first: Word<'a>, depth: usize) -> Parsed<Command<'a>> {
        match first.raw {
            "if" => self.conditional(depth),
            "for" => self.each(depth),
            "while" | "until" => {
                let (condition, _) = self.list(&["do"], depth)?;
                let (body, _) = self.list(&["done"], depth)?;
                Ok(Command::While { is_until: first.raw == "until", condition, body })
            }
            "!" => match self.take()? {
                Some(Token::Word(word)) if depth <= MAX_DEPTH => Ok(Command::Not(vec![self.command(word, depth)?])),
                _ => Err("a ! without a command"),
            },
            "function" => {
                let name = self.name()?;
                self.skip_ends()?;
                match self.take()? {
                    Some(Token::Open) => Ok(Command::Function { name, body: self.list(&[CLOSE], depth)?.0 }),
                    _ => Err("a function without a {"),
                }
            }
            "then" | "elif" | "else" | "fi" | "do" | "done" | "in" | "case" | "esac" | "select" | "[[" | "]]" => {
                Err("a word where it means nothing to GRUB")
            }
            _ => self.simple(first, depth),
        }
    }

    fn simple(&mut self, first: Word<'a>, depth: usize) -> Parsed<Command<'a>> {
        let mut words = vec![first];
        loop {
            match self.peek()? {
                Some(Token::Word(_)) => {
                    if let Some(Token::Word(word)) = self.take()? {
                        words.push(word);
                    }
                }
                Some(Token::Open) => {
                    self.next = None;
                    let (block, _) = self.list(&[CLOSE], depth)?;
                    return Ok(Command::Simple { words, block: Some(block) });
                }
                // What closes is for what is around.
                Some(Token::End | Token::Close) | None => return Ok(Command::Simple { words, block: None }),
            }
        }
    }

    fn conditional(&mut self, depth: usize) -> Parsed<Command<'a>> {
        let mut branches = Vec::new();
        loop {
            let (condition, _) = self.list(&["then"], depth)?;
            let (body, end) = self.list(&["elif", "else", "fi"], depth)?;
            branches.push((condition, body));
            match end {
                "elif" => {}
                "else" => {
                    let (otherwise, _) = self.list(&["fi"], depth)?;
                    return Ok(Command::If { branches, otherwise });
                }
                _ => return Ok(Command::If { branches, otherwise: Vec::new() }),
            }
        }
    }

    fn each(&mut self, depth: usize) -> Parsed<Command<'a>> {
        let name = self.name()?;
        if !matches!(self.take()?, Some(Token::Word(word)) if word.raw == "in") {
            return Err("a for without in");
        }
        let mut words = Vec::new();
        loop {
            match self.take()? {
                Some(Token::Word(word)) => words.push(word),
                Some(Token::End) => break,
                _ => return Err("a for without do"),
            }
        }
        self.skip_ends()?;
        if !matches!(self.take()?, Some(Token::Word(word)) if word.raw == "do") {
            return Err("a for without do");
        }
        let (body, _) = self.list(&["done"], depth)?;
        Ok(Command::For { name, words, body })
    }

    fn name(&mut self) -> Parsed<&'a str> {
        match self.take()? {
            Some(Token::Word(word)) => Ok(word.raw),
            _ => Err("a name is missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands in short: the first words, and what is in them.
    fn short(commands: &[Command<'_>]) -> String {
        let one = |command: &Command<'_>| match command {
            Command::Simple { words, block } => {
                let words = words.iter().map(|word| word.raw).collect::<Vec<_>>().join(" ");
                block.as_ref().map_or(words.clone(), |block| format!("{words} {{{}}}", short(block)))
            }
            Command::Not(one) => format!("!{}", short(one)),
            Command::If { branches, otherwise } => {
                let branches = branches.iter().map(|(condition, body)| format!("{}?{}", short(condition), short(body)));
                format!("({}:{})", branches.collect::<Vec<_>>().join("|"), short(otherwise))
            }
            Command::For { name, words, body } => format!("for {name} {} ({})", words.len(), short(body)),
            Command::While { is_until, condition, body } => {
                format!("{is_until} {} ({})", short(condition), short(body))
            }
            Command::Function { name, body } => format!("{name}() {{{}}}", short(body)),
        };
        commands.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn commands_stand_in_commands() {
        for (text, wanted) in [
            ("a b\n\nc;d", "a b; c; d"),
            ("menuentry \"x\" --class y {\n l /k\n}\nq", "menuentry \"x\" --class y {l /k}; q"),
            ("submenu s { menuentry a { b } \n menuentry c { d; } }", "submenu s {menuentry a {b}; menuentry c {d}}"),
            ("if a; then b; elif c\nthen\nd\nelse e; fi; f", "(a?b|c?d:e); f"),
            ("if a; then b; fi", "(a?b:)"),
            ("for i in 1 2 $x; do a; b\ndone", "for i 3 (a; b)"),
            ("while a; do b; done; until c; do d; done", "false a (b); true c (d)"),
            ("function f {\n a\n}\nfunction g\n{ b; }", "f() {a}; g() {b}"),
            ("! a b; if ! c; then d; fi", "!a b; (!c?d:)"),
            ("echo if then 'fi'", "echo if then 'fi'"),
        ] {
            let script = parse(text);
            assert_eq!((short(&script.commands).as_str(), script.faults.as_slice()), (wanted, &[][..]), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_costs_its_line() {
        for (text, wanted, lines) in [
            ("a\nb | c\nd", "a; d", &[2][..]),
            ("}\n{\na", "a", &[1, 2]),
            ("if a; then b\nc & d\ne\nfi\nf", "e; f", &[2, 4]),
            ("menuentry x {\n l\n", "", &[2]),
            ("for x\na\nfor in b\nc", "a; c", &[1, 3]),
            ("then\nfunction\na '", "", &[1]),
            ("menuentry x { }\nfor i in 1; do\ndone\nb", "b", &[1, 3]),
            ("if a; then b; fi c\nd", "d", &[1]),
        ] {
            let script = parse(text);
            let told: Vec<_> = script.faults.iter().map(|(line, _)| *line).collect();
            assert_eq!(short(&script.commands), wanted, "{text}");
            assert_eq!(told.first(), lines.first(), "{text}");
        }
        let deep = "if a; then ".repeat(10_000);
        assert!(parse(&deep).commands.is_empty());
    }
}
