//! Which format a scrape asks for.

/// A format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4, with classic histograms.
    Text,
    /// Delimited `io.prometheus.client.MetricFamily`, with classic and native histograms.
    Protobuf,
}

impl Format {
    /// What is sent for a header `Accept` (RFC 9110 §12.5.1): the text, unless protobuf is wanted
    /// at least as much.
    pub fn of(accept: Option<&str>) -> Self {
        let (mut text, mut protobuf) = (0.0, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut is_ours) = (1.0f64, [false; 2]);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match (name.trim(), value.trim().trim_matches('"')) {
                    ("q", value) => weight = value.parse().unwrap_or(0.0),
                    ("proto", "io.prometheus.client.MetricFamily") => is_ours[0] = true,
                    ("encoding", "delimited") => is_ours[1] = true,
                    _ => {}
                }
            }
            match kind {
                "application/vnd.google.protobuf" if is_ours == [true; 2] => protobuf = weight.max(protobuf),
                "text/plain" | "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        if protobuf > 0.0 && protobuf >= text { Self::Protobuf } else { Self::Text }
    }

    /// The header `Content-Type` of an answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn a_prometheus_gets_protobuf_only_where_it_likes_it_best() {
        // As versions 2.42 and 3 send it with native histograms on, and 3 with them off.
        let old = format!(
            "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        );
        let new = format!(
            "{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        let off = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!([&old, &new].map(|header| Format::of(Some(header))), [Format::Protobuf; 2]);
        let last = format!("text/plain;version=0.0.4;q=0.5,{PROTOBUF};q=0.2");
        for header in [Some(off), Some(&last), Some("*/*"), Some("text/html"), Some(""), None] {
            assert_eq!(Format::of(header), Format::Text, "{header:?}");
        }
    }

    #[test]
    fn another_protobuf_is_not_ours() {
        for header in [
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf;proto=other.Family;encoding=delimited",
            &format!("{PROTOBUF};q=0"),
            &format!("{PROTOBUF};q=nonsense"),
        ] {
            assert_eq!(Format::of(Some(header)), Format::Text, "{header}");
        }
    }
}
