//! A vault in memory, for the tests of programs that use `vault-core`.
//!
//! Its key is made when it is and gone when it is dropped, so that nothing that it sealed can be
//! opened by anything else, ever. It reads no file and no variable. A package of its own keeps it
//! out of what is delivered: name it under `[dev-dependencies]`.
//!
//! ```
//! use vault_core::Context;
//! use vault_testing::TestVault;
//!
//! # fn main() -> vault_core::Result<()> {
//! let vault = TestVault::new()?.with_secret("DB_PASSWORD", "correct horse")?;
//! assert_eq!(vault.secret("DB_PASSWORD")?.value.expose_secret(), b"correct horse");
//!
//! let context = Context::new("user-secret").tenant("42");
//! let token = vault.sealer().seal(&context, b"sk-1")?;
//! assert_eq!(vault.sealer().open(&context, &token)?.expose_secret(), b"sk-1");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;

use vault_core::{Keyring, MasterKey, Resolved, Resolver, Result, Sealer, SecretName};

/// A vault in memory: one fresh key, and the secrets that it is given.
#[derive(Debug)]
pub struct TestVault {
    sealer: Sealer,
    secrets: Secrets,
}

impl TestVault {
    /// A vault without secrets.
    ///
    /// # Errors
    ///
    /// [`vault_core::Error::CannotSeal`] if the operating system gives no randomness.
    pub fn new() -> Result<Self> {
        let sealer = Sealer::new(Keyring::single(MasterKey::generate()?));
        Ok(Self { sealer, secrets: Secrets(BTreeMap::new()) })
    }

    /// With a secret, as if a variable of its name were set.
    ///
    /// # Errors
    ///
    /// [`vault_core::Error::Malformed`] for a name that no secret can have.
    pub fn with_secret(mut self, name: &str, value: &str) -> Result<Self> {
        self.secrets.0.insert(SecretName::parse(name)?.variable(), value.into());
        Ok(self)
    }

    /// As [`vault_core::Vault::sealer`].
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// As [`vault_core::Vault::secret`]. No secret has versions here.
    ///
    /// # Errors
    ///
    /// As [`vault_core::Resolver::secret`].
    pub fn secret(&self, name: &str) -> Result<Resolved> {
        self.resolver().secret(&SecretName::parse(name)?)
    }

    /// What finds its secrets.
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        Resolver::from_environment().with_environment(self.secrets.0.clone(), NOWHERE)
    }
}

struct Secrets(BTreeMap<String, OsString>);

/// Names only.
impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A directory that cannot exist: its parent is no directory.
const NOWHERE: &str = "/dev/null/vault-testing";
