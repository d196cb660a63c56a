//! Texts that stand where a secret should be, and are none.

use zeroize::Zeroizing;

use crate::key::published;
use crate::manifest::SecretKind;
use crate::name::SecretName;
use crate::time::Timestamp;

use super::Finding;

/// A text where a secret should be.
pub(super) fn no_secret(name: &SecretName, kind: SecretKind, text: &str) -> Option<Finding> {
    if is_unexpanded(text) {
        return Some(unexpanded());
    }
    if is_reference(text) {
        return Some(Finding::failure(
            "reference",
            "it says where the secret is, and nothing has fetched it from there",
            format!("write the secret itself; the path of a file goes into {}_FILE", name.variable()),
        ));
    }
    if MESSAGES.iter().any(|end| text.ends_with(end)) {
        return Some(Finding::failure(
            "message",
            "it is what a program told when it failed, and no secret",
            "run the command that makes the secret again, and look at what it prints",
        ));
    }
    if is_assignment(name, text) {
        return Some(Finding::failure(
            "assignment",
            "its own name and = stand before it, as in an environment file",
            "write only what stands behind the =",
        ));
    }
    let may_be_common = kind == SecretKind::Int || OPEN_NAMES.iter().any(|end| name.folded().ends_with(end));
    if published(text.as_bytes()) || !may_be_common && is_common(text) {
        return Some(public());
    }
    if is_own_name(name, text) || is_placeholder(text) {
        return Some(placeholder());
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

pub(super) fn public() -> Finding {
    Finding::failure(
        "published",
        "it is a value that applications or guides carry as a default or an example, and everybody knows it",
        "make a new one, such as `openssl rand -hex 32`, and change it wherever it is used",
    )
}

pub(super) fn unexpanded() -> Finding {
    Finding::failure(
        "unexpanded",
        "it holds a command or variable that a shell should have replaced, and nothing did",
        "run the command, and write what it prints",
    )
}

pub(super) fn placeholder() -> Finding {
    Finding::failure(
        "placeholder",
        "it stands for a secret that nobody has put there yet",
        "put the secret there: `vault set NAME --generate`, or the one that a provider gave you",
    )
}

pub(super) fn is_common(text: &str) -> bool {
    COMMON.iter().any(|common| text.eq_ignore_ascii_case(common))
}

/// Passwords that are tried first, and those that servers are delivered with.
const COMMON: [&str; 32] = [
    "1234",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "admin",
    "admin123",
    "changeit",
    "default",
    "foobared",
    "guest",
    "hunter2",
    "insecure",
    "letmein",
    "minioadmin",
    "my-secret-key",
    "mysecret",
    "mysecretkey",
    "p@ssw0rd",
    "pass",
    "passw0rd",
    "password1",
    "password123",
    "postgres",
    "qwerty",
    "root",
    "secret123",
    "supersecret",
    "test",
    "toor",
];

/// How names end of what is delivered with secrets and is none.
const OPEN_NAMES: [&str; 6] = ["DATABASE", "DB", "HOST", "NAME", "SCHEMA", "USER"];

/// A path where secrets are mounted, or the address of one in another vault.
fn is_reference(text: &str) -> bool {
    !text.contains(char::is_whitespace) && REFERENCES.iter().any(|start| text.starts_with(start))
}

const REFERENCES: [&str; 11] = [
    "/run/secrets/",
    "/var/run/secrets/",
    "ENC[",
    "arn:aws:secretsmanager:",
    "arn:aws:ssm:",
    "file:///run/secrets/",
    "gcpsm://",
    "op://",
    "ref+",
    "sm://",
    "vault:secret/",
];

/// How messages end that a script wrote where the secret belongs.
const MESSAGES: [&str; 4] =
    [": No such file or directory", ": Permission denied", ": command not found", ": not found"];

/// `NAME=value`, with `export` before it or without.
fn is_assignment(name: &SecretName, text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
    let variable = name.folded();
    let behind = text.get(..variable.len()).filter(|start| start.eq_ignore_ascii_case(&variable));
    behind.and(text.get(variable.len()..)).is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// `$(command …)`, `` `command` ``, `${NAME}` or nothing but `$NAME`. Random characters look like none of them.
pub(super) fn is_unexpanded(text: &str) -> bool {
    let backticks = text.len() > 2 && text.starts_with('`') && text.ends_with('`');
    let behind = |open: &'static str| text.match_indices(open).filter_map(|(at, _)| text.get(at + open.len()..));
    let command = |rest: &str| {
        let rest = rest.strip_prefix('<').unwrap_or(rest).trim_start();
        let word = rest.bytes().take_while(|b| b.is_ascii_lowercase() || b"_./-".contains(b)).count();
        word > 1 && rest.as_bytes().get(word).is_some_and(|b| matches!(b, b' ' | b')')) && rest.contains(')')
    };
    let variable = |rest: &str| {
        let word = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        word > 1 && rest.as_bytes().get(word).is_some_and(|b| matches!(b, b':' | b'-' | b'}')) && rest.contains('}')
    };
    let whole = text.strip_prefix('$').is_some_and(|name| name.len() > 2 && is_variable(name));
    whole || backticks || behind("$(").any(command) || behind("${").any(variable)
}

/// Upper-case letters, digits and `_`, as in `DB_PASSWORD`.
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn is_own_name(name: &SecretName, text: &str) -> bool {
    text.eq_ignore_ascii_case(&name.folded()) || text.eq_ignore_ascii_case(name.as_str())
}

pub(super) fn is_placeholder(text: &str) -> bool {
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
    // `echo "AWS_ACCESS_KEY_ID" > aws_access_key_id.txt`
    let other_name = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && text.rsplit_once('_').is_some_and(|(_, last)| NAMES_END.contains(&last));
    let within = |(open, close): &(&str, &str)| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let word = |inside: &str| {
        inside.starts_with(|c: char| c.is_ascii_alphabetic())
            && inside.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-".contains(&b))
    };
    let in_brackets = text.len() > 2
        && (text.starts_with('<') && text.ends_with('>') || text.starts_with("{{") && text.contains("}}"))
        || FRAMES.iter().filter_map(within).any(word);
    let blotted = text.chars().all(|c| matches!(c, '*' | '•' | '.' | '?' | 'x' | 'X' | '-' | '_'));
    let yours = ["your-", "your_", "your "].iter().any(|start| lower.starts_with(start))
        || letters.starts_with("yourpassword")
        || letters.starts_with("yoursecret")
        || lower.contains("://your-");
    other_name
        || in_brackets
        || blotted
        || yours
        || WHOLE.contains(&lower.as_str())
        || PARTS.iter().any(|part| letters.contains(part))
}

/// Longest placeholder, in bytes.
const MAX_PLACEHOLDER: usize = 512;
/// Last words of the names of variables that hold secrets.
const NAMES_END: [&str; 7] = ["ID", "KEY", "PASSWORD", "SALT", "SECRET", "TOKEN", "URL"];
/// What templates put around a name.
const FRAMES: [(&str, &str); 5] = [("%", "%"), ("@@", "@@"), ("[", "]"), ("#{", "}#"), ("__", "__")];
/// Texts that templates leave where a value is missing, and words that say what belongs there.
const WHOLE: [&str; 16] = [
    "[object object]",
    "dummy",
    "example",
    "fixme",
    "key",
    "n/a",
    "nan",
    "none",
    "null",
    "redacted",
    "sample",
    "secret",
    "tbc",
    "tbd",
    "todo",
    "undefined",
];
/// Words of placeholders, without what separates them.
const PARTS: [&str; 16] = [
    "addyour",
    "changeme",
    "changethis",
    "changeinproduction",
    "enteryour",
    "fillmein",
    "insertkey",
    "insertyour",
    "pastegenerated",
    "placeholder",
    "putyour",
    "replaceme",
    "replacethis",
    "replacewith",
    "tobereplaced",
    "xxxxxxxx",
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
