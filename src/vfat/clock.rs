//! Times as directory entries hold them. Pure.
//!
//! Source: Microsoft's "FAT File System Specification", section "Date and Time Formats". FAT does not say which time
//! zone its times are in. Ours are in UTC.

use crate::times::Timestamp;

/// 1980-01-01, the first day that FAT knows: days since 1970, and as FAT has it.
const FIRST_DAY: i64 = 3652;
/// As [`FIRST_DAY`].
pub(super) const EPOCH: u16 = 0x0021;
/// 2107-12-31, the last day that FAT knows, in days since 1970.
const LAST_DAY: i64 = 50_402;
const SECONDS_PER_DAY: i64 = 86_400;
/// Hundredths of a second, the unit of the finest field, in nanoseconds.
const HUNDREDTH: u32 = 10_000_000;

/// A moment in FAT's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Years since 1980 from bit 9 on, the month in bits 5 to 8, the day in bits 0 to 4. 0 for no date at all.
    pub(super) date: u16,
    /// Hours from bit 11 on, minutes in bits 5 to 10, pairs of seconds in bits 0 to 4.
    pub(super) time: u16,
    /// Hundredths of a second after that, 0 to 199; only the time when a file was made has them.
    pub(super) hundredths: u8,
}

impl Clock {
    /// The last moment at or before `time` that FAT can store, or its first one.
    pub(super) fn at(time: Timestamp) -> Self {
        let (day, second) = (time.seconds.div_euclid(SECONDS_PER_DAY), time.seconds.rem_euclid(SECONDS_PER_DAY));
        let hundredths = (second % 2) * 100 + i64::from((time.nanoseconds / HUNDREDTH).min(99));
        match day {
            ..FIRST_DAY => Self { date: EPOCH, time: 0, hundredths: 0 },
            LAST_DAY.. if day > LAST_DAY => Self::of(LAST_DAY, SECONDS_PER_DAY - 1, 199),
            _ => Self::of(day, second, hundredths),
        }
    }

    fn of(day: i64, second: i64, hundredths: i64) -> Self {
        let (year, month, day) = civil(day);
        let bits = |value: i64| u16::try_from(value).unwrap_or(0);
        Self {
            date: bits((year - 1980) << 9 | month << 5 | day),
            time: bits((second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2)),
            hundredths: u8::try_from(hundredths).unwrap_or(0),
        }
    }

    /// The moment, if it is one.
    pub(super) fn timestamp(self) -> Option<Timestamp> {
        let hundredths = u32::from(self.hundredths);
        let seconds = seconds(self.date, self.time).saturating_add(i64::from(hundredths / 100));
        let timestamp = Timestamp { seconds, nanoseconds: hundredths % 100 * HUNDREDTH };
        // Another month than there is would come back as another one.
        (Self::at(timestamp) == self).then_some(timestamp)
    }
}

/// Seconds since 1970 of a date and a time, whatever they are.
pub(super) fn seconds(date: u16, time: u16) -> i64 {
    let (date, time) = (i64::from(date), i64::from(time));
    let (year, month, day) = (1980 + (date >> 9), date >> 5 & 0xf, date & 0x1f);
    // Days from civil: years start in March, so that leap days end them.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    days * SECONDS_PER_DAY + (time >> 11) * 3600 + (time >> 5 & 0x3f) * 60 + (time & 0x1f) * 2
}

/// The year, month and day of a day after 1970: the way back of the above.
fn civil(day: i64) -> (i64, i64, i64) {
    // Days since March of the year 0, and of the 400 years in which the calendar repeats itself.
    let all = day + 719_468;
    let (cycle, within) = (all / 146_097, all % 146_097);
    let year = (within - within / 1460 + within / 36_524 - within / 146_096) / 365;
    let of_year = within - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + later, month, day)
}

#[cfg(test)]
mod unit {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    #[test]
    fn known_moments() {
        let clock = |date, time, hundredths| Clock { date, time, hundredths };
        let moments = [
            (at(315_532_800, 0), clock(EPOCH, 0, 0)),
            // 2000-02-29 12:34:57.89
            (at(951_827_697, 890_000_000), clock(20 << 9 | 2 << 5 | 29, 12 << 11 | 34 << 5 | 28, 189)),
            // 2107-12-31 23:59:59.99
            (at(4_354_819_199, 990_000_000), clock(0xff9f, 0xbf7d, 199)),
        ];
        for (time, clock) in moments {
            assert_eq!((Clock::at(time), clock.timestamp()), (clock, Some(time)));
        }
    }

    #[test]
    fn what_fat_cannot_tell_is_the_nearest() {
        let first = Clock { date: EPOCH, time: 0, hundredths: 0 };
        for time in [Timestamp::STORE, at(i64::MIN, 0), at(-1, 5), at(315_532_799, 999_999_999)] {
            assert_eq!(Clock::at(time), first);
        }
        for time in [at(i64::MAX, 0), at(4_354_819_200, 0)] {
            assert_eq!(Clock::at(time), Clock { date: 0xff9f, time: 0xbf7d, hundredths: 199 });
        }
        assert_eq!(Clock::at(at(315_532_800, 9_999_999)), first);
    }

    #[test]
    fn no_moment() {
        let day = 20 << 9 | 2 << 5 | 29;
        for (date, time, hundredths) in [
            (0, 0, 0),
            (20 << 9 | 13 << 5 | 1, 0, 0),
            (21 << 9 | 2 << 5 | 29, 0, 0),
            (day, 24 << 11, 0),
            (day, 30, 0),
            (day, 60 << 5, 0),
            (day, 0, 200),
        ] {
            assert_eq!(Clock { date, time, hundredths }.timestamp(), None, "{date:#x} {time:#x} {hundredths}");
        }
    }

    proptest! {
        #[test]
        fn moments_come_back(date: u16, time: u16, hundredths: u8) {
            let clock = Clock { date, time, hundredths };
            if let Some(time) = clock.timestamp() {
                prop_assert_eq!(Clock::at(time), clock);
            }
        }

        #[test]
        fn every_second_has_a_clock(seconds in 315_532_800_i64..4_354_819_200, hundredth in 0..100_u32) {
            let time = at(seconds, hundredth * HUNDREDTH);
            prop_assert_eq!(Clock::at(time).timestamp(), Some(time));
        }
    }
}
