//! The forms in which a program that means well prints a secret.

use zeroize::Zeroizing;

use super::mask::SHORTEST;

/// The value as it is, without white space around it, each of its lines, the password of a URL, and
/// each of these as JSON and as percent-encoding write it; none that is too short.
pub(super) fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let whole = value.trim_ascii();
    let mut plain: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let without_break = value.strip_suffix(b"\n").map_or(value, |value| value.strip_suffix(b"\r").unwrap_or(value));
    plain.push(Zeroizing::new(without_break.to_vec()));
    plain.push(Zeroizing::new(whole.to_vec()));
    if whole.contains(&b'\n') {
        let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        plain.extend(lines.filter(|line| !line.starts_with(PEM_FRAME)).map(|line| Zeroizing::new(line.to_vec())));
    }
    plain.extend(passwords(whole));
    let mut forms = Vec::new();
    for form in plain.into_iter().filter(|form| form.len() >= SHORTEST) {
        if form.len() <= LONGEST_ENCODED {
            forms.extend(json(&form));
            // Some functions keep the slash.
            forms.extend(["/", ""].map(|kept| percent_encoded(&form, kept.as_bytes())));
        }
        forms.push(form);
    }
    forms
}

/// The password in a URL, as it stands there and as a program reads it.
fn passwords(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let Ok(text) = core::str::from_utf8(value) else { return Vec::new() };
    let Some((_, rest)) = text.split_once("://") else { return Vec::new() };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold any of these raw.
    let logins = [address, rest, address.split('/').next().unwrap_or_default()];
    let logins = logins.into_iter().filter_map(|place| Some(place.rsplit_once('@')?.0.split_once(':')?.1));
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    let parameters = parameters.filter(|(name, _)| name.to_ascii_lowercase().contains("password"));
    logins
        .chain(parameters.map(|(_, password)| password))
        .flat_map(|password| [Zeroizing::new(password.as_bytes().to_vec()), percent_decoded(password.as_bytes())])
        .collect()
}

/// As the inside of a text in JSON, with and without escapes for what is not ASCII; Python's and
/// JavaScript's own notations differ from it in what few secrets hold.
fn json(form: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(serde_json::to_string(core::str::from_utf8(form).ok()?).ok()?);
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(Zeroizing::new(inside.as_bytes().to_vec()))
}

fn percent_encoded(form: &[u8], kept: &[u8]) -> Zeroizing<Vec<u8>> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    let mut encoded = Zeroizing::new(Vec::with_capacity(form.len() * 3));
    for byte in form {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

fn percent_decoded(form: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(form.len()));
    let mut rest = form;
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}

/// The first and the last line of PEM are not secret.
const PEM_FRAME: &[u8] = b"-----";
/// Longer values are looked for as they are alone: each form takes memory.
const LONGEST_ENCODED: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        forms(value.as_bytes()).iter().any(|found| **found == form.as_bytes())
    }

    #[test]
    fn a_value_has_the_forms_in_which_it_is_printed() {
        for (value, form) in [
            ("value-1\n", "value-1"),
            ("  value-1 ", "value-1"),
            ("user\npass12\r\nabc", "pass12"),
            ("a/b=c\"d", "a/b=c\\\"d"),
            ("a/b=c\"d", "a/b%3Dc%22d"),
            ("a/b=c\"d", "a%2Fb%3Dc%22d"),
            ("user\npass12", "user\\npass12"),
            ("postgres://u:p%40ssw0rd@h/d", "p%40ssw0rd"),
            ("postgres://u:p%40ssw0rd@h/d", "p@ssw0rd"),
            ("postgres://u:p@ss?w0/rd@h/d", "p@ss?w0/rd"),
            ("postgres://h/d?user=u&password=s3cr3t", "s3cr3t"),
        ] {
            assert!(has(value, form), "{value} {form}");
        }
        let pem = "-----BEGIN X-----\nAAAABBBB\n-----END X-----\n";
        assert!(has(pem, "AAAABBBB") && !has(pem, "-----END X-----"));
        for (value, form) in [("short", "short"), ("a\nlonger", "a"), ("postgres://u:p@h/d", "p")] {
            assert!(!has(value, form), "{value} {form}");
        }
        assert!(forms(b"short").is_empty());
    }
}
