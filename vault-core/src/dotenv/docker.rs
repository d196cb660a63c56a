//! `docker run --env-file` (docker/cli, pkg/kvfile).

use zeroize::Zeroizing;

use super::{Collector, NO_VALUE, Reading, from, join, part, skip};
use crate::error::{Error, Result};

/// A line that fills the reader's buffer without an end is refused.
const MAX_LINE: usize = (64 << 10) - 1;

pub(super) fn read(text: &str) -> Result<Reading> {
    let mut found = Collector::new(text);
    let mut next = 0;
    while next < text.len() {
        let start = next;
        let end = skip(text, start, |c| c != '\n');
        next = end + 1;
        if end - start > MAX_LINE {
            return Err(found.refuse(start, "Docker refuses a file with a line of more than 65535 bytes"));
        }
        let line = part(text, start, end);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mark = if start == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let at = start + mark + skip(from(line, mark), 0, char::is_whitespace);
        let entry = from(line, at - start);
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entry, None),
        };
        if name.is_empty() {
            return Err(found.refuse(at, "Docker refuses a file with a line that starts with ="));
        }
        if name.contains([' ', '\t']) {
            return Err(found.refuse(at, "Docker refuses a file with white space in a name"));
        }
        match value {
            Some(value) => found.entry(at, name, value.as_bytes(), false),
            None => found.pass_over(at, NO_VALUE),
        }
    }
    Ok(found.reading)
}

pub(super) fn write(name: &str, value: &str) -> Result<Zeroizing<String>> {
    if value.contains('\n') {
        return Err(Error::Malformed { what: "value for docker-env: it cannot hold a line feed" });
    }
    if value.ends_with('\r') {
        return Err(Error::Malformed { what: "value for docker-env: it cannot end with a carriage return" });
    }
    if name.len() + 1 + value.len() > MAX_LINE {
        return Err(Error::TooLarge { what: "line for docker-env", limit: MAX_LINE });
    }
    Ok(join(&[name, "=", value, "\n"]))
}
