//! What is wrong with a secret: against its declaration, and by what people get wrong.
//!
//! A [`Finding`] says what, where and what to do, and never a value. [`judge`] looks at one value;
//! `Vault::check` at everything that a vault's sources have of a secret.

mod kind;
mod weak;

use zeroize::Zeroizing;

use crate::key::published;
use crate::manifest::{SecretKind, SecretSpec};
use crate::name::SecretName;
use crate::time::Timestamp;

pub use kind::fits;

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Severity {
    /// It does not work, or it protects nothing.
    Failure,
    /// It should be otherwise.
    Warning,
    /// It is as it is, and worth knowing.
    Information,
}

impl Severity {
    /// The name for people and machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Information => "information",
        }
    }
}

/// What was found, for the person who must act. Holds no value.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of finding, for machines. It never changes.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and where.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding of any severity.
    pub fn new(code: &'static str, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, severity, what: what.into(), remedy: remedy.into() }
    }

    /// Something that does not work, or protects nothing.
    pub fn failure(code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, Severity::Failure, what, remedy)
    }

    /// Something that should be otherwise.
    pub fn warning(code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, what, remedy)
    }

    /// The same with the place in front of what is wrong there.
    #[must_use]
    pub fn at(self, place: impl core::fmt::Display) -> Self {
        Self { what: format!("{place}: {}", self.what), ..self }
    }
}

/// Judges the value of a declared secret. Each mistake is one finding: what is behind quotes or
/// white space is judged without them, and a value that stands for no secret at all is not judged
/// further.
#[must_use]
pub fn judge(name: &SecretName, spec: &SecretSpec, value: &[u8]) -> Vec<Finding> {
    if value.is_empty() {
        return vec![empty(name, spec)];
    }
    if spec.kind == SecretKind::Binary {
        return fits(spec, value).into_iter().collect();
    }
    if value.starts_with(b"\xff\xfe") || value.starts_with(b"\xfe\xff") {
        return vec![byte_order_mark()];
    }
    if value.contains(&0) {
        return vec![Finding::failure("nul", "it holds a NUL byte", "write it again as text, in UTF-8")];
    }
    let Ok(text) = core::str::from_utf8(value) else {
        return vec![Finding::failure("not-text", "it is not UTF-8", "write it again, or declare `type = \"binary\"`")];
    };
    let is_pem = matches!(spec.kind, SecretKind::PemPrivateKey | SecretKind::PemPublicKey);
    let (inner, mut findings) = without_surroundings(text, is_pem);
    if inner.is_empty() {
        return vec![empty(name, spec)];
    }
    findings.extend(no_secret(name, spec.kind, inner).or_else(|| fits(spec, inner.as_bytes())).or_else(|| {
        match spec.kind {
            SecretKind::Url => kind::url_password(inner),
            _ => weak::find(spec.kind, inner),
        }
    }));
    findings
}

fn empty(name: &SecretName, spec: &SecretSpec) -> Finding {
    if name.variable().contains("BETTER_AUTH") {
        return Finding::failure(
            "empty-better-auth",
            "it is empty, and Better Auth then signs with its built-in secret, which everybody knows",
            "write a new one into its source: `openssl rand -base64 32`",
        );
    }
    let severity = if spec.required { Severity::Failure } else { Severity::Warning };
    Finding::new("empty", severity, "it is empty", "write the secret into its source")
}

fn byte_order_mark() -> Finding {
    Finding::failure(
        "byte-order-mark",
        "it begins with a byte order mark, which some programs keep and others remove",
        "save it as UTF-8 without a byte order mark",
    )
}

/// The text without a byte order mark, white space and quotes, and what was found of these.
fn without_surroundings(text: &str, is_pem: bool) -> (&str, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut inner = text;
    if let Some(rest) = inner.strip_prefix('\u{feff}') {
        findings.push(byte_order_mark());
        inner = rest;
    }
    let trimmed = inner.trim_matches(is_blank);
    // PEM is read line by line, and white space around it has no meaning.
    if trimmed.len() != inner.len() && !is_pem {
        findings.push(Finding::failure(
            "surrounding-space",
            "white space or a control character stands before or behind it, which some programs keep and others remove",
            "write it without: `printf %s` instead of `echo`, and no space around it",
        ));
    }
    inner = trimmed;
    if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '"' | '\''))
        && let Some(inside) = inner.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
    {
        findings.push(Finding::failure(
            "quoted",
            "it is in quotes, which some programs keep as part of it and others remove",
            "write it without the quotes",
        ));
        inner = inside.trim_matches(is_blank);
    }
    (inner, findings)
}

/// White space in any of the three languages that trim, and what looks like none.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// A text where a secret should be.
fn no_secret(name: &SecretName, kind: SecretKind, text: &str) -> Option<Finding> {
    if is_unexpanded(text) {
        return Some(Finding::failure(
            "unexpanded",
            "it holds a command or variable that a shell should have replaced, and nothing did",
            "run the command, and write what it prints",
        ));
    }
    if published(text.as_bytes()) {
        return Some(public());
    }
    if is_placeholder(name, text) {
        return Some(Finding::failure(
            "placeholder",
            "it stands for a secret that nobody has put there yet",
            "put the secret there: `vault set NAME --generate`, or the one that a provider gave you",
        ));
    }
    if kind != SecretKind::Int && is_date(text) {
        return Some(Finding::failure(
            "date",
            "it is a date, which everybody can guess",
            "make a random one: `openssl rand -hex 32`",
        ));
    }
    None
}

