//! Who is asked for the target's own figures: resolved and checked like any target.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use scale_api::http::Problem;
use scale_api::spec;
use scale_api::units::Span;
use scale_proto::tls::ClientSettings;

use super::endpoints::{Asker, header};
use super::tables::{Tables, content};
use super::{OBSERVE, Resolve, invalid};
use crate::load::Ways;
use crate::run::targets::{Demand, Permit};

/// Queries under way at once.
pub const QUERIES_AT_ONCE: usize = 8;

/// What is asked, whom, and how.
#[derive(Clone)]
pub struct Observe {
    /// Of instant queries.
    pub url: String,
    /// The server's row in the table of addresses.
    pub addresses: u32,
    /// For `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Names and values, some of which are secrets.
    pub headers: Vec<(String, String)>,
    /// Between two samples of each query.
    pub interval: Span,
    /// PromQL, in the order of the queries' names.
    pub queries: Vec<String>,
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Observe {
    /// For people.
    pub(super) fn line(&self) -> String {
        let count = match self.queries.len() {
            1 => "1 query".to_owned(),
            count => format!("{count} queries"),
        };
        format!("observe: {count} each {}, {}", self.interval, self.url)
    }
}

impl Tables {
    /// Who is asked, if anybody is.
    pub(super) fn observe(
        &mut self,
        observe: Option<&spec::Observe>,
        permit: &Permit,
        resolve: Resolve<'_>,
    ) -> Result<Option<Observe>, Problem> {
        let Some(observe) = observe else { return Ok(None) };
        let place = observe.place().map_err(invalid)?;
        // It carries no stream and no payload; a round may need as many connections as it has queries at once.
        let connects = observe.query.len().min(QUERIES_AT_ONCE) as u64;
        let demand = Demand {
            connects_milli: (connects * 1_000_000_000_000).div_ceil(observe.interval().ns().max(1)),
            bytes_per_second: Some(0),
            ..Demand::default()
        };
        let whom = Asker { asker: OBSERVE, permit, ways: &Ways::through(&[]) };
        let addresses = self.resolved((&place.host, place.port), demand, whom, resolve)?;
        let tls = if place.https { Some(self.trust(observe)?) } else { None };
        let lines = content(observe.header_file.as_ref(), "observe.header_file")?.unwrap_or_default();
        let lines = std::str::from_utf8(lines).map_err(|_| invalid("observe.header_file is not text"))?;
        let lines = lines.lines().filter(|line| !line.trim().is_empty());
        let headers = lines.map(|line| header(line).map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(Some(Observe {
            url: place.url,
            addresses,
            tls,
            headers: headers.collect::<Result<_, _>>()?,
            interval: observe.interval(),
            queries: observe.query.values().cloned().collect(),
        }))
    }

    fn trust(&mut self, observe: &spec::Observe) -> Result<Arc<ClientConfig>, Problem> {
        if observe.insecure {
            self.warnings.push("[observe]: CERTIFICATES ARE NOT VERIFIED (insecure)".into());
        }
        let settings = ClientSettings {
            roots: scale_proto::tls::native_roots(),
            ca_pem: content(observe.ca.as_ref(), "observe.ca")?,
            insecure: observe.insecure,
            ..ClientSettings::default()
        };
        scale_proto::tls::client_config(&settings).map_err(|error| invalid(error.to_string()))
    }
}
