//! `--rows`: what row n of a table puts into the URL and the headers of stream n.

use std::collections::BTreeSet;

use scale_api::http::Problem;

use super::plan::invalid;
use crate::load::Endpoint;

/// A table: names of its columns, and its rows.
pub struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// Reads CSV whose first line names the columns.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, Problem> {
        let mut reader = csv::Reader::from_reader(text);
        let wrong = |error: csv::Error| invalid(format!("--rows: {error}"));
        let columns: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        if columns.iter().collect::<BTreeSet<_>>().len() < columns.len()
            || columns.iter().any(|name| name == "n")
        {
            return Err(invalid("--rows: column names must differ, and `n` is the stream's number"));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            rows.push(record.map_err(wrong)?.iter().map(str::to_owned).collect());
            if rows.len() > Endpoint::ROWS_MAX {
                return Err(invalid(format!("--rows: more than {} rows", Endpoint::ROWS_MAX)));
            }
        }
        if rows.is_empty() {
            return Err(invalid("--rows: no row below the line of column names"));
        }
        Ok(Self { columns, rows })
    }
}

/// Puts words into texts.
pub struct Words<'a>(Option<&'a Rows>);

impl<'a> Words<'a> {
    /// For `texts`, in whose hosts and paths nothing may be left that looks like a column and is none.
    ///
    /// # Errors
    /// A host or path names no column, or a column is named nowhere.
    pub fn new(rows: Option<&'a Rows>, texts: &[Endpoint]) -> Result<Self, Problem> {
        let columns = rows.map_or(&[][..], |rows| &rows.columns);
        let known = |name: &str| name == "n" || columns.iter().any(|column| column == name);
        let there = || [&["n".to_owned()], columns].concat().join("}, {");
        for endpoint in texts {
            let mut named = places(&endpoint.host).chain(places(&endpoint.path));
            if let Some(name) = named.find(|name| !known(name)) {
                return Err(invalid(format!(
                    "{{{name}}} in a target is no column of --rows; there are {{{}}}",
                    there()
                )));
            }
        }
        let named = |name: &str| {
            texts.iter().any(|text| {
                [&text.host, &text.path, &text.headers]
                    .into_iter()
                    .flat_map(|text| places(text))
                    .any(|it| it == name)
            })
        };
        if !columns.is_empty() && !columns.iter().any(|column| named(column)) {
            return Err(invalid(format!(
                "no target and no header names a column of --rows; write {{{}}} where its value belongs",
                columns[0]
            )));
        }
        Ok(Self(rows))
    }

    /// `text` as stream `number` says it.
    ///
    /// # Errors
    /// A value would end the line or the header.
    pub fn fill(&self, text: &str, number: u64) -> Result<String, Problem> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        // One pass: what a value says is never read as a place again.
        while let Some(at) = rest.find('{') {
            let (before, behind) = rest.split_at(at);
            filled += before;
            let value =
                behind[1..].split_once('}').and_then(|(name, rest)| Some((self.value(name, number)?, rest)));
            match value {
                // A line's end in a value would be the next header (RFC 9112 §11.1).
                Some((value, _)) if !scale_proto::http::header_is_valid("X", &value) => {
                    return Err(invalid("a value of --rows has a control character in it"));
                }
                Some((value, behind)) => {
                    filled += &value;
                    rest = behind;
                }
                None => {
                    filled.push('{');
                    rest = &behind[1..];
                }
            }
        }
        Ok(filled + rest)
    }

    fn value(&self, name: &str, number: u64) -> Option<String> {
        if name == "n" {
            return Some(number.to_string());
        }
        let Rows { columns, rows } = self.0?;
        let column = columns.iter().position(|column| column == name)?;
        rows[(number % rows.len() as u64) as usize].get(column).cloned()
    }
}

/// The words between braces in `text`.
fn places(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
