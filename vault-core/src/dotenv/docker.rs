//! `docker run --env-file` (docker/cli, pkg/kvfile).

use zeroize::Zeroizing;

use super::{Collector, NO_VALUE, Reading, join};
use crate::error::{Error, Result};

/// A line that fills the reader's buffer without an end is refused.
const MAX_LINE: usize = (64 << 10) - 1;

pub(super) fn read(text: &str) -> Result<Reading> {
    let mut found = Collector::new(text);
    let mut next = 0;
    while next < text.len() {
        let start = next;
        let whole = super::from(text, start);
        let length = whole.find('\n').unwrap_or(whole.len());
        next = start + length + 1;
        if length > MAX_LINE {
            return Err(found.refuse(start, "Docker refuses a file with a line of more than 65535 bytes"));
        }
        let line = super::part(text, start, start + length);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = if start == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let entry = line.trim_start();
        // Only what stands before the entry was removed, and the return after it.
        let at = start + length - usize::from(whole.get(..length).is_some_and(|l| l.ends_with('\r'))) - entry.len();
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
