//! Histograms as they are handed out and kept: so that several hosts' results can be added up.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use scale_api::heat;
use scale_api::report::Heat;

use crate::stream::meter::{Figure, Histograms};

/// By group and figure: a HdrHistogram of µs in its V2 format, in Base64.
pub type Serialised = BTreeMap<String, BTreeMap<&'static str, String>>;

/// The figures of one group that have samples.
pub fn serialise(histograms: &Histograms) -> BTreeMap<&'static str, String> {
    let mut figures = BTreeMap::new();
    for figure in Figure::ALL {
        if let Some(histogram) = histograms.figure(figure) {
            let mut bytes = Vec::new();
            V2Serializer::new().serialize(histogram, &mut bytes).expect("a Vec takes everything");
            figures.insert(figure.name(), STANDARD.encode(bytes));
        }
    }
    figures
}

/// The samples of a figure by the rows of a heat map.
pub fn heat(histograms: &Histograms, figure: Figure) -> Heat {
    let Some(histogram) = histograms.figure(figure) else { return Heat::default() };
    let mut rows = [0; heat::ROWS];
    for step in histogram.iter_recorded() {
        rows[heat::row(step.value_iterated_to() as f64 / 1e6)] += step.count_at_value();
    }
    Heat::new(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn what_is_read_back_has_the_same_samples() {
        let mut histograms = Histograms::default();
        (1..=1000u64).for_each(|us| histograms.record(Figure::Response, us * 1000));
        let figures = serialise(&histograms);
        assert_eq!(figures.len(), 1);
        let bytes = STANDARD.decode(&figures["response"]).unwrap();
        let read: hdrhistogram::Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(&read, histograms.figure(Figure::Response).unwrap());
    }
}
