//! `node --env-file` (nodejs/node, src/node_dotenv.cc).

use zeroize::Zeroizing;

use super::{AFTER_QUOTE, Collector, NO_VALUE, NOT_A_NAME, Reading, from, join, part, skip, unescape};
use crate::error::{Error, Result};

const QUOTES: [char; 3] = ['\'', '"', '`'];

pub(super) fn read(text: &str) -> Reading {
    // Every carriage return is removed, wherever it stands.
    let text = &*super::escape(text, &[('\r', "")]);
    let mut found = Collector::new(text);
    let end = text.trim_end_matches(is_space).len();
    let text = part(text, 0, end);
    let mut at = skip(text, 0, is_space);
    while at < end {
        let rest = from(text, at);
        if rest.starts_with(['\n', '#']) {
            at = skip(text, at, |c| c != '\n') + 1;
            continue;
        }
        let name_at = skip(text, at, is_space);
        let equals = skip(text, at, |c| c != '=' && c != '\n');
        if !from(text, equals).starts_with('=') {
            if name_at < equals {
                found.pass_over(name_at, NO_VALUE);
            }
            at = skip(text, equals, is_space);
            continue;
        }
        let name = part(text, at, equals).trim_matches(is_space);
        at = equals + 1;
        if at >= end || from(text, at).starts_with('\n') {
            // Here alone, `export` stays a part of the name.
            found.entry(name_at, name, &[], false);
            continue;
        }
        // White space spans lines: an entry of spaces takes the next line as its value.
        at = skip(text, at, is_space);
        if name.is_empty() {
            found.pass_over(equals, NOT_A_NAME);
            continue;
        }
        let (name_at, name) = match name.strip_prefix("export ") {
            Some(rest) => (skip(text, name_at + "export ".len(), is_space), rest.trim_matches(is_space)),
            None => (name_at, name),
        };
        at = value(text, at, &mut found, name_at, name);
    }
    found.reading
}

/// Takes the value at `at` and says where reading goes on.
fn value(text: &str, at: usize, found: &mut Collector<'_>, name_at: usize, name: &str) -> usize {
    let rest = from(text, at);
    let line = part(text, at, at + rest.find('\n').unwrap_or(rest.len()));
    let Some(quote) = rest.chars().next().filter(|c| QUOTES.contains(c)) else {
        let plain = line.split('#').next().unwrap_or_default();
        found.entry(name_at, name, plain.trim_matches(is_space).as_bytes(), false);
        return skip(text, at + line.len(), is_space);
    };
    let Some(length) = from(text, at + 1).find(quote) else {
        // Without a closing quote the line is the value, its comment included.
        found.entry(name_at, name, line.as_bytes(), false);
        return skip(text, at + line.len(), is_space);
    };
    let close = at + 1 + length;
    let inside = part(text, at + 1, close);
    if quote == '"' {
        found.entry(name_at, name, unescape(inside, &[('n', '\n')]).as_bytes(), false);
    } else {
        found.entry(name_at, name, inside.as_bytes(), false);
    }
    let line_end = skip(text, close + 1, |c| c != '\n');
    let after = skip(text, close + 1, |c| c == ' ' || c == '\t');
    if after < line_end && !from(text, after).starts_with('#') {
        found.pass_over(after, AFTER_QUOTE);
    }
    line_end + 1
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n')
}

pub(super) fn write(name: &str, value: &str) -> Result<Zeroizing<String>> {
    if name == "__proto__" {
        return Err(Error::Malformed { what: "name for node-env-file: Node 20 cannot hold a variable of this name" });
    }
    if value.contains('\r') {
        return Err(Error::Malformed { what: "value for node-env-file: it cannot hold a carriage return" });
    }
    if !value.contains('\'') {
        Ok(join(&[name, "='", value, "'\n"]))
    } else if !value.contains('"') && !value.contains("\\n") {
        Ok(join(&[name, "=\"", value, "\"\n"]))
    } else if !value.contains('`') {
        Ok(join(&[name, "=`", value, "`\n"]))
    } else if !value.contains(['#', '\n']) && !value.starts_with(QUOTES) && value.trim_matches(is_space) == value {
        Ok(join(&[name, "=", value, "\n"]))
    } else {
        Err(Error::Malformed { what: "value for node-env-file: it needs quotes and holds all of ' \" `" })
    }
}
