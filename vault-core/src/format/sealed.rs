//! What looks sealed, and so is never taken for plain text (docs/FORMAT.md, "What looks sealed").

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::key::KeyId;

use super::{Format, SHORTEST_FERNET, is_lower_hex};

/// Whether a value that did not open is to be left alone: a migration would seal a sealed value again.
/// `reads` are the formats of the column.
///
/// It looks sealed if it has the syntax of a format that the column reads, even with one byte wrong, or
/// plainly that of another one; also in quotes, within white space, in Python's notation, or encoded
/// once more; and if a sealed value stands anywhere in it. A value of nothing but hex digits is a sealed
/// one only where the column reads `social-cbc-legacy`: it may as well be what a provider gave out.
pub(crate) fn seems_sealed(value: &[u8], reads: &[Format]) -> bool {
    looks(value, reads, DEPTH)
}

fn looks(value: &[u8], reads: &[Format], depth: u32) -> bool {
    let bare = undressed(value);
    resembles_any(value, reads)
        || resembles_any(&bare, reads)
        || holds_sealed(value)
        || depth > 0 && decoded(value).iter().any(|inner| looks(inner, reads, depth - 1))
}

fn resembles_any(value: &[u8], reads: &[Format]) -> bool {
    Format::ALL.into_iter().any(|format| match format {
        Format::Plaintext => false,
        _ if format == Format::Vs1 || reads.contains(&format) => format.resembles(value),
        Format::SocialCbcLegacy => false,
        _ => format.fits(value),
    })
}

