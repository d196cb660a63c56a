//! Environment files as the programs that use them read and write them.
//!
//! "A `.env` file" is not one format: the same line means different values to different readers.
//! A [`Dialect`] names one reader, and [`read`] gives what that reader gives, its surprises
//! included. [`write()`] gives a line that its reader reads back to exactly the value, or refuses.
//!
//! Nothing is substituted: `$NAME`, `${NAME}` and `$(command)` are text, and an [`Entry`] says
//! where the dialect's own reader would have put something else. [`read_substituted`] does what
//! python-dotenv does there.

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroizing;

use crate::error::{Error, Place, Result};
use crate::secret::SecretBytes;

mod docker;
mod node;
mod node_env_file;
mod python;
mod shell;

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// The program whose reading of a text counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Dialect {
    /// `docker run --env-file`: `NAME=value` to the end of the line, without quotes or comments
    /// after a value. A value cannot hold a line break.
    Docker,
    /// The npm package `dotenv`, versions 16 to 18, without its option `fast`.
    Node,
    /// `node --env-file` and `util.parseEnv`, since Node 22. Node 20 reads some texts differently,
    /// and what [`write()`] gives alike.
    NodeEnvFile,
    /// python-dotenv 1.2 reading a file in UTF-8, and so pydantic-settings.
    Python,
    /// A file that a POSIX shell sources. Only assignments of literal text are read; a file with
    /// any other statement is refused, because only a shell knows what it does.
    Shell,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 5] = [Self::Docker, Self::Node, Self::NodeEnvFile, Self::Python, Self::Shell];

    /// The name in configuration and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker-env",
            Self::Node => "dotenv-node",
            Self::NodeEnvFile => "node-env-file",
            Self::Python => "dotenv-python",
            Self::Shell => "shell",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.as_str() == name)
            .ok_or(Error::Unsupported { what: "dialect: no dialect of environment files has this name" })
    }
}

/// A variable and its value.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The line of its name, from 1.
    pub line: usize,
    /// `[A-Za-z_][A-Za-z0-9_]*`.
    pub name: String,
    /// Whether the dialect's own reader substitutes variables in it: python-dotenv does where it
    /// finds `${NAME}`, within single quotes too.
    pub substitutes: bool,
    /// The value.
    pub value: SecretBytes,
}

/// A place that the dialect's reader, or this one, passes over without a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PassedOver {
    /// From 1, in characters.
    pub column: usize,
    /// From 1.
    pub line: usize,
    /// Why nothing there becomes an entry.
    pub rule: &'static str,
}

/// What a text holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reading {
    /// In the order of the text. Where a name is there twice, every reader takes the last.
    pub entries: Vec<Entry>,
    /// In the order of the text: names without a value or that are no names of variables, lines
    /// that are no entries, text after a closing quote. Not empty lines and comments.
    ///
    /// Who imports a file should refuse it while this is not empty: python-dotenv takes back an
    /// earlier value where the name is repeated without one, and Docker takes such a name's value
    /// from the environment.
    pub passed_over: Vec<PassedOver>,
}

/// Reads a text as `dialect` does, without substitution.
///
/// # Errors
///
/// [`Error::TooLarge`] past [`MAX_TEXT`]. [`Error::Config`] at a line and column of `.env` where
/// the dialect's reader refuses the whole text, or where only a shell could tell what it means;
/// the caller, who knows the file, puts its path there.
pub fn read(text: &str, dialect: Dialect) -> Result<Reading> {
    if text.len() > MAX_TEXT {
        return Err(Error::TooLarge { what: "environment file", limit: MAX_TEXT });
    }
    match dialect {
        Dialect::Docker => docker::read(text),
        Dialect::Node => Ok(node::read(text)),
        Dialect::NodeEnvFile => Ok(node_env_file::read(text)),
        Dialect::Python => Ok(python::read(text)),
        Dialect::Shell => shell::read(text),
    }
}

