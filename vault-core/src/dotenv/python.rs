//! python-dotenv (src/dotenv/parser.py, variables.py).

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{AFTER_QUOTE, Collector, NO_VALUE, Reading, from, join, part, skip, unescape, with_line_feeds};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// Most bytes of all values together: `A=${A}${A}` doubles with each line.
const MAX_SUBSTITUTED: usize = 16 << 20;

pub(super) fn read(text: &str) -> Reading {
    // Python opens the file as text, which makes one kind of line break of all.
    let text = &*with_line_feeds(text);
    let mut found = Collector::new(text);
    for statement in statements(text) {
        match statement {
            Statement::Binding { at, name, value: Some(value) } => {
                found.entry(at, name, value.as_bytes(), pieces(&value).any(|piece| piece.is_variable()));
            }
            Statement::Binding { at, value: None, .. } => found.pass_over(at, NO_VALUE),
            Statement::PassedOver { at, rule } => found.pass_over(at, rule),
        }
    }
    found.reading
}

pub(super) fn read_substituted(text: &str, environment: &dyn Fn(&str) -> Option<SecretBytes>) -> Result<Reading> {
    let text = &*with_line_feeds(text);
    let mut found = Collector::new(text);
    // A name without a value hides that of the environment.
    let mut earlier: BTreeMap<&str, Option<SecretBytes>> = BTreeMap::new();
    let mut total = 0;
    for statement in statements(text) {
        match statement {
            Statement::Binding { at, name, value: Some(value) } => {
                let resolved: Vec<_> = pieces(&value).map(|piece| piece.resolve(&earlier, environment)).collect();
                let length = resolved.iter().map(|piece| piece.as_ref().len()).sum();
                total += length;
                if total > MAX_SUBSTITUTED {
                    return Err(Error::TooLarge {
                        what: "environment file after substitution",
                        limit: MAX_SUBSTITUTED,
                    });
                }
                let mut all = Zeroizing::new(Vec::with_capacity(length));
                for piece in &resolved {
                    all.extend_from_slice(piece.as_ref());
                }
                found.entry(at, name, &all, pieces(&value).any(|piece| piece.is_variable()));
                earlier.insert(name, Some(all.into()));
            }
            Statement::Binding { at, name, value: None } => {
                found.pass_over(at, NO_VALUE);
                earlier.insert(name, None);
            }
            Statement::PassedOver { at, rule } => found.pass_over(at, rule),
        }
    }
    Ok(found.reading)
}

enum Statement<'a> {
    Binding { at: usize, name: &'a str, value: Option<Zeroizing<String>> },
    PassedOver { at: usize, rule: &'static str },
}

fn statements(text: &str) -> impl Iterator<Item = Statement<'_>> {
    let mut reader = Reader { text, at: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 } };
    core::iter::from_fn(move || {
        loop {
            reader.at = skip(text, reader.at, is_space);
            if reader.at == text.len() {
                return None;
            }
            let start = reader.at;
            match reader.binding() {
                Ok(None) => {}
                Ok(Some((at, name, value))) => return Some(Statement::Binding { at, name, value }),
                Err(rule) => {
                    reader.at = skip(text, reader.at, |c| c != '\n');
                    return Some(Statement::PassedOver { at: start, rule });
                }
            }
        }
    })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Binding<'a> = (usize, &'a str, Option<Zeroizing<String>>);

impl<'a> Reader<'a> {
    /// One statement, none for a comment. After an error, the rest of the line is passed over.
    fn binding(&mut self) -> Result<Option<Binding<'a>>, &'static str> {
        if self.rest().starts_with("export") {
            let after = self.at + "export".len();
            let name = skip(self.text, after, is_blank);
            if name > after {
                self.at = name;
            }
        }
        let at = self.at;
        let name = self.name()?;
        self.at = skip(self.text, self.at, is_blank);
        let mut value = None;
        if self.rest().starts_with('=') {
            let after = self.at + 1;
            self.at = skip(self.text, after, is_blank);
            value = Some(if self.at > after && self.rest().starts_with('#') {
                Zeroizing::new(String::new())
            } else {
                self.value()?
            });
        }
        let comment = skip(self.text, self.at, is_blank);
        if from(self.text, comment).starts_with('#') {
            self.at = skip(self.text, comment, |c| c != '\n');
        }
        self.at = skip(self.text, self.at, is_blank);
        if !self.rest().is_empty() && !self.rest().starts_with('\n') {
            return Err(if value.is_some() { AFTER_QUOTE } else { NO_VALUE });
        }
        Ok(name.map(|name| (at, name, value)))
    }

    fn name(&mut self) -> Result<Option<&'a str>, &'static str> {
        if self.rest().starts_with('#') {
            return Ok(None);
        }
        if self.rest().starts_with('\'') {
            let name = self.at + 1;
            let end = skip(self.text, name, |c| c != '\'');
            if end == name || end == self.text.len() {
                return Err("a quoted name without an end");
            }
            self.at = end + 1;
            return Ok(Some(part(self.text, name, end)));
        }
        let name = self.at;
        self.at = skip(self.text, name, |c| !matches!(c, '=' | '#') && !is_space(c));
        if self.at == name { Err("no name") } else { Ok(Some(part(self.text, name, self.at))) }
    }

