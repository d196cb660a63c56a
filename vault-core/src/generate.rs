//! New secrets of the forms that applications ask for.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::hex;
use crate::primitives;
use crate::secret::SecretBytes;

/// The form of a secret that is to be made from randomness of the operating system.
///
/// As text: `hex:32`, `base64:32`, `base64url:32`, `text:40` or `fernet-key`. The number counts
/// random bytes, and of a text its letters and digits. It is from 16 to 1,024.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Generate {
    /// Base64, padded.
    Base64(usize),
    /// Base64 with the alphabet for URLs, padded.
    Base64Url(usize),
    /// A Fernet key: 32 bytes as base64 with the alphabet for URLs.
    FernetKey,
    /// Lower-case hex digits.
    Hex(usize),
    /// Letters and digits.
    Text(usize),
}

impl Generate {
    /// A new secret.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if the operating system gives no randomness.
    pub fn secret(self) -> Result<SecretBytes> {
        let bytes = match self {
            Self::Text(length) => return letters(length),
            Self::FernetKey => random(32)?,
            Self::Base64(length) | Self::Base64Url(length) | Self::Hex(length) => random(length)?,
        };
        let text = match self {
            Self::Hex(_) => {
                let mut text = Zeroizing::new(Vec::with_capacity(2 * bytes.len()));
                text.extend(bytes.iter().flat_map(|byte| [hex::digit(byte >> 4), hex::digit(byte & 15)]));
                return Ok(SecretBytes::from(text));
            }
            Self::Base64(_) => encoded(&STANDARD, &bytes),
            _ => encoded(&URL_SAFE, &bytes),
        };
        Ok(SecretBytes::from(text))
    }
}

impl core::str::FromStr for Generate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const RULE: Error = Error::Malformed {
            what: "form of a secret: it is hex:N, base64:N, base64url:N, text:N or fernet-key, with N from 16 to 1024",
        };
        if text == "fernet-key" {
            return Ok(Self::FernetKey);
        }
        let (form, number) = text.split_once(':').ok_or(RULE)?;
        let number = number.parse().ok().filter(|number| (16..=1_024).contains(number)).ok_or(RULE)?;
        match form {
            "hex" => Ok(Self::Hex(number)),
            "base64" => Ok(Self::Base64(number)),
            "base64url" => Ok(Self::Base64Url(number)),
            "text" => Ok(Self::Text(number)),
            _ => Err(RULE),
        }
    }
}

fn random(length: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    while bytes.len() < length {
        let block = primitives::random()?;
        let missing = length - bytes.len();
        bytes.extend(block.iter().take(missing));
    }
    Ok(bytes)
}

/// Each of the 62 characters is as likely as any other: random bytes beyond a multiple of their
/// number are passed over.
fn letters(length: usize) -> Result<SecretBytes> {
    let most = u8::MAX - u8::MAX % 62;
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    while text.len() < length {
        let block = primitives::random()?;
        let missing = length - text.len();
        let fit = block.iter().filter(|byte| **byte < most).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        text.extend(fit.take(missing));
    }
    Ok(SecretBytes::from(text))
}

fn encoded(engine: &impl Engine, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; bytes.len().div_ceil(3) * 4]);
    // The buffer has exactly the length that is written.
    let _ = engine.encode_slice(bytes, &mut text);
    text
}

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_form_that_was_asked_for() {
        let made = |form: &str| {
            let secret = form.parse::<Generate>().unwrap().secret().unwrap();
            String::from_utf8(secret.expose_secret().to_vec()).unwrap()
        };
        for length in [16, 17, 32, 33, 1_024] {
            let hex = made(&format!("hex:{length}"));
            assert!(hex.len() == 2 * length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            assert_eq!(STANDARD.decode(made(&format!("base64:{length}"))).unwrap().len(), length);
            assert_eq!(URL_SAFE.decode(made(&format!("base64url:{length}"))).unwrap().len(), length);
            let text = made(&format!("text:{length}"));
            assert!(text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert_eq!(URL_SAFE.decode(made("fernet-key")).unwrap().len(), 32);
        assert_ne!(made("hex:32"), made("hex:32"));
        for wrong in ["", "hex", "hex:", "hex:15", "hex:1025", "hex:-1", "rot13:32", "fernet-key:32"] {
            assert!(wrong.parse::<Generate>().is_err(), "{wrong}");
        }
    }

    /// 62,000 characters: each about 1,000 times; a remainder that is not passed over would give
    /// the first eight a quarter more.
    #[test]
    fn no_letter_is_more_likely_than_another() {
        let mut counts = [0_u32; 256];
        for _ in 0..62 {
            let secret = Generate::Text(1_000).secret().unwrap();
            secret.expose_secret().iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        }
        assert!(ALPHABET.iter().all(|letter| (800..1_200).contains(&counts[usize::from(*letter)])));
    }
}