/// Reads a text as python-dotenv does, with `${NAME}` and `${NAME:-default}` replaced.
///
/// A name means the value that stands before in the text, else what `environment` has, else the
/// default, else nothing. This is the order of `dotenv_values` and of pydantic-settings;
/// `load_dotenv` asks the environment first.
///
/// # Errors
///
/// [`Error::TooLarge`] past [`MAX_TEXT`], and where substitution makes more than 16 MiB of it.
pub fn read_substituted(text: &str, environment: impl Fn(&str) -> Option<SecretBytes>) -> Result<Reading> {
    if text.len() > MAX_TEXT {
        return Err(Error::TooLarge { what: "environment file", limit: MAX_TEXT });
    }
    python::read_substituted(text, &environment)
}

/// One entry, with the line feed that ends it, which `dialect`'s reader reads back to exactly
/// `value`. Entries may be put one after another.
///
/// # Errors
///
/// [`Error::Malformed`] where `name` is no name, or where the dialect has no spelling of `value`:
/// NUL anywhere; in `docker-env` a line feed or a final carriage return; in `dotenv-node` and
/// `node-env-file` some mixtures of quotes, backslashes and line breaks; in `dotenv-python` what
/// would be substituted, for which there is no escape; in `shell` a name that shells keep for
/// themselves, and for Node's two `__proto__`. [`Error::TooLarge`] for a value that no text within [`MAX_TEXT`] can hold.
pub fn write(name: &str, value: &str, dialect: Dialect) -> Result<SecretBytes> {
    if !is_name(name) {
        return Err(Error::Malformed { what: "name of a variable: letters, digits and _, no digit first" });
    }
    if value.contains('\0') {
        return Err(Error::Malformed { what: "value of a variable: it cannot hold NUL" });
    }
    if value.len() > MAX_TEXT {
        return Err(Error::TooLarge { what: "value of a variable", limit: MAX_TEXT });
    }
    let entry = match dialect {
        Dialect::Docker => docker::write(name, value),
        Dialect::Node => node::write(name, value),
        Dialect::NodeEnvFile => node_env_file::write(name, value),
        Dialect::Python => python::write(name, value),
        Dialect::Shell => shell::write(name, value),
    }?;
    // The rules of each writer are meant to be enough; a secret that is lost cannot be had back.
    let back = read(&entry, dialect)?;
    match back.entries.as_slice() {
        [one] if one.name == name && one.value.expose_secret() == value.as_bytes() && back.passed_over.is_empty() => {
            Ok(SecretBytes::copy_of(entry.as_bytes()))
        }
        _ => Err(Error::Malformed { what: "value of a variable: this dialect reads it back as another" }),
    }
}

/// Why a name that a dialect allows gives no entry.
const NOT_A_NAME: &str = "the name is not letters, digits and _ with no digit first";
/// Why a name gives no entry in dialects where it is passed over.
const NO_VALUE: &str = "not a name and =";
/// Why text has no effect.
const AFTER_QUOTE: &str = "text after the closing quote";

fn is_name(name: &str) -> bool {
    name.bytes().enumerate().all(|(at, b)| b == b'_' || b.is_ascii_alphabetic() || at > 0 && b.is_ascii_digit())
        && !name.is_empty()
}

/// The white space of JavaScript's `\s` and `trim`.
fn is_js_space(c: char) -> bool {
    c == '\u{feff}' || c.is_whitespace() && c != '\u{85}'
}

/// Joins pieces into a buffer that never grows.
fn join(pieces: &[&str]) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
    for piece in pieces {
        all.push_str(piece);
    }
    all
}

/// A copy with `\n` for every `\r\n` and `\r`.
pub(crate) fn with_line_feeds(text: &str) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(text.len()));
    let mut after_return = false;
    for c in text.chars() {
        if c != '\n' || !after_return {
            all.push(if c == '\r' { '\n' } else { c });
        }
        after_return = c == '\r';
    }
    all
}

