//! The npm package `dotenv`.
//!
//! Its reader is one regular expression, applied again and again from where the last match ended:
//!
//! ```text
//! ^ \s* (?:export\s+)? ([\w.-]+) (?:\s*=\s*?|:\s+?)
//!   (\s*'(?:\\'|[^'])*' | \s*"(?:\\"|[^"])*" | \s*`(?:\\`|[^`])*` | [^#\r\n]+)?
//!   \s* (?:#.*)? $
//! ```
//!
//! White space spans lines in it, so that `NAME=` takes a quoted text from a later line. What
//! follows does the same steps without backtracking where only one way can succeed.

use zeroize::Zeroizing;

use super::{Collector, NO_VALUE, Reading, from, is_js_space, join, part, skip, unescape, with_line_feeds};
use crate::error::{Error, Result};

const QUOTES: [char; 3] = ['\'', '"', '`'];

pub(super) fn read(text: &str) -> Reading {
    let text = &*with_line_feeds(text);
    let mut found = Collector::new(text);
    // Always the start of a line.
    let mut at = 0;
    while at < text.len() {
        let start = skip(text, at, is_js_space);
        let end = match assignment_or_export(text, start) {
            // JavaScript's objects have a property of this name that takes no text.
            Some(a) if a.name == "__proto__" => {
                found.pass_over(a.at, "the reader cannot hold a variable of this name");
                a.end
            }
            Some(a) => {
                found.entry(a.at, a.name, value_of(a.raw).as_bytes(), false);
                a.end
            }
            None => {
                let rest = from(text, start);
                if !rest.is_empty() && !rest.starts_with('#') {
                    found.pass_over(start, NO_VALUE);
                }
                start
            }
        };
        at = from(text, end)
            .char_indices()
            .find(|(_, c)| is_terminator(*c))
            .map_or(text.len(), |(offset, c)| end + offset + c.len_utf8());
    }
    found.reading
}

struct Assignment<'a> {
    at: usize,
    name: &'a str,
    /// As it stands, with quotes and the white space around.
    raw: &'a str,
    end: usize,
}

/// `^` and `$` and `.` count these too.
fn is_terminator(c: char) -> bool {
    matches!(c, '\n' | '\u{2028}' | '\u{2029}')
}

fn assignment_or_export(text: &str, start: usize) -> Option<Assignment<'_>> {
    if from(text, start).starts_with("export") {
        let after = start + "export".len();
        let name = skip(text, after, is_js_space);
        if name > after
            && let Some(found) = assignment(text, name)
        {
            return Some(found);
        }
    }
    assignment(text, start)
}

fn assignment(text: &str, at: usize) -> Option<Assignment<'_>> {
    let name_end = skip(text, at, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if name_end == at {
        return None;
    }
    let equals = skip(text, name_end, is_js_space);
    let start = if from(text, equals).starts_with('=') {
        equals + 1
    } else {
        let space = from(text, name_end).strip_prefix(':')?.chars().next().filter(|c| is_js_space(*c))?;
        name_end + 1 + space.len_utf8()
    };
    let (raw, end) = value(text, start);
    Some(Assignment { at, name: part(text, at, name_end), raw, end })
}

/// The value and where the match ends. One of the ways always succeeds.
fn value(text: &str, start: usize) -> (&str, usize) {
    let open = skip(text, start, is_js_space);
    if let Some(quote) = from(text, open).chars().next().filter(|c| QUOTES.contains(c)) {
        // Every such quote up to the first without a backslash may close; the last is preferred.
        let mut closing = Vec::new();
        for (offset, _) in from(text, open + 1).match_indices(quote) {
            let close = open + 1 + offset;
            closing.push(close);
            if !part(text, open + 1, close).ends_with('\\') {
                break;
            }
        }
        for close in closing.into_iter().rev() {
            if let Some(end) = tail(text, close + 1) {
                return (part(text, start, close + 1), end);
            }
        }
    }
    let end = skip(text, start, |c| !matches!(c, '#' | '\n'));
    (part(text, start, end), tail(text, end).unwrap_or(end))
}

/// `\s*(?:#.*)?$`
fn tail(text: &str, at: usize) -> Option<usize> {
    let end = skip(text, at, is_js_space);
    match from(text, end).chars().next() {
        None => Some(end),
        Some('#') => Some(skip(text, end, |c| !is_terminator(c))),
        Some(_) => part(text, at, end).rfind(is_terminator).map(|offset| at + offset),
    }
}

fn value_of(raw: &str) -> Zeroizing<String> {
    let trimmed = raw.trim_matches(is_js_space);
    let plain = without_quotes(trimmed);
    if trimmed.starts_with('"') {
        // `\n` first and `\r` then are the same as both at once: neither makes a backslash.
        unescape(&plain, &[('n', '\n'), ('r', '\r')])
    } else {
        plain
    }
}

/// Replaces `` ^(['"`])([\s\S]*)\1$ `` by its middle, at the start of each line.
fn without_quotes(text: &str) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(text.len()));
    let mut at = 0;
    let mut line_start = true;
    // The last of each quote that ends a line closes whatever opens before it.
    let closing = QUOTES.map(|quote| {
        let mut from_the_end = text.rmatch_indices(quote).map(|(close, _)| close);
        (quote, from_the_end.find(|close| from(text, close + 1).chars().next().is_none_or(is_terminator)))
    });
    while let Some(c) = from(text, at).chars().next() {
        let inside = at + c.len_utf8();
        let close = closing.iter().find(|(quote, _)| *quote == c).and_then(|(_, close)| *close);
        if line_start && let Some(close) = close.filter(|close| *close >= inside) {
            all.push_str(part(text, inside, close));
            at = close + 1;
            line_start = false;
        } else {
            all.push(c);
            at = inside;
            line_start = is_terminator(c);
        }
    }
    all
}

pub(super) fn write(name: &str, value: &str) -> Result<Zeroizing<String>> {
    if name == "__proto__" {
        return Err(Error::Malformed { what: "name for dotenv-node: it cannot hold a variable of this name" });
    }
    // A backslash before the closing quote lets the value run on into the next entry.
    let quotable = |quote| !value.contains(quote) && !value.ends_with('\\');
    let escapes = value.contains("\\n") || value.contains("\\r");
    let returns = value.contains('\r');
    if quotable('\'') && !returns {
        Ok(join(&[name, "='", value, "'\n"]))
    } else if quotable('"') && !escapes {
        let value = super::escape(value, &[('\n', "\\n"), ('\r', "\\r")]);
        Ok(join(&[name, "=\"", &value, "\"\n"]))
    } else if quotable('`') && !returns {
        Ok(join(&[name, "=`", value, "`\n"]))
    } else if !value.contains(['#', '\n', '\r', '\u{2028}', '\u{2029}'])
        && !value.starts_with(QUOTES)
        && value.trim_matches(is_js_space) == value
    {
        Ok(join(&[name, "=", value, "\n"]))
    } else if returns {
        Err(Error::Malformed {
            what: "value for dotenv-node: with a carriage return, it cannot hold \", \\n or \\r, nor end with \\",
        })
    } else {
        Err(Error::Malformed {
            what: "value for dotenv-node: it needs quotes, and holds all of ' \" ` or ends with a backslash",
        })
    }
}
