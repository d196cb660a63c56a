//! Why a text is not accepted as a key, or never seals.

/// Longest key text, in bytes.
pub const MAX_KEY_TEXT: usize = 4_096;

/// Why a text is not accepted as a key. Holds lengths and classes, never content.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// Base64 of the right length whose padding or last character is not canonical.
    #[error("bad base64: wrong padding, or a last character that no encoder writes")]
    Base64,
    /// A byte order mark in front.
    #[error("it begins with a byte order mark; save the file without one")]
    ByteOrderMark,
    /// Nothing, or only white space.
    #[error("it is empty")]
    Empty,
    /// 32 hex digits.
    #[error("32 hex digits are 128 bits; 64 are needed")]
    HalfHex,
    /// White space inside.
    #[error("it has white space inside")]
    InnerSpace,
    /// Letters of both base64 alphabets.
    #[error("it mixes the two base64 alphabets")]
    MixedAlphabets,
    /// NUL or bytes that are not UTF-8, in a key text.
    #[error("it is not text: it holds a NUL byte or bytes that are not UTF-8")]
    NotText,
    /// A key that is public because somebody printed it.
    #[error("it is a published key; it may open, and never seals")]
    Published,
    /// Surrounded by quotes.
    #[error("it is in quotes; remove them")]
    Quoted,
    /// Longer than [`MAX_KEY_TEXT`].
    #[error("it is longer than {MAX_KEY_TEXT} bytes")]
    TooLong,
    /// Anything else.
    #[error("unrecognised key text ({0} bytes): 64 hex digits, base64 of 32 bytes, or 32 raw bytes are accepted")]
    Unrecognised(usize),
    /// A name and an equals sign in front.
    #[error("it looks like NAME=value; keep the value only")]
    Variable,
    /// A pattern instead of random bytes.
    #[error("weak key: {0}; it may open, and never seals")]
    Weak(Weakness),
}

/// The pattern that makes a key weak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// Each byte differs from the one before by the same amount.
    #[error("an arithmetic sequence")]
    Arithmetic,
    /// One byte, repeated.
    #[error("constant")]
    Constant,
    /// Fewer than 12 different bytes.
    #[error("fewer than 12 different bytes")]
    FewBytes,
    /// A short block, repeated.
    #[error("a repeated block")]
    Periodic,
    /// Printable characters: a pass-phrase in disguise.
    #[error("printable text instead of random bytes")]
    Printable,
}