/// A copy with `short` replaced by `long`, in a buffer that never grows.
fn escape(value: &str, escapes: &[(char, &str)]) -> Zeroizing<String> {
    let escape_of = |c: char| escapes.iter().find(|(plain, _)| *plain == c).map(|(_, escaped)| *escaped);
    let length = value.chars().map(|c| escape_of(c).map_or(c.len_utf8(), str::len)).sum();
    let mut all = Zeroizing::new(String::with_capacity(length));
    for c in value.chars() {
        match escape_of(c) {
            Some(escaped) => all.push_str(escaped),
            None => all.push(c),
        }
    }
    all
}

/// A copy with the two-character escapes `\x` replaced that are listed; every other backslash
/// stands for itself.
fn unescape(value: &str, escapes: &[(char, char)]) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(value.len()));
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        let meant = match rest.clone().next() {
            Some(next) if c == '\\' => escapes.iter().find(|(letter, _)| *letter == next).map(|(_, meant)| *meant),
            _ => None,
        };
        if meant.is_some() {
            rest.next();
        }
        all.push(meant.unwrap_or(c));
    }
    all
}

/// Places in a text as lines and columns. They are asked for in the order of the text.
struct Locator<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Locator<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    fn line_and_column(&mut self, at: usize) -> (usize, usize) {
        for c in part(self.text, self.at, at).chars() {
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.at = self.at.max(at);
        (self.line, self.column)
    }
}

/// Collects what a dialect's reader finds.
struct Collector<'a> {
    locator: Locator<'a>,
    reading: Reading,
}

impl<'a> Collector<'a> {
    fn new(text: &'a str) -> Self {
        Self { locator: Locator::new(text), reading: Reading { entries: Vec::new(), passed_over: Vec::new() } }
    }

    /// An entry with its name at `at`.
    fn entry(&mut self, at: usize, name: &str, value: &[u8], substitutes: bool) {
        if is_name(name) {
            let (line, _) = self.locator.line_and_column(at);
            let (name, value) = (name.to_owned(), SecretBytes::copy_of(value));
            self.reading.entries.push(Entry { line, name, substitutes, value });
        } else {
            self.pass_over(at, NOT_A_NAME);
        }
    }

    fn pass_over(&mut self, at: usize, rule: &'static str) {
        let (line, column) = self.locator.line_and_column(at);
        self.reading.passed_over.push(PassedOver { column, line, rule });
    }

    /// The error for a text that is refused as a whole.
    fn refuse(mut self, at: usize, reason: &str) -> Error {
        let (line, column) = self.locator.line_and_column(at);
        Error::Config { place: Place::at(".env", line, column), reason: reason.to_owned() }
    }
}

/// The bytes from `start` to before `end`, nothing where there are none.
fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
}

/// The bytes from `start`.
fn from(text: &str, start: usize) -> &str {
    text.get(start..).unwrap_or_default()
}