fn public() -> Finding {
    Finding::failure(
        "published",
        "it is a value that applications or guides carry as a default or an example, and everybody knows it",
        "make a new one, such as `openssl rand -hex 32`, and change it wherever it is used",
    )
}

/// `$(command …)`, `` `command` `` or `${NAME}`. Random characters look like none of them.
fn is_unexpanded(text: &str) -> bool {
    let backticks = text.len() > 2 && text.starts_with('`') && text.ends_with('`');
    let behind = |open: &'static str| text.match_indices(open).filter_map(|(at, _)| text.get(at + open.len()..));
    let command = |rest: &str| {
        let word = rest.bytes().take_while(|b| b.is_ascii_lowercase() || b"_./-".contains(b)).count();
        word > 1 && rest.as_bytes().get(word).is_some_and(|b| matches!(b, b' ' | b')')) && rest.contains(')')
    };
    let variable = |rest: &str| {
        let word = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        word > 1 && rest.as_bytes().get(word).is_some_and(|b| matches!(b, b':' | b'-' | b'}')) && rest.contains('}')
    };
    backticks || behind("$(").any(command) || behind("${").any(variable)
}

fn is_placeholder(name: &SecretName, text: &str) -> bool {
    if text.len() > MAX_PLACEHOLDER {
        return false;
    }
    let mut lower = Zeroizing::new(String::with_capacity(text.len()));
    let mut letters = Zeroizing::new(String::with_capacity(text.len()));
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        lower.push(c);
        if !matches!(c, '-' | '_' | ' ' | '.') {
            letters.push(c);
        }
    }
    let own_name = text.eq_ignore_ascii_case(&name.variable()) || text.eq_ignore_ascii_case(name.as_str());
    // `echo "AWS_ACCESS_KEY_ID" > aws_access_key_id.txt`
    let other_name = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && text.rsplit_once('_').is_some_and(|(_, last)| NAMES_END.contains(&last));
    let in_brackets = text.len() > 2 && (text.starts_with('<') && text.ends_with('>') || text.starts_with("{{"));
    let yours = lower.starts_with("your-") || lower.starts_with("your_") || lower.contains("://your-");
    own_name
        || other_name
        || in_brackets
        || yours
        || WHOLE.contains(&lower.as_str())
        || PARTS.iter().any(|part| letters.contains(part))
}

/// Longest placeholder, in bytes.
const MAX_PLACEHOLDER: usize = 512;
/// Last words of the names of variables that hold secrets.
const NAMES_END: [&str; 7] = ["ID", "KEY", "PASSWORD", "SALT", "SECRET", "TOKEN", "URL"];
/// Texts that templates leave where a value is missing, and words that say what belongs there.
const WHOLE: [&str; 13] =
    ["admin", "example", "none", "null", "secret", "tbd", "test", "todo", "undefined", "xxx", "xxxx", "n/a", "key"];
/// Words of placeholders, without what separates them.
const PARTS: [&str; 11] = [
    "changeme",
    "changethis",
    "changeinproduction",
    "fillmein",
    "insertyour",
    "pastegenerated",
    "placeholder",
    "putyour",
    "replaceme",
    "replacethis",
    "replacewith",
];

/// A date, with a time or without, or seconds since 1970: what `date` prints in scripts.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().all(u8::is_ascii_digit);
    if digits && bytes.len() == 10 && text.parse().is_ok_and(|seconds: u64| SECONDS.contains(&seconds)) {
        return true;
    }
    let date = |year: &str, month: &str, day: &str| {
        Timestamp::parse(&format!("{year}-{month}-{day}T00:00:00Z")).is_some_and(|time| time.0 < SECONDS.end)
    };
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let separated = |at: [usize; 2]| at.iter().all(|at| bytes.get(*at).is_some_and(|b| b"-/._".contains(b)));
    let length = if date(part(0, 4), part(4, 6), part(6, 8)) {
        8
    } else if separated([4, 7]) && date(part(0, 4), part(5, 7), part(8, 10))
        || separated([2, 5]) && (date(part(6, 10), part(3, 5), part(0, 2)) || date(part(6, 10), part(0, 2), part(3, 5)))
    {
        10
    } else {
        return false;
    };
    let rest = text.get(length..).unwrap_or_default();
    let time = rest.bytes().filter(u8::is_ascii_digit).count();
    rest.bytes().all(|b| b.is_ascii_digit() || b"TZ :.+-_".contains(&b)) && matches!(time, 0 | 4 | 6 | 10)
}

/// The years 2001 to 2100.
const SECONDS: core::ops::Range<u64> = 1_000_000_000..4_102_444_800;
