//! Texts of TOML files: read with errors that repeat nothing of them, and quoted.

use core::fmt::Write as _;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Place, Result};

/// Reads a TOML text into its type. Errors tell the place and the rule, and never what stands
/// there.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let place = match error.span() {
            Some(span) => place_of(path, text, span.start),
            None => Place::file(path),
        };
        Error::Config { place, reason: describe(error.message()) }
    })
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Line and column of a byte.
pub(crate) fn place_of(path: &Path, text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Place::at(path, before.matches('\n').count() + 1, column)
}

/// What a parser's message says, without anything that it quotes but field names.
fn describe(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().filter(|name| is_field_name(name));
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let what = if message.starts_with("unknown field") { "field" } else { "value" };
        let Some(found) = first else { return format!("unknown {what}") };
        let known: Vec<&str> = quoted.filter(|name| is_field_name(name)).collect();
        // What was found is repeated only as a field name: a value may be anything.
        let found = if what == "field" { format!(" \"{found}\"") } else { String::new() };
        return match known.iter().min_by_key(|name| distance(name, first.unwrap_or_default())) {
            Some(near) if what == "field" => format!("unknown {what}{found}; did you mean \"{near}\"?"),
            _ if what == "value" && !known.is_empty() => format!("unknown {what}; known are {}", known.join(", ")),
            _ => format!("unknown {what}{found}"),
        };
    }
    match (message, first) {
        (m, Some(name)) if m.starts_with("missing field") => format!("\"{name}\" is missing"),
        (m, Some(name)) if m.starts_with("duplicate") => format!("\"{name}\" is given twice"),
        (m, None) if m.starts_with("duplicate") => {
            "this table or field is written a second time; put what it says into the first".to_owned()
        }
        (m, _) if m.starts_with("invalid type") => "the value is of another type than this field has".to_owned(),
        (m, _) if m.starts_with("invalid value") => "the value is outside of what this field takes".to_owned(),
        _ => "this is not TOML".to_owned(),
    }
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 24
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = core::mem::replace(above, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_only_if_it_looks_like_one() {
        let known = "expected one of `format`, `kind`";
        assert_eq!(
            describe(&format!("unknown field `knid`, {known}")),
            "unknown field \"knid\"; did you mean \"kind\"?"
        );
        assert_eq!(describe(&format!("unknown field `Se cret`, {known}")), "unknown field");
        assert_eq!(describe("missing field `kind`"), "\"kind\" is missing");
        for twice in ["[vault]\na = 1\n[vault]\nb = 2\n", "[a.'B C']\n[a.'B C']\n", "b = 1\nb = 2\n"] {
            let error = parse::<toml::Table>(Path::new("vault.toml"), twice).unwrap_err().to_string();
            assert!(error.contains("written a second time") || error.contains("is given twice"), "{error}");
            assert!(error.contains(if twice.starts_with("[v") { ":3:" } else { ":2:" }), "{error}");
        }
    }
}
