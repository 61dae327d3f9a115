//! The name that a user gives to a partition: boot, nix or a number.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Image, Partition, store};
use crate::read::{Format, ReadError};

/// How a user names a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartName {
    /// The ESP.
    Boot,
    /// The filesystem that holds the store.
    Nix,
    /// The partition of this number.
    Number(u32),
}

/// A text that names no partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not \"boot\", \"nix\" or the number of a partition")]
pub struct BadPartName;

impl FromStr for PartName {
    type Err = BadPartName;

    fn from_str(text: &str) -> Result<Self, BadPartName> {
        match text {
            "boot" => Ok(Self::Boot),
            "nix" => Ok(Self::Nix),
            number => number.parse().ok().filter(|&number| number > 0).map(Self::Number).ok_or(BadPartName),
        }
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::Nix => f.write_str("nix"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

pub(super) fn find<'a>(image: &'a Image, part: &PartName) -> Result<&'a Partition, ReadError> {
    let found = match part {
        PartName::Boot => find_boot(image.partitions()),
        PartName::Nix => find_nix(image.partitions()),
        PartName::Number(number) => image.partitions().iter().find(|partition| partition.number == *number),
    };
    found.ok_or_else(|| {
        let numbers: Vec<_> = image.partitions().iter().map(|partition| partition.number.to_string()).collect();
        let there = match numbers.as_slice() {
            [] => "there are no partitions".to_owned(),
            [only] => format!("the only one is {only}"),
            numbers => format!("there are {}", numbers.join(", ")),
        };
        ReadError::NoPartition(match part {
            PartName::Boot => format!("no partition is the boot partition, neither an ESP nor a FAT ({there})"),
            PartName::Nix => {
                format!("no partition is the nix partition, an ext4, btrfs or erofs with a store ({there})")
            }
            PartName::Number(number) => format!("no partition {number} ({there})"),
        })
    })
}

/// The first ESP with a FAT, or else the first FAT.
fn find_boot(partitions: &[Partition]) -> Option<&Partition> {
    let is_fat = |partition: &&Partition| partition.format() == Some(Format::Vfat);
    let esps = || partitions.iter().filter(|partition| partition.is_esp());
    esps().find(is_fat).or_else(|| partitions.iter().find(is_fat)).or_else(|| esps().next())
}

/// The filesystem with a registration or a database, or else with a store, or else the only one that could have one.
fn find_nix(partitions: &[Partition]) -> Option<&Partition> {
    let could = |partition: &&Partition| partition.format().is_some_and(Format::can_hold_store);
    let candidates: Vec<_> = partitions.iter().filter(could).collect();
    if let [only] = candidates.as_slice() {
        return Some(only);
    }
    let located = candidates.into_iter().filter_map(|partition| {
        let fs = partition.open().ok()?;
        Some((partition, store::locate(fs.as_ref()).ok()??))
    });
    let located: Vec<_> = located.collect();
    let known = located.iter().find(|(_, location)| location.is_known());
    known.or(located.first()).map(|(partition, _)| *partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_boot_nix_or_a_number() {
        for (text, part) in [("boot", PartName::Boot), ("nix", PartName::Nix), ("15", PartName::Number(15))] {
            assert_eq!(text.parse(), Ok(part));
            assert_eq!(part.to_string(), text);
        }
        for text in ["", "0", "-1", "Boot", "4294967296", "1 "] {
            assert_eq!(text.parse::<PartName>(), Err(BadPartName), "{text:?}");
        }
    }
}
