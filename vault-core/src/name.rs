//! Names of secrets.

use crate::error::{Error, Result};

/// Longest name, in bytes.
const MAX_NAME: usize = 128;

/// The name of a secret: segments `[A-Za-z0-9_][A-Za-z0-9._-]*` joined by `/`, at most 128 bytes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SecretName(String);

impl SecretName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let segment = |segment: &str| {
            segment
                .bytes()
                .enumerate()
                .all(|(at, b)| b.is_ascii_alphanumeric() || b == b'_' || at > 0 && matches!(b, b'.' | b'-'))
                && !segment.is_empty()
        };
        if text.len() <= MAX_NAME && text.split('/').all(segment) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Malformed {
                what: "secret name: letters, digits and . _ - in segments joined by /, at most 128 bytes",
            })
        }
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its file: lower case.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Its environment variable: the name itself where a variable can have it, because programs
    /// tell `http_proxy` from `HTTP_PROXY`; else [`folded`](Self::folded).
    #[must_use]
    pub fn variable(&self) -> String {
        let plain = self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if plain && !self.0.starts_with(|c: char| c.is_ascii_digit()) { self.0.clone() } else { self.folded() }
    }

    /// The name in upper case, with every other character than letters and digits as `_`. Names
    /// that are equal so differ in spelling only.
    #[must_use]
    pub fn folded(&self) -> String {
        fold(&self.0)
    }

    /// The variables that may hold it, the first before the second: its own, and the name in upper
    /// case.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> + use<> {
        let (own, folded) = (self.variable(), self.folded());
        let second = Some(folded).filter(|folded| *folded != own);
        [own].into_iter().chain(second)
    }
}

/// As [`SecretName::folded`], for a name that may be none.
pub(crate) fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Which version of a secret is meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Version {
    /// The newest.
    #[default]
    Current,
    /// The one with this number.
    Number(u64),
    /// The one before the newest.
    Previous,
}

impl Version {
    /// Reads a name with the version that may follow it: `NAME`, `NAME@previous` or `NAME@2`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the rule.
    pub fn parse(text: &str) -> Result<(SecretName, Self)> {
        let Some((name, version)) = text.split_once('@') else { return Ok((SecretName::parse(text)?, Self::Current)) };
        let number = || {
            let digits = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
            version.parse().ok().filter(|_| digits)
        };
        let version = match version {
            "previous" => Self::Previous,
            _ => Self::Number(
                number().ok_or(Error::Malformed { what: "version: it is \"previous\" or a number from 1" })?,
            ),
        };
        Ok((SecretName::parse(name)?, version))
    }
}

impl core::fmt::Display for SecretName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{SecretName, Version};

    #[test]
    fn names_map_to_files_and_variables() {
        let name = SecretName::parse("app/Db-password.v2").unwrap();
        assert_eq!(name.file_name(), "app/db-password.v2");
        assert_eq!(name.variable(), "APP_DB_PASSWORD_V2");
        for (name, variable) in
            [("TF_VAR_db", "TF_VAR_db"), ("http_proxy", "http_proxy"), ("my-key", "MY_KEY"), ("1a", "1A")]
        {
            assert_eq!(SecretName::parse(name).unwrap().variable(), variable);
        }
        for wrong in ["", "/", "a/", "/a", ".", "..", "a/../b", "-a", ".a", "a b", "é", "a\n", &"a".repeat(129)] {
            assert!(SecretName::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_version_follows_a_name() {
        let read = |text: &str| Version::parse(text).map(|(name, version)| (name.as_str().to_owned(), version));
        assert_eq!(read("A").unwrap(), ("A".to_owned(), Version::Current));
        assert_eq!(read("a/b@previous").unwrap(), ("a/b".to_owned(), Version::Previous));
        assert_eq!(read("A@12").unwrap(), ("A".to_owned(), Version::Number(12)));
        for wrong in ["A@", "A@0", "A@01", "A@+1", "A@-1", "A@x", "@1", "A@1@2", "A@18446744073709551616"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
