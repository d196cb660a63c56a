//! Who wins, what is removed, and what an application says: one row of [`rules`] for each preset.
//!
//! A preset never supplies an application's built-in default. Where one is wanted, `default` in
//! `vault.toml` states it, and [`Note::Default`] tells.

use std::io;

use zeroize::Zeroizing;

use crate::dotenv::with_line_feeds;
use crate::error::{Error, Place, Result};
use crate::key::Trim;
use crate::manifest::{Preset, SecretKind};
use crate::name::SecretName;
use crate::secret::SecretBytes;

use super::file_variable;
use super::source::{Lookup, Note, Source, is_absence};

/// How one application finds and reads a secret.
pub(super) struct Rules {
    pub(super) preset: Preset,
    /// The places in the order in which they are asked. The store is ours and not the
    /// application's: it has what the application's own places do not.
    pub(super) order: &'static [Lookup],
    /// `NAME` beside `NAME_FILE` is refused.
    pub(super) exclusive: bool,
    /// An empty variable is a value, and not the same as none.
    pub(super) empty_variable: bool,
    /// Names of variables and files match in any case.
    pub(super) any_case: bool,
    /// Files that exist or are named and are passed over nevertheless.
    passes_over: &'static [Broken],
    reads: Reader,
    file: Strip,
    variable: Strip,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Broken {
    Missing,
    NoFile,
    Unreadable,
}

/// What makes text of bytes.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Reader {
    /// U+FFFD for what is no UTF-8.
    Node,
    /// An error for what is no UTF-8; one kind of line break in files.
    Python,
    /// Bytes as they are, but files lose NUL.
    Shell,
    /// Whether it is text depends on the declared type.
    Strict,
}

/// What is removed from a value.
#[derive(Clone, Copy)]
enum Strip {
    /// White space, then `"`, then `'`.
    Flowfile,
    /// White space as `trim()` of JavaScript has it.
    JavaScript,
    /// All trailing line feeds, as `$(< file)` removes them.
    LineFeeds,
    Nothing,
    /// White space as `str.strip()` of Python has it.
    Python,
}

/// Why an application refuses.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// `NAME` and `NAME_FILE` are both set.
    Both,
    /// No place has it, and it is required.
    Missing,
    /// What the place has is no key, or no number where the type says one.
    Wrong(Lookup),
    /// What the place has cannot be read.
    Unreadable(Lookup),
}

pub(super) fn rules(preset: Preset) -> Rules {
    use Lookup::{Credential, Declared, EnvironmentFile, Mount, NamedFile, OsKeyring, StackMount, Store, Variable};

    let strict = Rules {
        preset,
        // To ask the OS keyring can put a question on somebody's screen: last, and only where declared.
        order: &[Declared, NamedFile, Credential, Mount, StackMount, Store, Variable, OsKeyring],
        exclusive: true,
        empty_variable: false,
        any_case: false,
        passes_over: &[],
        reads: Reader::Strict,
        file: Strip::Nothing,
        variable: Strip::Nothing,
    };
    let application = Rules { exclusive: false, ..strict };
    match preset {
        Preset::Strict => strict,
        Preset::DockerLibrary => Rules {
            order: &[Declared, Variable, NamedFile, Store, OsKeyring],
            exclusive: true,
            reads: Reader::Shell,
            file: Strip::LineFeeds,
            ..application
        },
        Preset::Face => Rules { order: &[Declared, Variable, Store, OsKeyring], reads: Reader::Python, ..application },
        Preset::FlowfileCore => Rules {
            order: &[Declared, Variable, Mount, Store, OsKeyring],
            passes_over: &[Broken::Missing, Broken::NoFile],
            reads: Reader::Python,
            file: Strip::Python,
            variable: Strip::Flowfile,
            ..application
        },
        Preset::FlowfileWorker => Rules {
            order: &[Declared, Variable, Mount, Store, OsKeyring],
            passes_over: &[Broken::Missing],
            reads: Reader::Python,
            file: Strip::Python,
            ..application
        },
        Preset::Pydantic => Rules {
            order: &[Declared, Variable, EnvironmentFile, Mount, Store, OsKeyring],
            empty_variable: true,
            any_case: true,
            passes_over: &[Broken::Missing, Broken::NoFile],
            reads: Reader::Python,
            file: Strip::Python,
            ..application
        },
        Preset::Raqeem => Rules {
            order: &[Declared, NamedFile, Variable, Store, OsKeyring],
            reads: Reader::Node,
            file: Strip::JavaScript,
            ..application
        },
        Preset::SocialPublisher => Rules {
            order: &[Declared, NamedFile, Variable, Store, OsKeyring],
            empty_variable: true,
            passes_over: &[Broken::Missing, Broken::NoFile, Broken::Unreadable],
            reads: Reader::Node,
            file: Strip::JavaScript,
            ..application
        },
    }
}

impl Rules {
    pub(super) fn is_strict(&self) -> bool {
        self.preset == Preset::Strict
    }

