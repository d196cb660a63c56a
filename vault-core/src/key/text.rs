//! The text of keys: what is accepted, what is refused and why (docs/FORMAT.md, "Keys").

use base64::Engine as _;
use zeroize::{Zeroize, Zeroizing};

use crate::hex;
use crate::primitives;

use super::flaw::{KeyTextError, MAX_KEY_TEXT, Weakness};

/// The written form of a 32-byte key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// Standard base64, or base64 in which the two alphabets do not differ.
    Base64Standard,
    /// URL-safe base64.
    Base64Url,
    /// 64 hex digits.
    Hex,
    /// The 32 bytes themselves.
    Raw,
}

/// What an application removes from a configured key text before it derives from it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Trim {
    /// Exactly one trailing line break, the rule for every secret that is text.
    #[default]
    LineBreak,
    /// Nothing.
    Nothing,
    /// White space as Python's `str.strip()` has it.
    Python,
}

#[cfg(feature = "formats")]
impl Trim {
    pub(crate) fn apply(self, text: &str) -> &str {
        match self {
            Self::LineBreak => text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text),
            Self::Nothing => text,
            Self::Python => text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)),
        }
    }
}

/// Decodes any accepted form into `out`.
pub(crate) fn decode(content: &[u8], out: &mut [u8; 32]) -> Result<KeyFormat, KeyTextError> {
    if content.len() > MAX_KEY_TEXT {
        return Err(KeyTextError::TooLong);
    }
    let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace() || *b == 0x0b;
    if content.len() == 32 && !content.iter().all(printable) {
        out.copy_from_slice(content);
        return Ok(KeyFormat::Raw);
    }
    if [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| content.starts_with(mark)) {
        return Err(KeyTextError::ByteOrderMark);
    }
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err(KeyTextError::Empty);
    }
    if text.iter().any(|b| b.is_ascii_whitespace() || *b == 0x0b) {
        return Err(KeyTextError::InnerSpace);
    }
    if text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit) {
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | hex::value(*digit).unwrap_or_default());
        }
        return Ok(KeyFormat::Hex);
    }
    let padded = text.len() == 44 && text.iter().filter(|b| **b == b'=').count() == 1 && text.ends_with(b"=");
    if text.len() == 43 && !text.contains(&b'=') || padded {
        return decode_base64(text.strip_suffix(b"=").unwrap_or(text), out);
    }
    if text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit) {
        return Err(KeyTextError::HalfHex);
    }
    if text.first().is_some_and(|quote| matches!(quote, b'"' | b'\'') && text.last() == Some(quote)) {
        return Err(KeyTextError::Quoted);
    }
    let name = text.iter().position(|b| *b == b'=').and_then(|at| text.get(..at));
    if name.is_some_and(|name| {
        name.len() < 40
            && name.first().is_some_and(u8::is_ascii_alphabetic)
            && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    }) {
        return Err(KeyTextError::Variable);
    }
    if text.len() == 44 && text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(b)) {
        return Err(KeyTextError::Base64);
    }
    Err(KeyTextError::Unrecognised(text.len()))
}

fn decode_base64(text: &[u8], out: &mut [u8; 32]) -> Result<KeyFormat, KeyTextError> {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    let standard = text.iter().any(|b| matches!(b, b'+' | b'/'));
    let url = text.iter().any(|b| matches!(b, b'-' | b'_'));
    let (engine, format) = match (standard, url) {
        (true, true) => return Err(KeyTextError::MixedAlphabets),
        (false, true) => (&URL_SAFE_NO_PAD, KeyFormat::Base64Url),
        (_, false) => (&STANDARD_NO_PAD, KeyFormat::Base64Standard),
    };
    if !text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b)) {
        return Err(KeyTextError::Unrecognised(text.len()));
    }
    // The decoder may write up to 33 bytes before it knows the length.
    let mut buffer = Zeroizing::new([0; 36]);
    match engine.decode_slice(text, &mut *buffer) {
        Ok(32) => {
            out.copy_from_slice(buffer.get(..32).unwrap_or(&[0; 32]));
            Ok(format)
        }
        _ => {
            out.zeroize();
            Err(KeyTextError::Base64)
        }
    }
}

pub(crate) fn flaw(bytes: &[u8; 32], text: &[u8]) -> Option<KeyTextError> {
    if published(text) || PUBLISHED_BYTES.contains(&hex::encode(&primitives::sha256(bytes)).as_str()) {
        return Some(KeyTextError::Published);
    }
    weakness(bytes).map(KeyTextError::Weak)
}

