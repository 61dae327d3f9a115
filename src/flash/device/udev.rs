//! What udev has found out about a device, if the machine has udev.

use std::collections::BTreeMap;
use std::path::Path;

use super::host::{Host, Number};
use crate::escapes::hex;

/// Properties of a device. Their values come from the device itself: to be escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Properties(BTreeMap<String, String>);

impl Properties {
    pub(super) fn read(host: &Host, number: Number) -> Self {
        let text = host.read(&Path::new("/run/udev/data").join(format!("b{number}"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        Self(lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// A property, or `None` if it is not there or empty.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A property that is written with `\x20` for a space.
    pub(super) fn encoded(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| decode(&value))
    }

    /// A property of which there is a second form with all its characters, `\x20` for a space.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let encoded = self.0.get(&format!("{key}_ENC")).map(|value| decode(value));
        encoded.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).or_else(|| self.get(key))
    }
}

fn decode(text: &str) -> String {
    String::from_utf8_lossy(&hex(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_texts() {
        assert_eq!(decode("Ultra\\x20Fit\\xc3\\xa9\\x2g\\x"), "Ultra Fité\\x2g\\x");
    }
}