    fn value(&mut self) -> Result<Zeroizing<String>, &'static str> {
        match self.rest().chars().next() {
            Some('\'') => Ok(unescape(self.quoted('\'')?, &[('\\', '\\'), ('\'', '\'')])),
            Some('"') => Ok(unescape(
                self.quoted('"')?,
                &[
                    ('\\', '\\'),
                    ('\'', '\''),
                    ('"', '"'),
                    ('a', '\x07'),
                    ('b', '\x08'),
                    ('f', '\x0c'),
                    ('n', '\n'),
                    ('r', '\r'),
                    ('t', '\t'),
                    ('v', '\x0b'),
                ],
            )),
            _ => {
                let start = self.at;
                self.at = skip(self.text, start, |c| c != '\n');
                let line = part(self.text, start, self.at);
                let comment = line.match_indices('#').find(|(at, _)| part(line, 0, *at).ends_with(is_space));
                let value = comment.map_or(line, |(at, _)| part(line, 0, at));
                Ok(Zeroizing::new(value.trim_end_matches(is_space).to_owned()))
            }
        }
    }

    /// What stands between quotes. A backslash always takes the character after it with it.
    fn quoted(&mut self, quote: char) -> Result<&'a str, &'static str> {
        let start = self.at + 1;
        let mut escaped = false;
        for (offset, c) in from(self.text, start).char_indices() {
            if c == quote && !escaped {
                self.at = start + offset + 1;
                return Ok(part(self.text, start, start + offset));
            }
            escaped = c == '\\' && !escaped;
        }
        Err("a quoted value without an end")
    }

    fn rest(&self) -> &'a str {
        from(self.text, self.at)
    }
}

/// A piece of a value: text, or `${name}` and `${name:-default}`.
enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
}

/// A piece's bytes.
enum Resolved<'a> {
    Borrowed(&'a [u8]),
    Owned(SecretBytes),
}

impl AsRef<[u8]> for Resolved<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes.expose_secret(),
        }
    }
}

impl<'a> Piece<'a> {
    fn is_variable(&self) -> bool {
        matches!(self, Self::Variable { .. })
    }

    fn resolve<'b>(
        &self,
        earlier: &'b BTreeMap<&str, Option<SecretBytes>>,
        environment: &dyn Fn(&str) -> Option<SecretBytes>,
    ) -> Resolved<'b>
    where
        'a: 'b,
    {
        match *self {
            Self::Text(text) => Resolved::Borrowed(text.as_bytes()),
            Self::Variable { name, default } => match earlier.get(name) {
                Some(Some(value)) => Resolved::Borrowed(value.expose_secret()),
                Some(None) => Resolved::Borrowed(&[]),
                None => environment(name)
                    .map_or(Resolved::Borrowed(default.unwrap_or_default().as_bytes()), Resolved::Owned),
            },
        }
    }
}

fn pieces(value: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    let mut waiting = None;
    core::iter::from_fn(move || {
        if let Some(piece) = waiting.take() {
            return Some(piece);
        }
        let start = at;
        let (found, piece, end) = match next_variable(value, start) {
            Some((found, piece, end)) => (found, Some(piece), end),
            None => (value.len(), None, value.len()),
        };
        at = end;
        if found > start {
            waiting = piece;
            return Some(Piece::Text(part(value, start, found)));
        }
        piece
    })
}

/// The next `${[^}:]*(:-[^}]*)?}`: where it starts, what it is and where it ends.
fn next_variable(value: &str, start: usize) -> Option<(usize, Piece<'_>, usize)> {
    let mut at = start;
    loop {
        let found = at + from(value, at).find("${")?;
        let name = found + 2;
        let name_end = skip(value, name, |c| !matches!(c, '}' | ':'));
        let rest = from(value, name_end);
        if rest.starts_with('}') {
            return Some((found, Piece::Variable { name: part(value, name, name_end), default: None }, name_end + 1));
        }
        if rest.starts_with(":-") {
            // Without a closing brace after it, there is none for any later one either.
            let end = name_end + rest.find('}')?;
            let default = Some(part(value, name_end + 2, end));
            return Some((found, Piece::Variable { name: part(value, name, name_end), default }, end + 1));
        }
        at = name_end;
    }
}

/// `\s` and `str.rstrip` of Python.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

pub(super) fn write(name: &str, value: &str) -> Result<Zeroizing<String>> {
    if pieces(value).any(|piece| piece.is_variable()) {
        return Err(Error::Malformed { what: "value for dotenv-python: ${…} in it would be substituted" });
    }
    if value.contains(['\n', '\r']) {
        let value = super::escape(value, &[('\\', "\\\\"), ('"', "\\\""), ('\n', "\\n"), ('\r', "\\r")]);
        Ok(join(&[name, "=\"", &value, "\"\n"]))
    } else {
        let value = super::escape(value, &[('\\', "\\\\"), ('\'', "\\'")]);
        Ok(join(&[name, "='", &value, "'\n"]))
    }
}
