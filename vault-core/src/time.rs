//! Times in files and messages: Unix seconds as RFC 3339 in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, in whole seconds since 1970-01-01T00:00:00Z.
///
/// No decision of this crate depends on the clock; times are for people and for expiry by hand.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The system clock, or the epoch where the clock is before it.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// Reads `YYYY-MM-DDThh:mm:ssZ`, the only form that [`Display`](core::fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |range: core::ops::Range<usize>| -> Option<u64> {
            let part = text.get(range)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
        let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
        if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) || year < 1970 {
            return None;
        }
        // Days before 1 March of the year 0, by the proleptic Gregorian calendar.
        let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day.checked_sub(1)?;
        let time = Self((days.checked_sub(719_468)? * 24 + hour) * 3_600 + minute * 60 + second);
        (time.to_string() == text).then_some(time)
    }

    /// `YYYY-MM-DD`.
    #[must_use]
    pub fn date(self) -> String {
        let (year, month, day) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    fn civil(self) -> (u64, u64, u64) {
        let z = self.0 / 86_400 + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
    }
}

impl core::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let s = self.0 % 86_400;
        write!(f, "{}T{:02}:{:02}:{:02}Z", self.date(), s / 3_600, s / 60 % 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn times_are_written_and_read_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_770_113_472, "2026-02-03T10:11:12Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(seconds).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(seconds)));
        }
        for text in
            ["", "2026-02-30T00:00:00Z", "2026-02-03 10:11:12Z", "2026-02-03T10:11:12+01:00", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
