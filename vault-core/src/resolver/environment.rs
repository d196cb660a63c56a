//! Variables of the process, or the ones that are given in their place.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// Variables are read when they are asked for: copies of all would be copies of secrets.
#[derive(Clone)]
pub(super) enum Environment {
    Given(BTreeMap<String, OsString>),
    Process,
}

impl Environment {
    /// A variable that is not secret, if it is set and not empty: Compose passes `${X:-}`.
    pub(super) fn value(&self, name: &str) -> Option<OsString> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is set and not empty.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name).map(|value| Zeroizing::new(value.into_vec())).is_some()
    }

    /// A variable that is secret, if it is set. It may be empty.
    pub(super) fn secret(&self, name: &str, cap: usize) -> Result<Option<SecretBytes>> {
        let value = self.raw(name).map(|value| SecretBytes::from(Zeroizing::new(value.into_vec())));
        match value {
            Some(value) if value.len() > cap => {
                Err(Error::Oversized { place: format!("environment {name}"), limit: cap })
            }
            value => Ok(value),
        }
    }

    /// The spelling of a variable's name, in whatever case it is set. Of several, the last.
    pub(super) fn spelling(&self, name: &str) -> Option<String> {
        let same = |found: &str| found.eq_ignore_ascii_case(name);
        match self {
            Self::Given(variables) => variables.keys().rfind(|found| same(found)).cloned(),
            // There are no names without values. Each copy is wiped before the next is looked at.
            Self::Process => env::vars_os()
                .filter_map(|(found, value)| {
                    drop(Zeroizing::new(value.into_vec()));
                    found.into_string().ok().filter(|found| same(found))
                })
                .last(),
        }
    }

    fn raw(&self, name: &str) -> Option<OsString> {
        match self {
            Self::Given(variables) => variables.get(name).cloned(),
            Self::Process => env::var_os(name),
        }
    }
}

impl core::fmt::Debug for Environment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given([redacted])",
            Self::Process => "Process",
        })
    }
}