fn weakness(bytes: &[u8; 32]) -> Option<Weakness> {
    let periodic = |period: usize| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b);
    let mut steps = bytes.iter().zip(bytes.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first_step = steps.next();
    let mut seen = [false; 256];
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    if periodic(1) {
        Some(Weakness::Constant)
    } else if [2, 4, 8, 16].into_iter().any(periodic) {
        Some(Weakness::Periodic)
    } else if steps.all(|step| Some(step) == first_step) {
        Some(Weakness::Arithmetic)
    } else if seen.iter().filter(|seen| **seen).count() < 12 {
        Some(Weakness::FewBytes)
    } else if bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Some(Weakness::Printable)
    } else {
        None
    }
}

pub(crate) fn published(text: &[u8]) -> bool {
    PUBLISHED_TEXTS.contains(&hex::encode(&primitives::sha256(text)).as_str())
}

/// SHA-256 of key bytes that are public: the key of the Fernet specification and a test key in
/// Flowfile's source.
const PUBLISHED_BYTES: [&str; 2] = [
    "cbeb362f1fa69a6691db592f4529cf6bea1ce089eb132a3350c9081279ff8f34",
    "6fbfa7da4a387749b717e5c23bdd2d7b4fca8b2deb532d6160408d5d68a97f33",
];

/// SHA-256 of texts that are public because applications carry them as defaults, examples or test
/// keys, or guides print them; one was tracked in a repository.
const PUBLISHED_TEXTS: [&str; 24] = [
    "039db6d2144e3f7e5b359e3195ad8c2cbb4840a7d52d1a1fe43934fd1feebac9",
    "cd83ecc2b41302ed7bc62c2bfe59cb04f2ff11ae16c3aa88b686cc490ab2eadf",
    "b2df98b30a94528ee5568a01ce29b3aa710182e8a4aed412d19a74a0881cc02c",
    "56be579e93e10585578ba16ee7647ea9cbdd33165d3f8e2facc73c83b4b332d8",
    "057ba03d6c44104863dc7361fe4578965d1887360f90a0895882e58a6248fc86",
    "276a9b5c4aa40041b83cd30d490d677b10314db9704dcfa81c2e42d885b5bdb4",
    "29bbcd49062be81a2926b00e80f6e6a73d567e14a22182c20b13a6d19d2e1a27",
    "579deb94a1600ea2cf4b2131ac8836fb4bbde0e99262e707857d9a911f0c8b8a",
    "78a6c76148cb9a58742db50123c5c63dde01cdcadb51683eaad0dc44ae9569b9",
    "92809ab604c9377285fbbcf82c4f30db65f107ecfd7217c7e62c17a2b3be7633",
    "231b700af92137f399ac7296e6b94970a71071cb247bfbe6b6fd091b8552fa8f",
    "4c37428ea946caca250c698d880131b8f62f45c5647d91d38ec02ea07c2e7031",
    "4cbdadb72ca40990542c9b36c1a1988609d7032c4ae135c00b4cc8556e5162c3",
    "c2ff755da3f53c381c39fe6d7ae85d2916b3b49b27acf127001a11c8cb33fcf2",
    "0537dfd229ccd644e29c82f0c27a1b3b075a1589fa75a186ed40abc25bfcd248",
    "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
    "e02cf339b33997a7b361a8bb53ed663e70543954b85807d56d844a91f485772f",
    "bdfc35bb19105e6d87871ebcb4605901c2bae1f64131d7aad6d32eb649382c8c",
    "01bf5d2a02d6b54006f6fcc26a8c93a33d644b58160b79ea7ad4589f7026a4c5",
    "b74a2e9239931cc7ae9f4832771f49f60d1f8a778be6a8924675a0b77d53145f",
    "e5b6c9c79acebf9c0724b1e8a4f6b933ae4bcd0e2004afd983734a6a6fdf37d2",
    "dffd2b5b28782525f2b498f0a6fd2201a8d31278d30d33acd8899d76500f98e0",
    "b95560bfd76e784c2b848e1f98fc4e9adaf78d1be967b1368690dcaeeee4d79d",
    "f6a44921a92ad3c065e508848150202d2f67581e2265fa4b5b97dc482742f0b6",
];
