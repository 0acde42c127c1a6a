//! `--rows`: what row n of a table puts into the URL, the headers and the login of stream n.

use std::collections::BTreeSet;

use scale_api::http::Problem;
use scale_api::spec::{fill, places};

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

    /// A column's values, row by row; `None`: there is none of that name.
    pub fn column(&self, name: &str) -> Option<Vec<Box<str>>> {
        let column = self.columns.iter().position(|column| column == name)?;
        Some(self.rows.iter().map(|row| row.get(column).map_or("", String::as_str).into()).collect())
    }

    /// Names of its columns.
    pub fn names(&self) -> String {
        self.columns.join(", ")
    }
}

/// Puts words into texts.
pub struct Words<'a>(Option<&'a Rows>);

impl<'a> Words<'a> {
    /// For texts that are to be filled; in `strict` ones nothing may be left that looks like a column
    /// and is none.
    ///
    /// # Errors
    /// A strict one names no column, or no column is named anywhere.
    pub fn new(rows: Option<&'a Rows>, strict: &[String], loose: &[String]) -> Result<Self, Problem> {
        let columns = rows.map_or(&[][..], |rows| &rows.columns);
        let known = |name: &str| name == "n" || columns.iter().any(|column| column == name);
        let there = || [&["n".to_owned()], columns].concat().join("}, {");
        if let Some(name) = strict.iter().flat_map(|text| places(text)).find(|name| !known(name)) {
            return Err(invalid(format!("{{{name}}} is no column of --rows; there are {{{}}}", there())));
        }
        let mut named = strict.iter().chain(loose).flat_map(|text| places(text));
        if !columns.is_empty() && !named.any(|name| columns.iter().any(|column| column == name)) {
            return Err(invalid(format!(
                "nothing names a column of --rows; write {{{}}} where its value belongs: in a target, a header or an SSH login",
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
        fill(text, |name| match self.value(name, number) {
            // A line's end in a value would be the next header (RFC 9112 §11.1).
            Some(value) if !scale_proto::http::header_is_valid("X", &value) => {
                Err(invalid("a value of --rows has a control character in it"))
            }
            value => Ok(value),
        })
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
