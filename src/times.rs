//! The four times of a file, as trees of files carry them.
//!
//! Everything that a build makes has [`Times::STORE`]. Files that come from an image keep the times that they had
//! there.

/// A moment, as filesystems store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC; below 0 before that.
    pub seconds: i64,
    /// Nanoseconds after that second: 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// What Nix stamps store paths with: one second after the start of 1970.
    pub const STORE: Self = Self { seconds: 1, nanoseconds: 0 };

    /// Whether the nanoseconds are less than a second, as they have to be.
    pub fn is_valid(self) -> bool {
        self.nanoseconds < 1_000_000_000
    }
}

/// The times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was read last, as far as the system notes that.
    pub access: Timestamp,
    /// When its owner, permissions, names or contents changed last.
    pub change: Timestamp,
    /// When its contents changed last.
    pub modification: Timestamp,
    /// When it was made.
    pub birth: Timestamp,
}

impl Times {
    /// What everything in our images has: all four are [`Timestamp::STORE`].
    pub const STORE: Self = {
        let time = Timestamp::STORE;
        Self { access: time, change: time, modification: time, birth: time }
    };

    /// All four, in the order of the fields.
    pub fn all(self) -> [Timestamp; 4] {
        [self.access, self.change, self.modification, self.birth]
    }
}
