//! The names of keys.

const KID_LENGTH: usize = 17;

/// Names a key: 17 characters computed from the key itself.
///
/// The first letter is the type: `k` a local master key, `t` a tenant key, `f` the key text of a
/// legacy format. It is public and may be logged.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId([u8; KID_LENGTH]);

impl KeyId {
    /// Reads the 17 characters `[a-z][a-z2-7]{16}`.
    ///
    /// # Errors
    ///
    /// [`MalformedKeyId`] if the text has another form.
    pub fn parse(text: &str) -> Result<Self, MalformedKeyId> {
        Self::from_bytes(text.as_bytes()).ok_or(MalformedKeyId)
    }

    pub(crate) fn from_bytes(text: &[u8]) -> Option<Self> {
        let id: [u8; KID_LENGTH] = text.try_into().ok()?;
        let (kind, rest) = id.split_first()?;
        let good =
            kind.is_ascii_lowercase() && rest.iter().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(b));
        good.then_some(Self(id))
    }

    /// An id that no key has.
    pub(crate) fn none() -> Self {
        Self(*b"aaaaaaaaaaaaaaaaa")
    }

    /// The 17 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor allows ASCII only.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The type letter.
    #[must_use]
    pub fn letter(&self) -> char {
        char::from(self.0.first().copied().unwrap_or_default())
    }

    /// `magic || kid || "."`, which a wrap is bound to.
    pub(crate) fn wrap_label(&self, magic: [u8; 4]) -> [u8; 22] {
        let mut label = [b'.'; 22];
        label.iter_mut().zip(magic.iter().chain(&self.0)).for_each(|(place, byte)| *place = *byte);
        label
    }

    /// The id of type `letter` whose other characters are 80 bits in base32.
    pub(super) fn of_hash(letter: u8, hash: &[u8; 10]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let bits = hash.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let mut id = [letter; KID_LENGTH];
        for (place, character) in id.iter_mut().skip(1).enumerate() {
            let index = usize::try_from(bits >> (75 - 5 * place) & 31).unwrap_or_default();
            *character = ALPHABET.get(index).copied().unwrap_or_default();
        }
        Self(id)
    }
}

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::str::FromStr for KeyId {
    type Err = MalformedKeyId;

    fn from_str(text: &str) -> Result<Self, MalformedKeyId> {
        Self::parse(text)
    }
}

/// A text is not a key id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MalformedKeyId;

impl MalformedKeyId {
    pub(crate) const WHAT: &str = "key id: it has 17 characters, a letter and then letters or 2 to 7";
}

impl core::fmt::Display for MalformedKeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "malformed {}", Self::WHAT)
    }
}

impl core::error::Error for MalformedKeyId {}