    /// Whether the application looks further where this place fails.
    pub(super) fn passes_over(&self, place: Lookup, error: &Error) -> bool {
        let broken = match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => Broken::NoFile,
            Error::Io { source, .. } if is_absence(source) => Broken::Missing,
            Error::Io { .. } | Error::Oversized { .. } => Broken::Unreadable,
            _ => return false,
        };
        matches!(place, Lookup::EnvironmentFile | Lookup::Mount | Lookup::NamedFile)
            && self.passes_over.contains(&broken)
    }

    /// The error in the application's words, where it has some.
    pub(super) fn say(&self, refusal: Refusal, name: &SecretName, error: Error) -> Error {
        match self.words(refusal, name) {
            Some(text) => Error::Preset {
                text,
                kind: error.kind(),
                detail: format!("this is what the application says by preset {}; here: {error}", self.preset),
            },
            None => error,
        }
    }

    fn words(&self, refusal: Refusal, name: &SecretName) -> Option<String> {
        let variable = name.folded();
        match (self.preset, refusal) {
            (Preset::DockerLibrary, Refusal::Both) => {
                Some(format!("both {variable} and {} are set (but are exclusive)", file_variable(&variable)))
            }
            (Preset::Face, Refusal::Missing) if variable == "DB_ENCRYPTION_KEY" => Some(format!(
                "{variable} environment variable is required. For production, use a cryptographically secure 32+ character key."
            )),
            (Preset::FlowfileCore | Preset::FlowfileWorker, Refusal::Wrong(Lookup::Variable)) => {
                Some(format!("{variable} is not a valid Fernet key"))
            }
            (Preset::FlowfileCore, Refusal::Wrong(Lookup::Mount) | Refusal::Unreadable(Lookup::Mount))
                if variable == FLOWFILE_KEY =>
            {
                Some("Failed to read master key from Docker secret".to_owned())
            }
            (Preset::FlowfileCore, Refusal::Missing) if variable == FLOWFILE_KEY => Some(format!(
                "Master key not configured. Set {variable} environment variable or mount the {} Docker secret.",
                name.file_name()
            )),
            (Preset::Pydantic, Refusal::Unreadable(Lookup::Mount)) => Some(format!(
                "error getting value for field \"{}\" from source \"SecretsSettingsSource\"",
                name.file_name()
            )),
            (Preset::Pydantic, Refusal::Wrong(_)) => Some(
                "Input should be a valid integer, unable to parse string as an integer. \
                 For further information visit https://errors.pydantic.dev/2.5/v/int_parsing"
                    .to_owned(),
            ),
            (Preset::Raqeem, Refusal::Unreadable(Lookup::NamedFile)) => {
                Some(format!("Failed to read secret from file: {}", file_variable(&variable)))
            }
            (Preset::Raqeem, Refusal::Missing) => {
                Some(format!("Secret not found: {variable} or {}", file_variable(&variable)))
            }
            (Preset::SocialPublisher, Refusal::Missing) => {
                Some(format!("Required secret '{variable}' is not configured"))
            }
            _ => None,
        }
    }

    /// What the application makes of the bytes that a place has.
    pub(super) fn read(
        &self,
        name: &SecretName,
        kind: SecretKind,
        place: Lookup,
        source: &Source,
        bytes: &SecretBytes,
    ) -> Result<(SecretBytes, Option<Note>)> {
        let from_file = !matches!(place, Lookup::EnvironmentFile | Lookup::Variable);
        let strip = match (place, from_file) {
            (Lookup::EnvironmentFile, _) => Strip::Nothing,
            (_, true) => self.file,
            (_, false) => self.variable,
        };
        let bytes = bytes.expose_secret();
        let wrong = |reason: &str| Error::Config { place: Place::file(source.to_string()), reason: reason.to_owned() };
        let (text, note): (Zeroizing<Vec<u8>>, _) = match self.reads {
            Reader::Node => replaced(bytes),
            Reader::Python => {
                let text = core::str::from_utf8(bytes)
                    .map_err(|_| self.say(Refusal::Unreadable(place), name, wrong("it is not UTF-8")))?;
                let text = if from_file { with_line_feeds(text) } else { Zeroizing::new(text.to_owned()) };
                (Zeroizing::new(text.as_bytes().to_vec()), None)
            }
            Reader::Shell if from_file => {
                let mut kept = Zeroizing::new(Vec::with_capacity(bytes.len()));
                kept.extend(bytes.iter().filter(|b| **b != 0));
                (kept, None)
            }
            Reader::Shell | Reader::Strict => (Zeroizing::new(bytes.to_vec()), None),
        };
        let value = strip.apply(&text);
        let is_key = kind == SecretKind::FernetKey || name.folded() == FLOWFILE_KEY;
        let reason = match self.preset {
            Preset::FlowfileCore | Preset::FlowfileWorker if is_key && !is_fernet_key(value) => {
                Some("it is not base64 of 32 bytes")
            }
            Preset::Pydantic if kind == SecretKind::Int && !is_int(value) => Some("it is not a whole number"),
            _ => None,
        };
        match reason {
            Some(reason) => Err(self.say(Refusal::Wrong(place), name, wrong(reason))),
            None => Ok((SecretBytes::copy_of(value), note)),
        }
    }
}

