//! What is wrong with a secret: against its declaration, and by what people get wrong.
//!
//! A [`Finding`] says what, where and what to do, and never a value. [`judge`] looks at one value;
//! `Vault::check` at everything that a vault's sources have of a secret.

mod kind;
mod placeholder;
mod weak;

use crate::manifest::{SecretKind, SecretSpec};
use crate::name::SecretName;

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
    let is_pem = spec.kind.is_pem();
    let (inner, mut findings) = without_surroundings(text, is_pem);
    if inner.is_empty() {
        return vec![empty(name, spec)];
    }
    findings.extend(placeholder::no_secret(name, spec.kind, inner).or_else(|| fits(spec, inner.as_bytes())).or_else(
        || match spec.kind {
            SecretKind::Url => kind::url_password(inner),
            _ => weak::find(spec.kind, inner).or_else(|| short(name, spec, inner)).or_else(|| damaged(inner)),
        },
    ));
    findings
}

fn empty(name: &SecretName, spec: &SecretSpec) -> Finding {
    if name.folded().contains("BETTER_AUTH") {
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
    let inside = QUOTES.iter().find_map(|(open, close)| inner.strip_prefix(*open)?.strip_suffix(*close));
    if let Some(inside) = inside {
        findings.push(Finding::failure(
            "quoted",
            "it is in quotes, which some programs keep as part of it and others remove",
            "write it without the quotes",
        ));
        inner = inside.trim_matches(is_blank);
    }
    (inner, findings)
}

/// Quotes of programs, and those that word processors and chats put in their place.
const QUOTES: [(char, char); 6] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('„', '“'), ('«', '»')];

/// White space in any of the three languages that trim, and what looks like none.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || is_invisible(c)
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}

/// What is short enough to be tried, by what its name says that it is. Who declares a length has
/// thought about it.
fn short(name: &SecretName, spec: &SecretSpec, text: &str) -> Option<Finding> {
    let variable = name.folded();
    if spec.kind != SecretKind::Text || spec.min_length.is_some() || spec.bytes.is_some() {
        return None;
    }
    let length = text.len();
    // RFC 7518, 3.2: a key of HMAC is as long as its hash.
    let signs = variable.contains("JWT") && (variable.contains("SECRET") || variable.ends_with("KEY"));
    let (code, what) = if signs && length < 32 {
        ("short-jwt-secret", format!("it has {length} bytes, and a key that signs with HS256 has at least 32"))
    } else if length < 8 && SECRET_NAMES.iter().any(|end| variable.ends_with(end)) {
        ("short-secret", format!("it has {length} bytes, so few that all can be tried"))
    } else {
        return None;
    };
    Some(Finding::warning(code, what, "make a longer one: `openssl rand -hex 32`, or declare its `min_length`"))
}

/// How names end of what nobody may guess.
const SECRET_NAMES: [&str; 5] = ["PASSPHRASE", "PASSWORD", "SECRET", "SECRET_KEY", "TOKEN"];

/// What copying by hand puts inside.
fn damaged(text: &str) -> Option<Finding> {
    let odd = |c: char| {
        is_invisible(c) || c.is_control() && !matches!(c, '\n' | '\r' | '\t') || c.is_whitespace() && !c.is_ascii()
    };
    if text.contains(odd) {
        return Some(Finding::warning(
            "invisible-character",
            "a character that nobody sees stands inside it, as copying from a page or a chat puts there",
            "copy it again, from where it was made",
        ));
    }
    text.ends_with("\\n").then(|| {
        Finding::warning(
            "escaped-line-break",
            "it ends with \\n as two characters, which `echo` or an editor left there",
            "write it without them, if they are no part of it",
        )
    })
}
