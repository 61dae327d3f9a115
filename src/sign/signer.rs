//! The programs that sign, and what they are given.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::statvfs;
use rustix::io::Errno;

use super::Outcome;
use super::authenticode::Signed;
use super::error::SignError;
use crate::progress::Cancel;
use crate::tool;

/// No key is longer, in bytes.
const KEY_MAX: u64 = 1 << 16;
/// Where systemd has the programs that are in nobody's PATH: on most systems, and on NixOS.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd", "/run/current-system/sw/lib/systemd"];
/// As much as no signature takes, in bytes.
const SIGNATURE: u64 = 1 << 16;
/// The labels of what is in PEM form: a certificate, and a private key in either of its two forms, without a passphrase.
const CERTIFICATE: &str = "CERTIFICATE";
const KEYS: [&str; 2] = ["PRIVATE KEY", "RSA PRIVATE KEY"];
/// What is in the label of every private key, and in that of one with a passphrase or in the line after it.
const ANY_KEY: &[u8] = b"PRIVATE KEY-----";
const ENCRYPTED: &[u8] = b"ENCRYPTED";
/// How the first number of an RSA key of 2048 bits and more starts in DER: an integer whose length has two bytes.
const LONG_INTEGER: [u8; 2] = [0x02, 0x82];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sbsign,
    SystemdSbsign,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Sbsign, Self::SystemdSbsign];

    fn name(self) -> &'static str {
        match self {
            Self::Sbsign => "sbsign",
            Self::SystemdSbsign => "systemd-sbsign",
        }
    }
}

/// A program that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    kind: Kind,
    program: PathBuf,
}

impl Tool {
    /// The one that is called `wanted`, by name or by path; without a wish, sbsign, or else systemd-sbsign.
    ///
    /// # Errors
    /// If it is not there, or not known.
    pub fn find(wanted: Option<&Path>) -> Result<Self, SignError> {
        let Some(wanted) = wanted else {
            let found = Kind::ALL.into_iter().find_map(|kind| Some(Self { kind, program: search(kind.name())? }));
            return found.ok_or(SignError::NoTool);
        };
        let name = wanted.display().to_string();
        let file_name = wanted.file_name().unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| file_name == kind.name());
        let Some(kind) = kind else { return Err(SignError::UnknownTool { name }) };
        let program = match wanted.components().count() {
            1 => search(kind.name()),
            _ => fs::canonicalize(wanted).ok().filter(|path| path.is_file()),
        };
        program.map(|program| Self { kind, program }).ok_or(SignError::NotInstalled { name })
    }

    fn arguments(&self, key: &Path, certificate: &Path, from: &Path, to: &Path) -> Vec<OsString> {
        let options = match self.kind {
            Kind::Sbsign => [("--key", key), ("--cert", certificate), ("--output", to)],
            Kind::SystemdSbsign => [("--private-key", key), ("--certificate", certificate), ("--output", to)],
        };
        let command = (self.kind == Kind::SystemdSbsign).then(|| "sign".into());
        let options = options.iter().flat_map(|(name, path)| [OsString::from(name), path.as_os_str().to_owned()]);
        command.into_iter().chain(options).chain([from.as_os_str().to_owned()]).collect()
    }
}

/// A program of the PATH, or of systemd.
fn search(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SYSTEMD.map(PathBuf::from));
    directories.filter_map(|directory| fs::canonicalize(directory.join(name)).ok()).find(|path| path.is_file())
}

/// A tool with a key and its certificate.
#[derive(Clone, Debug)]
pub struct Signer {
    tool: Tool,
    key: PathBuf,
    certificate: PathBuf,
    /// The certificate as signatures have it.
    der: Vec<u8>,
    has_passphrase: bool,
}