impl Strip {
    fn apply(self, bytes: &[u8]) -> &[u8] {
        let text = |strip: fn(&str) -> &str| core::str::from_utf8(bytes).map_or(bytes, |text| strip(text).as_bytes());
        match self {
            Self::Flowfile => text(|text| Trim::Python.apply(text).trim_matches('"').trim_matches('\'')),
            Self::JavaScript => text(js_trim),
            Self::LineFeeds => {
                let kept = bytes.iter().rposition(|b| *b != b'\n').map_or(0, |last| last + 1);
                bytes.get(..kept).unwrap_or_default()
            }
            Self::Nothing => bytes,
            Self::Python => text(|text| Trim::Python.apply(text)),
        }
    }
}

/// `trim()` of JavaScript: the white space of Unicode without U+0085, and U+FEFF.
fn js_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() && c != '\u{85}' || c == '\u{feff}')
}

/// Text as Node decodes it, in a buffer that never grows.
fn replaced(bytes: &[u8]) -> (Zeroizing<Vec<u8>>, Option<Note>) {
    let mark = |invalid: &[u8]| if invalid.is_empty() { "" } else { "\u{fffd}" };
    let length = bytes.utf8_chunks().map(|chunk| chunk.valid().len() + mark(chunk.invalid()).len()).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend_from_slice(mark(chunk.invalid()).as_bytes());
    }
    let note = core::str::from_utf8(bytes).is_err().then_some(Note::Replaced);
    (text, note)
}

/// Whether `Fernet(text)` of Python's cryptography succeeds: its decoder passes over what is not of
/// the alphabet, and reads to the first complete padding.
fn is_fernet_key(text: &[u8]) -> bool {
    let (mut digits, mut padding) = (0_usize, 0);
    for b in text {
        match b {
            b'=' => {
                padding += 1;
                if digits % 4 >= 2 && digits % 4 + padding >= 4 {
                    return digits * 6 / 8 == 32;
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'-' | b'_' => {
                digits += 1;
                padding = 0;
            }
            _ => {}
        }
    }
    digits % 4 == 0 && digits * 6 / 8 == 32
}

/// Whether pydantic reads it as a whole number. It removes no white space.
fn is_int(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// The variable of Flowfile's master key, the only secret that it finds by rules of its own.
const FLOWFILE_KEY: &str = "FLOWFILE_MASTER_KEY";

#[cfg(test)]
mod tests {
    use super::*;

    /// The code points of APPS.md 0.2, and their neighbours.
    #[test]
    fn white_space_is_what_each_language_says() {
        let both = [
            '\t', '\n', '\u{b}', '\u{c}', '\r', ' ', '\u{a0}', '\u{1680}', '\u{2028}', '\u{2029}', '\u{202f}',
            '\u{205f}', '\u{3000}',
        ]
        .into_iter()
        .chain('\u{2000}'..='\u{200a}');
        let both: Vec<char> = both.collect();
        for c in '\0'..=char::MAX {
            let python = both.contains(&c) || ('\u{1c}'..='\u{1f}').contains(&c) || c == '\u{85}';
            let javascript = both.contains(&c) || c == '\u{feff}';
            let text = c.to_string();
            assert_eq!(Strip::Python.apply(text.as_bytes()).is_empty(), python, "Python U+{:04X}", u32::from(c));
            assert_eq!(Strip::JavaScript.apply(text.as_bytes()).is_empty(), javascript, "JS U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn quotes_and_line_feeds_are_stripped_as_their_programs_do() {
        for (strip, text, expected) in [
            (Strip::Flowfile, " \"'a'\"\r\n", "a"),
            (Strip::Flowfile, "'\"a\"'", "\"a\""),
            (Strip::Flowfile, "\" a \"", " a "),
            (Strip::LineFeeds, "a\r\n\n\n", "a\r"),
            (Strip::LineFeeds, "\n\n", ""),
            (Strip::LineFeeds, "", ""),
            (Strip::Nothing, " a\n", " a\n"),
        ] {
            assert_eq!(strip.apply(text.as_bytes()), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn fernet_keys_are_read_as_loosely_as_python_reads_them() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        for good in
            [key, &format!("{key} # prod"), &format!("\u{feff}{key}"), &key.replace("Bg", "B!g"), &format!("{key}AAAA")]
        {
            assert!(is_fernet_key(good.as_bytes()), "{good}");
        }
        for bad in ["", " ", "=", key.trim_end_matches('='), &"0".repeat(64), &"a".repeat(32), &format!("A{key}")] {
            assert!(!is_fernet_key(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn what_is_no_utf8_is_replaced_as_node_does() {
        for (bytes, expected) in [
            (&b"v\xffa"[..], "v\u{fffd}a"),
            (b"\xf0\x9f\x92", "\u{fffd}"),
            (b"\xe2\x28\xa1", "\u{fffd}(\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let (text, note) = replaced(bytes);
            assert_eq!((&**text, note), (expected.as_bytes(), Some(Note::Replaced)));
        }
        assert_eq!(replaced("é".as_bytes()).1, None);
    }
}
