//! Points in time as the API writes them: RFC 3339, microseconds, UTC.

use scale_ring::Time;

/// `at`, where the clock's start is `wall_at_zero_ns` of Unix time.
pub(super) fn rfc3339(at: Time, wall_at_zero_ns: u64) -> String {
    let unix_us = (wall_at_zero_ns.saturating_add(at.ns())) / 1_000;
    let (seconds, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

/// Year, month and day of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leap_days_and_ends_of_years_are_written_right() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(Time::ZERO, unix_s * 1_000_000_000), text);
        }
        assert_eq!(rfc3339(Time::from_ns(1_234_567), 0), "1970-01-01T00:00:00.001234Z");
    }
}
