//! Takes the members of a JSON object one by one and collects every mistake, so that all are printed at once.

use std::convert::Infallible;
use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::SpecError;

/// What is wrong with a member that is not there.
const MISSING: &str = "is missing";

/// A JSON object that is being read.
///
/// Each method that takes a member says what is `wanted` there (it completes the remedy "set … to")
/// and how to `convert` the JSON value; it gives `None` after noting a mistake.
#[derive(Debug)]
pub(super) struct Object<'e> {
    path: String,
    /// Those not taken yet.
    members: Map<String, Value>,
    /// The keys asked for so far.
    known: Vec<&'static str>,
    errors: &'e mut Vec<SpecError>,
}

impl<'e> Object<'e> {
    /// The object of `members` that stands at `path`, empty for the whole spec.
    pub(super) fn new(path: String, members: Map<String, Value>, errors: &'e mut Vec<SpecError>) -> Self {
        Self { path, members, known: Vec::new(), errors }
    }

    /// The object that `value`, which stands at `path`, is.
    pub(super) fn nested(&mut self, path: String, value: Value) -> Option<Object<'_>> {
        match value {
            Value::Object(members) => Some(Object::new(path, members, self.errors)),
            other => {
                let remedy = format!("set {path} to an object");
                self.note(path, format!("{other} is not an object"), remedy);
                None
            }
        }
    }

    /// Takes the member `key`, which must be there.
    pub(super) fn required<T: DeserializeOwned, U, E: Display>(
        &mut self,
        key: &'static str,
        wanted: &str,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        let path = self.member(key);
        match self.take(key) {
            Some(value) => self.convert(path, value, wanted, convert),
            None => {
                let remedy = format!("set {path} to {wanted}");
                self.note(path, MISSING, remedy);
                None
            }
        }
    }

    /// Takes the member `key`, or `default` if it is not there.
    pub(super) fn optional<T: DeserializeOwned, U, E: Display>(
        &mut self,
        key: &'static str,
        wanted: &str,
        default: T,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        let path = self.member(key);
        match self.take(key) {
            Some(value) => self.convert(path, value, wanted, convert),
            None => self.accept(path, wanted, convert(default)),
        }
    }

    /// Takes the list of strings `key`, empty if it is not there. `wanted` is of one element.
    pub(super) fn list<U, E: Display>(
        &mut self,
        key: &'static str,
        wanted: &str,
        mut convert: impl FnMut(String) -> Result<U, E>,
    ) -> Option<Vec<U>> {
        let path = self.member(key);
        let values: Vec<Value> = self.optional(key, "a list of strings", Vec::new(), as_is)?;
        // All elements are converted, so that all mistakes are reported, before a bad one makes the list void.
        let elements: Vec<_> = values
            .into_iter()
            .enumerate()
            .map(|(i, value)| self.convert(format!("{path}[{i}]"), value, wanted, &mut convert))
            .collect();
        elements.into_iter().collect()
    }

    /// Takes the member `key`, which is there, of an object whose keys are the user's own.
    pub(super) fn named<T: DeserializeOwned, U, E: Display>(
        &mut self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        let path = self.member(key);
        let value = self.members.remove(key)?;
        self.convert(path, value, wanted, convert)
    }

    /// Drops the member `key`, which was read elsewhere.
    pub(super) fn skip(&mut self, key: &'static str) {
        self.take(key);
    }

    /// Notes every member that nothing asked for, with the field that may have been meant.
    pub(super) fn finish(mut self) {
        let mut are_told = false;
        for key in std::mem::take(&mut self.members).keys() {
            let meant = nearest(key, self.known.iter().copied());
            let remedy = match meant {
                Some(name) => format!("did you mean {name}?"),
                None if are_told => "remove it".to_owned(),
                None => format!("remove it, or use one of: {}", self.known.join(", ")),
            };
            are_told |= meant.is_none();
            if let Some(path) = meant.map(|name| self.member(name)) {
                // A mistyped field is not missing as well.
                self.errors.retain(|error| error.path != path || error.problem != MISSING);
            }
            self.note(self.member(key), "is not a known field", remedy);
        }
    }

    /// Notes a mistake at the JSON path `path`.
    pub(super) fn note(&mut self, path: String, problem: impl Display, remedy: String) {
        self.errors.push(SpecError { path, problem: problem.to_string(), remedy });
    }

    /// The JSON path of the object itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The JSON path of the member `key`.
    pub(super) fn member(&self, key: &str) -> String {
        member_path(&self.path, key)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.members.remove(key)
    }

    fn convert<T: DeserializeOwned, U, E: Display>(
        &mut self,
        path: String,
        value: Value,
        wanted: &str,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        match serde_json::from_value(value) {
            Ok(value) => self.accept(path, wanted, convert(value)),
            Err(error) => self.accept(path, wanted, Err(error)),
        }
    }

    fn accept<U, E: Display>(&mut self, path: String, wanted: &str, result: Result<U, E>) -> Option<U> {
        result
            .map_err(|problem| {
                let remedy = format!("set {path} to {wanted}");
                self.note(path, problem, remedy);
            })
            .ok()
    }
}

/// The one of `names` that a mistyped `text` most likely means.
pub(super) fn nearest<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let text = text.to_lowercase();
    let most = text.chars().count() / 3;
    let distances = names.into_iter().map(|name| (strsim::osa_distance(&text, &name.to_lowercase()), name));
    distances.filter(|&(distance, _)| distance <= most).min().map(|(_, name)| name)
}

/// Any value of the right type is good.
pub(super) fn as_is<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}

/// The JSON path of the member `key` of the object at `path`: `name`, `fileSystems."/boot"`.
pub(super) fn member_path(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let dot = if path.is_empty() { "" } else { "." };
    if is_plain { format!("{path}{dot}{key}") } else { format!("{path}{dot}{key:?}") }
}