impl Signer {
    /// A signer by files in PEM form.
    ///
    /// # Errors
    /// If one cannot be read, or is none, or the certificate is of another key: systemd-sbsign does not look. A key with
    /// a passphrase is not looked at here.
    pub fn new(tool: Tool, key: &Path, certificate: &Path) -> Result<Self, SignError> {
        for (option, path) in [("--key", key), ("--certificate", certificate)] {
            // The tool opens it again for each program.
            if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
                return Err(SignError::NoFile { option, path: path.to_owned() });
            }
        }
        let of_key = |source| SignError::Key { path: key.to_owned(), source };
        let key = fs::canonicalize(key).map_err(of_key)?;
        let of_key = |source| SignError::Key { path: key.clone(), source };
        let mut secret = Vec::new();
        File::open(&key).and_then(|file| file.take(KEY_MAX).read_to_end(&mut secret)).map_err(of_key)?;
        let of_certificate = |problem| SignError::Certificate { path: certificate.to_owned(), problem };
        let text = fs::read(certificate).map_err(|error| of_certificate(format!("cannot be read: {error}")))?;
        let der = der(&text, CERTIFICATE).ok_or_else(|| of_certificate("is no certificate".to_owned()))?;
        if !contains(&secret, ANY_KEY) {
            return Err(SignError::NoKey { path: key });
        }
        let has_passphrase = contains(&secret, ENCRYPTED);
        let secret = KEYS.iter().find_map(|label| self::der(&secret, label));
        if secret.as_deref().and_then(modulus).is_some_and(|modulus| !contains(&der, modulus)) {
            return Err(SignError::OtherKey { key, certificate: certificate.to_owned() });
        }
        let certificate =
            fs::canonicalize(certificate).map_err(|error| of_certificate(format!("cannot be read: {error}")))?;
        Ok(Self { tool, key, certificate, der, has_passphrase })
    }

    /// Signs the program `from` into the file `to`, unless it is signed already. Errors call it `program`.
    pub(super) fn sign(&self, from: &Path, to: &Path, program: &str, cancel: &Cancel) -> Result<Outcome, SignError> {
        let failed = |said| SignError::Tool { program: program.to_owned(), tool: self.tool.program.clone(), said };
        let unsigned = Signed::read(from);
        let unsigned =
            unsigned.map_err(|why| SignError::Program { program: program.to_owned(), why: why.to_string() })?;
        if unsigned.is_by(&self.der) {
            return Ok(Outcome::WasSigned);
        }
        let directory = to.parent().unwrap_or(Path::new("/"));
        let arguments = self.tool.arguments(&self.key, &self.certificate, from, to);
        let ran = tool::run_until(&self.tool.program, arguments, directory, cancel);
        cancel.check()?;
        let ran = ran.map_err(|error| failed(error.to_string()))?;
        if !ran.status.success() {
            // sbsign does not say so.
            if free(directory)
                .is_some_and(|free| free < fs::metadata(from).map_or(0, |metadata| metadata.len() + SIGNATURE))
            {
                return Err(SignError::Scratch(Errno::NOSPC.into()));
            }
            let hint = "; the key has a passphrase, which is asked for on a terminal";
            let hint = if self.has_passphrase { hint } else { "" };
            return Err(failed(tool::last_lines(&ran) + hint));
        }
        let wrong =
            |problem| SignError::Wrong { program: program.to_owned(), tool: self.tool.program.clone(), problem };
        let signed = Signed::read(to).map_err(|_| wrong("wrote no program"))?;
        if signed.digest != unsigned.digest {
            return Err(wrong("changed it"));
        }
        if !signed.is_by(&self.der) {
            return Err(wrong("wrote no signature of this certificate"));
        }
        Ok(Outcome::Signed)
    }
}

/// The bytes that are free for a new file.
fn free(directory: &Path) -> Option<u64> {
    let filesystem = statvfs(directory).ok()?;
    filesystem.f_bavail.checked_mul(filesystem.f_frsize)
}

/// What the certificate of an RSA key has of it, too; `None` of other keys.
fn modulus(key: &[u8]) -> Option<&[u8]> {
    let at = key.windows(LONG_INTEGER.len()).position(|window| window == LONG_INTEGER)?;
    let (len, rest) = key.get(at + LONG_INTEGER.len()..)?.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The first part of a text in PEM form that has this label.
fn der(text: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {label}-----"));
    let body = text.split_once(&begin)?.1.split_once(&end)?.0;
    let digits: String = body.split_whitespace().collect();
    STANDARD.decode(digits).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read() {
        let [begin, end] = ["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"];
        let text = format!("Subject: CN=x\n{begin}\nQUJD\nREVG\n{end}\n");
        assert_eq!(der(text.as_bytes(), CERTIFICATE).as_deref(), Some(&b"ABCDEF"[..]));
        for wrong in ["", "-----BEGIN PRIVATE KEY-----\nQUJD\n", begin, &format!("{begin}\n!\n{end}")] {
            assert_eq!(der(wrong.as_bytes(), CERTIFICATE), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_has_its_modulus() {
        let number = [7; 257];
        let key = [&[0x30, 0x82, 4, 0, 2, 1, 0, 2, 0x82, 1, 1][..], &number, &[2, 3, 1, 0, 1]].concat();
        assert_eq!(modulus(&key), Some(&number[..]));
        assert_eq!(modulus(&key[..200]), None);
        assert_eq!(modulus(b"no key"), None);
        assert!(contains(&[&[1, 2], &number[..]].concat(), &number) && !contains(&[7; 256], &number));
    }

    #[test]
    fn only_known_tools_are_run() {
        let find = |name: &str| Tool::find(Some(Path::new(name))).unwrap_err().to_string();
        assert_eq!(find("pesign"), "--tool pesign: is neither sbsign nor systemd-sbsign; no other tool is known");
        let missing =
            "--tool /nonexistent/sbsign: is not installed; name sbsign, systemd-sbsign, or the path of one of them";
        assert_eq!(find("/nonexistent/sbsign"), missing);
    }
}
