//! Times: the server's, as it writes them, and ours, from one reading that the caller gives.

use std::time::Duration;

pub use jiff::Timestamp;
use tokio::time::Instant;

/// A wall clock made of one reading and of tokio's monotonic clock, so that nothing here reads the wall
/// clock and a test can pause time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    began: Instant,
}

impl Clock {
    /// It is `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        Self { wall: now, began: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        later(self.wall, self.began.elapsed())
    }
}

/// `at` + `by`, at most the end of what can be told.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long from `from` until `until`; zero where `until` is the earlier one.
pub fn between(from: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// A `Date` or `Retry-After` header's date.
pub(crate) fn from_http_date(text: &str) -> Option<Timestamp> {
    // HTTP dates are RFC 2822's with GMT as their zone.
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// For serde: RFC 3339, `null` and absent; the zero time (year 1) that servers write for "never", and what
/// cannot be read, are `None`.
pub(crate) fn when<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = <Option<String> as serde::Deserialize>::deserialize(deserializer)?;
    let at = text.and_then(|text| text.parse::<Timestamp>().ok());
    Ok(at.filter(|at| *at > Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_goes_on_from_the_reading_it_was_given() {
        let wall: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Clock::starting_at(wall);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-02T03:05:35Z");
        assert_eq!(between(wall, clock.now()), Duration::from_secs(90));
        assert_eq!(between(clock.now(), wall), Duration::ZERO);
    }

    #[test]
    fn the_server_writes_never_as_the_year_one() {
        #[derive(serde::Deserialize)]
        struct Row {
            #[serde(default, deserialize_with = "when")]
            at: Option<Timestamp>,
        }
        let at = |json: &str| serde_json::from_str::<Row>(json).unwrap().at;
        assert_eq!(at("{\"at\":\"0001-01-01T00:00:00Z\"}"), None);
        assert_eq!(at("{\"at\":null}"), None);
        assert_eq!(at("{}"), None);
        assert_eq!(at("{\"at\":\"soon\"}"), None);
        assert!(at("{\"at\":\"2023-06-01T12:00:00.123456+02:00\"}").is_some());
    }

    #[test]
    fn dates_of_http_are_read() {
        let at = from_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(at.to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(from_http_date("12"), None);
    }
}
