//! Files that a POSIX shell sources.

use zeroize::Zeroizing;

use super::{Collector, Reading, from, is_name, join, part, skip};
use crate::error::{Error, Result};

/// Variables that bash or dash set themselves, check or make read-only.
const KEPT: [&str; 29] = [
    "BASHOPTS",
    "BASHPID",
    "BASH_ALIASES",
    "BASH_ARGC",
    "BASH_ARGV",
    "BASH_CMDS",
    "BASH_COMMAND",
    "BASH_LINENO",
    "BASH_SOURCE",
    "BASH_SUBSHELL",
    "BASH_VERSINFO",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "LINENO",
    "OPTIND",
    "PIPESTATUS",
    "PPID",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "UID",
    "_",
];

pub(super) fn read(text: &str) -> Result<Reading> {
    let mut found = Collector::new(text);
    let mut at = 0;
    loop {
        at = skip(text, at, |c| is_blank(c) || c == '\n');
        let rest = from(text, at);
        if rest.is_empty() {
            return Ok(found.reading);
        }
        if rest.starts_with('#') {
            at = skip(text, at, |c| c != '\n');
            continue;
        }
        match assignment(text, at) {
            Ok((name_at, name, value, end)) => {
                found.entry(name_at, name, value.as_bytes(), false);
                at = end;
            }
            Err((at, rule)) => return Err(found.refuse(at, rule)),
        }
    }
}

type Refusal = (usize, &'static str);

/// `[export ]NAME=word` and what may follow on its line: name, value and where it ends.
fn assignment(text: &str, start: usize) -> Result<(usize, &str, Zeroizing<String>, usize), Refusal> {
    let exported = from(text, start).starts_with("export ") || from(text, start).starts_with("export\t");
    let name_at = if exported { skip(text, start + "export ".len(), is_blank) } else { start };
    let equals = skip(text, name_at, |c| c.is_ascii_alphanumeric() || c == '_');
    let name = part(text, name_at, equals);
    if !is_name(name) || !from(text, equals).starts_with('=') {
        return Err((start, "only assignments are read, and this is another statement"));
    }
    if KEPT.contains(&name) {
        return Err((name_at, "shells keep the variable of this name for themselves"));
    }
    let mut length = 0;
    let word_end = word(text, equals + 1, |c| length += c.len_utf8())?;
    let mut value = Zeroizing::new(String::with_capacity(length));
    word(text, equals + 1, |c| value.push(c))?;
    let mut at = skip(text, word_end, is_blank);
    if at > word_end && from(text, at).starts_with('#') {
        at = skip(text, at, |c| c != '\n');
    }
    match from(text, at).chars().next() {
        None | Some('\n') => Ok((name_at, name, value, at)),
        Some(';') => Ok((name_at, name, value, at + 1)),
        Some(_) => Err((at, "only one assignment a line is read, and this is more")),
    }
}

/// A word of literal text in any mixture of quotes: gives its characters, and returns where it
/// ends.
fn word(text: &str, start: usize, mut give: impl FnMut(char)) -> Result<usize, Refusal> {
    let mut chars = from(text, start).char_indices().map(|(offset, c)| (start + offset, c));
    // The quote that is open, and where.
    let mut open: Option<(usize, char)> = None;
    while let Some((at, c)) = chars.next() {
        match (open, c) {
            (_, '\0') => return Err((at, "NUL, which no variable can hold")),
            (Some((_, quote)), _) if c == quote => open = None,
            (Some((_, '\'')), _) => give(c),
            (_, '$' | '`') => return Err((at, "a shell would put something else here")),
            (quoted, '\\') => match (quoted, chars.next()) {
                (_, None) => return Err((at, "a backslash at the end")),
                (Some(_), Some((_, '\n'))) => {}
                (None, Some((_, '\n' | '\0'))) => return Err((at, "a backslash before a line feed or NUL")),
                (Some(_), Some((_, c @ ('$' | '`' | '"' | '\\')))) | (None, Some((_, c))) => give(c),
                (Some(_), Some((_, c))) => {
                    if c == '\0' {
                        return Err((at, "NUL, which no variable can hold"));
                    }
                    give('\\');
                    give(c);
                }
            },
            (Some(_), _) => give(c),
            (None, '\'' | '"') => open = Some((at, c)),
            (None, ' ' | '\t' | '\n' | ';') => return Ok(at),
            (None, _) if is_literal(c) => give(c),
            (None, _) => return Err((at, "a character that needs quotes")),
        }
    }
    match open {
        Some((at, _)) => Err((at, "a quote without an end")),
        None => Ok(text.len()),
    }
}

/// What stands for itself without quotes, in every shell and place.
fn is_literal(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '%' | '+' | ',' | '=' | '^' | ']' | '#' | '!')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

pub(super) fn write(name: &str, value: &str) -> Result<Zeroizing<String>> {
    if KEPT.contains(&name) {
        return Err(Error::Malformed {
            what: "name for a shell: shells keep the variable of this name for themselves",
        });
    }
    Ok(join(&["export ", name, "='", &super::escape(value, &[('\'', "'\\''")]), "'\n"]))
}
