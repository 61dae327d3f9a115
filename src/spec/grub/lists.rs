//! The members of `grub` whose keys are the host's own: users and files.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Password;
use super::words::plain_word;
use crate::spec::fields::{Object, as_is};
use crate::spec::validate;

/// How hashes that grub-mkpasswd-pbkdf2 prints begin.
const HASH: &str = "grub.pbkdf2.";
/// Those separate users where GRUB is told who is a superuser.
const BETWEEN_USERS: char = ',';

/// Reads `users`.
pub(super) fn users(fields: &mut Object<'_>) -> Option<Vec<(String, Password)>> {
    let users = fields.optional("users", "an object of names and passwords", Map::new(), as_is)?;
    let path = fields.member("users");
    let mut members = fields.nested(path, Value::Object(users.clone()))?;
    let read = users.keys().map(|name| {
        let path = members.member(name);
        if name.contains(BETWEEN_USERS) || plain_word(name.clone()).is_err() {
            let remedy = "use letters and digits in the name of a user".to_owned();
            members.note(path, "is not one word for GRUB", remedy);
            return None;
        }
        let user = members.named(name, "an object with hashedPassword", as_is)?;
        let password = password(members.nested(path, user)?)?;
        Some((name.clone(), password))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn password(mut user: Object<'_>) -> Option<Password> {
    let wanted = "what grub-mkpasswd-pbkdf2 prints, from \"grub.pbkdf2.\" on";
    let hashed = user.optional("hashedPassword", wanted, None, |hash: Option<String>| {
        hash.map(|hash| match hash.starts_with(HASH) {
            true => plain_word(hash),
            false => Err("is not a hash of GRUB".to_owned()),
        })
        .transpose()
    });
    let wanted = "one plain word, or leave it out for hashedPassword";
    let plain = user.optional("password", wanted, None, |word: Option<String>| word.map(plain_word).transpose());
    let (hashed, plain) = (hashed?, plain?);
    let problem = if hashed.is_some() { "has two passwords" } else { "has no password" };
    let found = match (hashed, plain) {
        (Some(hash), None) => Some(Password::Hashed(hash)),
        (None, Some(word)) => Some(Password::Plain(word)),
        _ => {
            let remedy = "set one of the two, hashedPassword if in doubt".to_owned();
            user.note(user.path().to_owned(), problem, remedy);
            None
        }
    };
    user.finish();
    found
}

/// Reads `extraFiles`.
pub(super) fn extra_files(fields: &mut Object<'_>) -> Option<Vec<(PathBuf, PathBuf)>> {
    let wanted = "an object of paths below efiSysMountPoint and files";
    let files = fields.optional("extraFiles", wanted, Map::new(), as_is)?;
    let path = fields.member("extraFiles");
    let mut members = fields.nested(path, Value::Object(files.clone()))?;
    // The map's order is that of its keys, which are all different.
    let read = files.keys().map(|key| {
        let is_path = key.split('/').try_for_each(validate::check_component).map_err(|problem| {
            let remedy = "use a path from efiSysMountPoint on, such as memtest.bin".to_owned();
            members.note(members.member(key), format!("has {problem}"), remedy);
        });
        let source = members.named(key, "the absolute path of a file", validate::absolute_path);
        is_path.ok().and(Some((Path::new(key).to_owned(), source?)))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}
