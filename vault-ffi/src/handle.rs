//! A vault that was loaded.

use std::sync::Arc;

use arc_swap::ArcSwap;
use vault_core::legacy::LegacyKey;
use vault_core::{Error as CoreError, Resolver, Sealer, Vault};

use crate::boundary::{self, CallFailure, out};
use crate::config::{Config, Origin};
use crate::error::{Error, guard};
use crate::status::Status;

/// A vault: keys, and with a `vault.toml` secrets by name. May be shared between threads, and used
/// after fork(). vault_free wipes its keys.
#[derive(Debug)]
pub struct Handle {
    config: Option<Config>,
    limit: usize,
    /// No lock: one that another thread held while the process forked would stay locked in the
    /// child.
    loaded: ArcSwap<Loaded>,
}

/// What a call works with, whatever a refresh does meanwhile.
#[derive(Debug)]
pub(crate) enum Loaded {
    Declared { vault: Box<Vault>, sealer: Option<Sealer> },
    InMemory { sealer: Sealer, resolver: Resolver },
    KeyFile(Sealer),
    TextKeyFile(Box<LegacyKey>),
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
        let loaded = ArcSwap::from_pointee(Loaded::from(config, None)?);
        vault.give(Handle { config: Some(config.clone()), limit: config.limit, loaded });
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Reads configuration, keys and states again, so that a promotion needs no restart. Where that
/// fails, the vault stays as it was. Calls of other threads go on with what they began with.
///
/// Fails as vault_load.
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
        let Some(config) = &vault.config else { return Ok(()) };
        loop {
            let before = vault.loaded();
            let read = Arc::new(Loaded::from(config, Some(&before))?);
            // Two calls may overtake each other: what was read before another call's result came may be
            // older than that, and is read again.
            if Arc::ptr_eq(&vault.loaded.compare_and_swap(&before, read), &before) {
                return Ok(());
            }
        }
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
        let loaded = ArcSwap::from_pointee(Loaded::InMemory { sealer, resolver });
        Self { config: None, limit: vault_core::DEFAULT_LIMIT, loaded }
    }

    /// What is loaded at this moment.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Longest secret, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl Loaded {
    /// What a configuration gives, in the place of what it gave before.
    fn from(config: &Config, before: Option<&Self>) -> Result<Self, CoreError> {
        let declared = match &config.origin {
            Origin::Environment => vault_core::Config::from_env()?,
            Origin::File { path, profile: None } => vault_core::Config::from_file(path)?,
            Origin::File { path, profile } => vault_core::Config::with_profile(path, profile.as_deref())?,
            Origin::KeyFile(path) => return Ok(Self::KeyFile(configured(Sealer::from_key_file(path)?, config))),
            Origin::TextKeyFile { path, format } => {
                return Ok(Self::TextKeyFile(Box::new(LegacyKey::from_key_file(path, *format)?)));
            }
        };
        let mut vault = match before {
            Some(Self::Declared { vault, .. }) => vault.successor(declared)?,
            _ => Vault::load(declared)?,
        };
        if let Some(environment) = &config.environment {
            vault = vault.with_environment(environment.variables.clone(), &environment.mounts);
        }
        if let Some(preset) = config.preset {
            vault = vault.with_preset(preset);
        }
        let sealer = vault.sealer().ok().map(|sealer| configured(sealer.clone(), config));
        Ok(Self::Declared { vault: Box::new(vault), sealer })
    }

    /// What seals and opens tokens.
    pub(crate) fn sealer(&self) -> Result<&Sealer, CallFailure> {
        match self {
            Self::Declared { sealer: Some(sealer), .. } | Self::InMemory { sealer, .. } | Self::KeyFile(sealer) => {
                Ok(sealer)
            }
            Self::Declared { vault, .. } => Ok(vault.sealer()?),
            Self::TextKeyFile(_) => Err(CoreError::KeyMissing {
                place: "the vault was loaded from a key text, which seals no tokens".to_owned(),
            }
            .into()),
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

fn configured(sealer: Sealer, config: &Config) -> Sealer {
    let sealer = sealer.with_limit(config.limit);
    if config.padded { sealer.with_padding() } else { sealer }
}