/// Where the characters that `keep` accepts end.
fn skip(text: &str, start: usize, keep: impl Fn(char) -> bool) -> usize {
    let rest = from(text, start);
    start + rest.find(|c| !keep(c)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Dialect, MAX_TEXT, Reading, read, read_substituted, write};
    use crate::error::{Error, Kind};
    use crate::secret::SecretBytes;

    fn pairs(reading: &Reading) -> Vec<(&str, &str)> {
        reading
            .entries
            .iter()
            .map(|entry| (entry.name.as_str(), core::str::from_utf8(entry.value.expose_secret()).unwrap()))
            .collect()
    }

    fn passed_over(reading: &Reading) -> Vec<(usize, usize)> {
        reading.passed_over.iter().map(|place| (place.line, place.column)).collect()
    }

    fn written(name: &str, value: &str, dialect: Dialect) -> String {
        String::from_utf8(write(name, value, dialect).unwrap().expose_secret().to_vec()).unwrap()
    }

    #[test]
    fn names_are_parsed_as_they_are_printed() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
        }
        assert_eq!("dotenv".parse::<Dialect>().unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn one_text_means_five_things() {
        let text = "A='a' # b\nB=a#b\n";
        let of = |dialect| read(text, dialect).map(|reading| format!("{:?}", pairs(&reading)));
        assert_eq!(of(Dialect::Python).unwrap(), r##"[("A", "a"), ("B", "a#b")]"##);
        assert_eq!(of(Dialect::Node).unwrap(), r##"[("A", "a"), ("B", "a")]"##);
        assert_eq!(of(Dialect::NodeEnvFile).unwrap(), r##"[("A", "a"), ("B", "a")]"##);
        assert_eq!(of(Dialect::Docker).unwrap(), r##"[("A", "'a' # b"), ("B", "a#b")]"##);
        assert_eq!(of(Dialect::Shell).unwrap(), r##"[("A", "a"), ("B", "a#b")]"##);
    }

    #[test]
    fn lines_and_columns_are_those_of_the_text() {
        let text = "\n# c\r\nA=\"1\n2\"\r\n\u{e9} B\nC=3\n";
        let reading = read(text, Dialect::Python).unwrap();
        assert_eq!(pairs(&reading), [("A", "1\n2"), ("C", "3")]);
        assert_eq!(reading.entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(passed_over(&reading), [(5, 1)]);
        let reading = read("A=1\n  B-C=2\nD='3' x\n", Dialect::NodeEnvFile).unwrap();
        assert_eq!(passed_over(&reading), [(2, 3), (3, 7)]);
        let reading = read("A=1\n  B\nC=\n=\n", Dialect::Node).unwrap();
        assert_eq!(passed_over(&reading), [(2, 3), (4, 1)]);
    }

    #[test]
    fn what_only_the_whole_program_knows_is_refused_with_its_place() {
        let place = |text, dialect| match read(text, dialect).unwrap_err() {
            Error::Config { place, .. } => place.at.unwrap(),
            other => panic!("{other}"),
        };
        assert_eq!(place("A=1\n B C=2\n", Dialect::Docker), (2, 2));
        assert_eq!(place("A=1\n=2\n", Dialect::Docker), (2, 1));
        assert_eq!(place("A=1\nB=\"x${A}\"\n", Dialect::Shell), (2, 5));
        assert_eq!(place("A=1 make\n", Dialect::Shell), (1, 5));
        assert_eq!(place("if true; then\n", Dialect::Shell), (1, 1));
        assert_eq!(place("A=1\nB='x\n", Dialect::Shell), (2, 3));
        assert_eq!(place("A=1\r\n", Dialect::Shell), (1, 4));
        assert_eq!(place("export UID=1\n", Dialect::Shell), (1, 8));
    }

    #[test]
    fn no_error_and_no_debug_shows_a_value() {
        let secret = "hunter2";
        for dialect in Dialect::ALL {
            for text in ["A='hunter2' x", "hunter2", "A=hunter2", "A=hunter2`", "hunter2 hunter2=", "A='hunter2"] {
                let shown = match read(text, dialect) {
                    Ok(reading) => format!("{reading:?}"),
                    Err(error) => format!("{error:?} {error}"),
                };
                assert!(!shown.contains(secret), "{shown}");
            }
            let shown = format!("{:?}", write("A", "hunter2 '\"`#${A}\r", dialect));
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn the_plainest_spelling_is_written() {
        assert_eq!(written("A", "a $b #c", Dialect::Python), "A='a $b #c'\n");
        assert_eq!(written("A", "it's\\", Dialect::Python), "A='it\\'s\\\\'\n");
        assert_eq!(written("A", "a\r\n", Dialect::Python), "A=\"a\\r\\n\"\n");
        assert_eq!(written("A", "it's", Dialect::Node), "A=\"it's\"\n");
        assert_eq!(written("A", "'\"x", Dialect::Node), "A=`'\"x`\n");
        assert_eq!(written("A", "x'\"`\\", Dialect::Node), "A=x'\"`\\\n");
        assert_eq!(written("A", "it's", Dialect::Shell), "export A='it'\\''s'\n");
        assert_eq!(written("A", " 'a' ", Dialect::Docker), "A= 'a' \n");
    }

    #[test]
    fn what_a_dialect_cannot_hold_is_refused() {
        for dialect in Dialect::ALL {
            for name in ["", "1A", "A B", "A=B", "A.B", "\u{e9}"] {
                assert_eq!(write(name, "x", dialect).unwrap_err().kind(), Kind::Malformed);
            }
            assert_eq!(write("A", "a\0b", dialect).unwrap_err().kind(), Kind::Malformed);
            assert_eq!(write("A", &"x".repeat(MAX_TEXT), dialect).unwrap_err().kind(), Kind::TooLarge);
        }
        for (value, dialect) in [
            ("a\nb", Dialect::Docker),
            ("a\r", Dialect::Docker),
            ("'\"`#", Dialect::Node),
            ("#\\", Dialect::Node),
            ("\r\"", Dialect::Node),
            ("\r\\n", Dialect::Node),
            ("\r", Dialect::NodeEnvFile),
            ("'\"`\n", Dialect::NodeEnvFile),
            ("'\\n`#", Dialect::NodeEnvFile),
            ("a${B}c", Dialect::Python),
            ("${:-x}", Dialect::Python),
        ] {
            assert_eq!(write("A", value, dialect).unwrap_err().kind(), Kind::Malformed, "{value:?} in {dialect}");
        }
        assert!(write("A", "${B:c} ${ $B", Dialect::Python).is_ok());
        assert!(write("UID", "1", Dialect::Shell).is_err());
        assert!(write("__proto__", "1", Dialect::Node).is_err());
    }

    #[test]
    fn a_line_for_docker_ends_before_its_buffer_does() {
        let line = format!("A={}", "x".repeat((64 << 10) - 3));
        assert!(read(&line, Dialect::Docker).is_ok());
        assert!(read(&format!("{line}\n"), Dialect::Docker).is_ok());
        assert!(read(&format!("{line}\r\n"), Dialect::Docker).is_err());
        assert!(read(&format!("{line}x\n"), Dialect::Docker).is_err());
        let longest = "x".repeat((64 << 10) - 3);
        assert!(write("A", &longest, Dialect::Docker).is_ok());
        assert_eq!(write("AB", &longest, Dialect::Docker).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn substitution_asks_the_text_and_then_the_environment() {
        let environment = |name: &str| (name == "E").then(|| SecretBytes::copy_of(b"env"));
        let of = |text| {
            let reading = read_substituted(text, environment).unwrap();
            let last = reading.entries.last().unwrap();
            (String::from_utf8(last.value.expose_secret().to_vec()).unwrap(), last.substitutes)
        };
        assert_eq!(of("A='${E}'"), ("env".to_owned(), true));
        assert_eq!(of("E=text\nA=${E}"), ("text".to_owned(), true));
        assert_eq!(of("E\nA=<${E:-default}>"), ("<>".to_owned(), true));
        assert_eq!(of("A=$E ${N:-a b}\n"), ("$E a b".to_owned(), true));
        assert_eq!(of("A=$E $(date)\n"), ("$E $(date)".to_owned(), false));
        assert!(!read("A=${E", Dialect::Python).unwrap().entries[0].substitutes);
        assert!(read("A='${E}'", Dialect::Python).unwrap().entries[0].substitutes);
        let doubling = "A=x\n".to_owned() + &"A=${A}${A}\n".repeat(60);
        assert_eq!(read_substituted(&doubling, environment).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn no_text_takes_long() {
        for part in ["\n", "=", "=\n", "\u{2028}'a", "${", "${:", "A='\n", "A=\"\\\"x", "A=1;", "A:\n", "'A", "export "]
        {
            let text = part.repeat(MAX_TEXT / 4 / part.len());
            for dialect in Dialect::ALL {
                let started = Instant::now();
                let _ = read(&text, dialect);
                if dialect == Dialect::Python {
                    let _ = read_substituted(&text, |_| None);
                }
                // A fraction of a second, and many where a reader is not linear.
                assert!(started.elapsed().as_secs() < 4, "{part:?} in {dialect}: {:?}", started.elapsed());
            }
        }
    }
}
