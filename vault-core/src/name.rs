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

    /// Its environment variable: upper case, with every other character than letters and digits
    /// as `_`.
    #[must_use]
    pub fn variable(&self) -> String {
        self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    }
}

impl core::fmt::Display for SecretName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretName;

    #[test]
    fn names_map_to_files_and_variables() {
        let name = SecretName::parse("app/Db-password.v2").unwrap();
        assert_eq!(name.file_name(), "app/db-password.v2");
        assert_eq!(name.variable(), "APP_DB_PASSWORD_V2");
        for wrong in ["", "/", "a/", "/a", ".", "..", "a/../b", "-a", ".a", "a b", "é", "a\n", &"a".repeat(129)] {
            assert!(SecretName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
