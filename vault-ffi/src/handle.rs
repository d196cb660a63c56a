//! A vault that was loaded.

use core::ptr;

use vault_core::{Context, ContextHash, Error as CoreError, Resolver, Sealer, SecretBytes, Token, Vault};

use crate::boundary::{self, CallFailure, out};
use crate::buf::Buf;
use crate::config::{Config, Origin};
use crate::error::{Error, guard};
use crate::status::Status;

/// A vault: keys, and with a `vault.toml` secrets by name. May be shared between threads, and used
/// after fork(). It follows changes of its keys by itself. vault_free wipes its keys.
#[derive(Debug)]
pub struct Handle {
    pub(crate) keys: Keys,
    limit: usize,
}

/// Where the keys of a handle come from.
#[derive(Debug)]
pub(crate) enum Keys {
    Declared(Box<Vault>),
    KeyFile(Box<Vault>),
    TextKeyFile(Box<Vault>),
    InMemory { sealer: Sealer, resolver: Resolver },
}

/// Loads a vault. The configuration stays the caller's.
///
/// Fails with VAULT_IO or VAULT_CONFIG for `vault.toml` or a state file; VAULT_NOT_FOUND where
/// VAULT_CORE_CONFIG is not set; VAULT_KEY_MISSING, VAULT_KEY_MALFORMED, VAULT_KEY_UNAVAILABLE or
/// VAULT_TOO_LARGE for keys; VAULT_REFUSED for a state file that must not be trusted.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_load(config: *const Config, vault: *mut *mut Handle, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (config, vault) = unsafe { (boundary::object(config, "the configuration is NULL")?, out(vault)?) };
        vault.give(Handle { keys: Keys::load(config)?, limit: config.limit });
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Reads keys and states again, whether they seem to have changed or not. Where that fails, the vault stays
/// as it was. A vault follows changes by itself, so this is rarely needed. `vault.toml` is read by vault_load
/// alone.
///
/// Fails as vault_load, and with VAULT_REFUSED for states that are older than the loaded ones.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_refresh(vault: *const Handle, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let vault = unsafe { vault_of(vault)? };
        Ok(vault.keys.vault().map_or(Ok(()), Vault::refresh)?)
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// How a vault follows changes of its keys: when the last look at them succeeded, in seconds since 1970, and
/// why those since then failed. `*failure` becomes a text, or NULL if none has failed; what was loaded before
/// goes on to seal and open. A vault in memory has nothing to look at: 0 and NULL.
///
/// Fails with VAULT_USAGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_following(
    vault: *const Handle,
    looked: *mut u64,
    failure: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, looked, failure) = unsafe { (vault_of(vault)?, out(looked)?, out(failure)?) };
        let following = vault.keys.vault().map(Vault::following);
        looked.write(following.as_ref().map_or(0, |following| following.looked.0));
        match following.and_then(|following| following.failure) {
            Some(reason) => failure.give(Buf::text(reason.to_string())),
            None => failure.write(ptr::null_mut()),
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Frees a vault and wipes its keys; no other thread uses it any more. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_free(vault: *mut Handle) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(vault) }
}

impl Handle {
    /// A vault of a sealer, and of a resolver that finds its secrets. A refresh changes nothing in
    /// it.
    #[must_use]
    pub fn new(sealer: Sealer, resolver: Resolver) -> Self {
        Self { keys: Keys::InMemory { sealer, resolver }, limit: vault_core::DEFAULT_LIMIT }
    }

    /// Longest secret, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl Keys {
    fn load(config: &Config) -> Result<Self, CoreError> {
        let (declared, kind): (_, fn(Box<Vault>) -> Self) = match &config.origin {
            Origin::Environment => (vault_core::Config::from_env()?, Self::Declared),
            Origin::File { path, profile: None } => (vault_core::Config::from_file(path)?, Self::Declared),
            Origin::File { path, profile } => {
                (vault_core::Config::with_profile(path, profile.as_deref())?, Self::Declared)
            }
            Origin::KeyFile(path) => (vault_core::Config::from_key_file(path), Self::KeyFile),
            Origin::TextKeyFile { path, format } => {
                (vault_core::Config::from_text_key_file(path, *format), Self::TextKeyFile)
            }
        };
        let declared = declared.with_limit(config.limit);
        let mut vault = Vault::load(if config.padded { declared.with_padding() } else { declared })?;
        if let Some(environment) = &config.environment {
            vault = vault.with_environment(environment.variables.clone(), &environment.mounts);
        }
        if let Some(preset) = config.preset {
            vault = vault.with_preset(preset);
        }
        Ok(kind(Box::new(vault)))
    }

    /// What follows changes.
    pub(crate) fn vault(&self) -> Option<&Vault> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => Some(vault),
            Self::InMemory { .. } => None,
        }
    }

    pub(crate) fn seal(&self, context: &Context, secret: &[u8]) -> Result<Token, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.seal(context, secret),
            Self::InMemory { sealer, .. } => sealer.seal(context, secret),
        }
    }

    pub(crate) fn open(&self, context: &Context, token: &Token) -> Result<SecretBytes, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.open(context, token),
            Self::InMemory { sealer, .. } => sealer.open(context, token),
        }
    }

    pub(crate) fn seal_for(&self, context: &ContextHash, secret: &[u8]) -> Result<Token, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.seal_for(context, secret),
            Self::InMemory { sealer, .. } => sealer.seal_for(context, secret),
        }
    }

    pub(crate) fn open_for(&self, context: &ContextHash, token: &Token) -> Result<SecretBytes, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.open_for(context, token),
            Self::InMemory { sealer, .. } => sealer.open_for(context, token),
        }
    }

    pub(crate) fn rewrap(&self, token: &Token) -> Result<Token, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.rewrap(token),
            Self::InMemory { sealer, .. } => sealer.rewrap(token),
        }
    }

    pub(crate) fn verify(&self, token: &Token) -> Result<(), CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.verify(token),
            Self::InMemory { sealer, .. } => sealer.verify(token),
        }
    }

    /// As [`Vault::sealing`].
    pub(crate) fn sealing<T>(&self, seal: impl FnOnce(&Sealer) -> T) -> Result<T, CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.sealing(seal),
            Self::InMemory { sealer, .. } => Ok(seal(sealer)),
        }
    }

    /// As [`Vault::opening_many`].
    pub(crate) fn opening_many(&self, mut open: impl FnMut(&Sealer) -> bool) -> Result<(), CoreError> {
        match self {
            Self::Declared(vault) | Self::KeyFile(vault) | Self::TextKeyFile(vault) => vault.opening_many(open),
            Self::InMemory { sealer, .. } => {
                open(sealer);
                Ok(())
            }
        }
    }
}

/// The vault of a call.
///
/// # Safety
///
/// As [`boundary::object`].
pub(crate) unsafe fn vault_of<'a>(vault: *const Handle) -> Result<&'a Handle, CallFailure> {
    // SAFETY: as the caller says.
    unsafe { boundary::object(vault, "the vault is NULL") }
}