/// The value without what programs put around it: white space, a byte order mark, zero bytes, quotes
/// and their backslashes, brackets, and the letters before the quotes of a literal.
fn undressed(value: &[u8]) -> Vec<u8> {
    let value = value.strip_prefix(b"\xef\xbb\xbf").unwrap_or(value);
    let mut rest: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
    loop {
        let before = rest.len();
        let is_dress = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`\\()[]<>{},;".contains(byte);
        let is_hex_literal = |text: &[u8]| matches!(text, [b'\\', b'x', ..]);
        while rest.last().is_some_and(is_dress) {
            rest.pop();
        }
        let mut from = 0;
        while rest.get(from).is_some_and(is_dress) && !rest.get(from..).is_some_and(is_hex_literal) {
            from += 1;
        }
        let letters = rest.iter().skip(from).take_while(|byte| b"bBeEuUrRnNxX".contains(byte)).count();
        if (1..=2).contains(&letters) && rest.get(from + letters).is_some_and(|byte| b"\"'\\".contains(byte)) {
            let hex = rest.iter().skip(from).take(letters).any(|byte| b"xX".contains(byte));
            from += letters;
            if hex {
                // SQL's X'…'.
                rest = [b"\\x", rest.get(from..).unwrap_or_default().trim_ascii_start()].concat();
                rest.retain(|byte| !b"'\"".contains(byte));
                from = 0;
            }
        }
        rest.drain(..from);
        if rest.len() == before {
            return rest;
        }
    }
}

/// What a value, or a word in it, is when it is decoded once: of hex digits, percent-encoded, or of
/// base64.
fn decoded(value: &[u8]) -> Vec<Vec<u8>> {
    let text: Vec<u8> = value.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != 0).collect();
    let mut found = Vec::new();
    if text.contains(&b'%') {
        found.push(percent_decoded(&text));
    }
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    for word in text.split(|byte| !is_of_word(byte)).filter(|word| word.len() >= SHORTEST) {
        let heads = [&b"0x"[..], b"0X", b"x", b"X"];
        let digits = heads.iter().find_map(|head| word.strip_prefix(*head)).unwrap_or(word);
        if digits.len() >= 2 * SHORTEST && digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit) {
            let byte = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | nibble(*digit));
            found.push(digits.chunks(2).map(byte).collect());
        }
        for alphabet in [STANDARD, URL_SAFE] {
            // Only a text: what is sealed in binary is base64 once, and was looked at.
            found.extend(GeneralPurpose::new(&alphabet, LENIENT).decode(word).ok().filter(|text| text.is_ascii()));
        }
    }
    found
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match text.get(at + 1..at + 3) {
            Some(pair) if *byte == b'%' && pair.iter().all(u8::is_ascii_hexdigit) => {
                out.push(pair.iter().fold(0, |byte, digit| byte << 4 | nibble(*digit)));
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

fn nibble(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
}

/// Whether a sealed value stands somewhere in a text, broken into lines or not.
fn holds_sealed(value: &[u8]) -> bool {
    let text: Vec<u8> =
        value.iter().filter(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0 | b'\\')).copied().collect();
    (0..text.len()).any(|at| text.get(at..).is_some_and(begins_sealed))
}

fn begins_sealed(text: &[u8]) -> bool {
    match text {
        [b'v' | b'V', b's' | b'S' | b'k' | b'K', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kid = rest.get(digits + 1..digits + 18).map(<[u8]>::to_ascii_lowercase);
            let kid = kid.and_then(|kid| String::from_utf8(kid).ok());
            digits > 0
                && rest.get(digits) == Some(&b'.')
                && rest.get(digits + 18) == Some(&b'.')
                && kid.is_some_and(|kid| KeyId::parse(&kid).is_ok())
        }
        [b'v', b'1', b':', rest @ ..] => {
            let hex = |from: usize, to: usize| rest.get(from..to).is_some_and(|part| part.iter().all(is_lower_hex));
            hex(0, 24) && rest.get(24) == Some(&b':') && hex(25, 57) && rest.get(57) == Some(&b':')
        }
        [b'$', ..] => text.starts_with(b"$ffsec$"),
        [b'g', ..] => {
            let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            text.starts_with(b"gAAAAA") && text.iter().take_while(is_base64).count() >= SHORTEST_FERNET
        }
        _ => false,
    }
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// How often a value may have been encoded.
const DEPTH: u32 = 3;
/// Characters of a token before its first payload, and so of anything that could be sealed.
const SHORTEST: usize = 22;

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str =
        "vs1.kaaaaaaaaaaaaaaaa.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AQAAAAAAQUJD";

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a value becomes on its way through careless programs.
    fn dressed(value: &str) -> Vec<String> {
        vec![
            format!("\"{value}\""),
            format!("'{value}'"),
            format!("b'{value}'"),
            format!("b\"{value}\""),
            format!("\"b'{value}'\""),
            format!("\\\"{value}\\\""),
            format!(" {value}"),
            format!("{value}\r\n"),
            format!("\u{feff}{value}"),
            format!("\u{201c}{value}\u{201d}"),
            format!("\\x{}", hex(value)),
            format!("\\\\x{}", hex(value)),
            format!("\"\\x{}\"", hex(value)),
            format!("X'{}'", hex(value)),
            format!("0x{}", hex(value)),
            hex(value),
            hex(value).to_uppercase(),
            format!("{{\"token\": \"{value}\"}}"),
            format!("[\"{value}\"]"),
            format!("key={value}"),
            BASE64.encode(value),
            URL_SAFE_NO_PAD.encode(value),
            value.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            value.chars().flat_map(|c| [c, '\0']).collect(),
            value.as_bytes().chunks(20).map(|line| core::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n"),
        ]
    }

    #[test]
    fn sealed_values_are_known_however_they_are_dressed() {
        let fernet = format!("gAAAAA{}", "B".repeat(SHORTEST_FERNET + 2 - 6));
        let social = format!("v1:{}:{}:{}", "0a".repeat(12), "1b".repeat(16), "2c".repeat(9));
        for sealed in [TOKEN, &TOKEN.replace("vs1", "vk1"), &fernet, &format!("$ffsec$1$7${fernet}"), &social] {
            assert!(seems_sealed(sealed.as_bytes(), &[]), "{sealed}");
            for value in dressed(sealed) {
                assert!(seems_sealed(value.as_bytes(), &[]), "{value}");
            }
        }
        for value in dressed(&dressed(TOKEN)[10]) {
            assert!(seems_sealed(value.as_bytes(), &[]), "{value}");
        }
    }

    #[test]
    fn what_applications_keep_is_plain() {
        for plain in [
            "",
            " ",
            "hunter2",
            "\"hunter2\"",
            "b'hunter2'",
            "\\x68756e74657232",
            "vs",
            "vs1",
            "version vs2, k.",
            "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
            "postgresql://u:p%40ss@host/db?sslmode=require",
            "{\"token\": \"abc\", \"n\": [1, 2]}",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
            "QWxhZGRpbjpvcGVuIHNlc2FtZSBvcGVuIHNlc2FtZQ==",
            "gAAAAA",
        ] {
            assert!(!seems_sealed(plain.as_bytes(), &[Format::Plaintext]), "{plain}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>, text in "[\\\\x'\"b0-9a-f%vs1.k]{0,60}") {
            let _ = seems_sealed(&value, &Format::ALL);
            let _ = seems_sealed(text.as_bytes(), &[]);
        }
    }
}
