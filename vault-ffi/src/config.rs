//! What a vault is to be loaded from.

use core::ffi::c_char;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use vault_core::{Format, HARD_LIMIT, Preset};

use crate::boundary::{self, CallFailure, MAX_TEXT, out};
use crate::context::{Pair, pairs};
use crate::error::{Error, guard};
use crate::status::Status;

/// What a vault is to be loaded from. Nothing is read before vault_load. Not to be used by two
/// threads at the same time.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) origin: Origin,
    pub(crate) environment: Option<Environment>,
    pub(crate) limit: usize,
    pub(crate) padded: bool,
    pub(crate) preset: Option<Preset>,
}

/// Where keys, and what else there is, come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Environment,
    File { path: PathBuf, profile: Option<String> },
    KeyFile(PathBuf),
    TextKeyFile { path: PathBuf, format: Format },
}

/// Variables and mounts that take the place of the process's.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, OsString>,
    pub(crate) mounts: PathBuf,
}

/// A `vault.toml` by its path. `profile` NULL: the one that VAULT_CORE_PROFILE names, if any.
///
/// Fails with VAULT_USAGE, VAULT_MALFORMED or VAULT_TOO_LARGE for a path that is none.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_from_file(
    path: *const c_char,
    path_len: usize,
    profile: *const c_char,
    profile_len: usize,
    config: *mut *mut Config,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (path, config) = unsafe { (read_path(path, path_len)?, out(config)?) };
        // SAFETY: the rules of the header.
        let profile = unsafe { boundary::optional_text(profile, profile_len, "profile", MAX_TEXT)? };
        config.give(Config::new(Origin::File { path, profile: profile.map(str::to_owned) }));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The `vault.toml` that VAULT_CORE_CONFIG names when vault_load is called. A library never searches
/// for one.
///
/// Fails with VAULT_USAGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_from_env(config: *mut *mut Config, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let config = unsafe { out(config)? };
        config.give(Config::new(Origin::Environment));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The one master key in a file, without a `vault.toml`: such a vault seals and opens, and has no
/// secrets by name.
///
/// Fails as vault_config_from_file.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_from_key_file(
    path: *const c_char,
    path_len: usize,
    config: *mut *mut Config,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (path, config) = unsafe { (read_path(path, path_len)?, out(config)?) };
        config.give(Config::new(Origin::KeyFile(path)));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The one key text in a file, without a `vault.toml`, read as the application of a legacy format
/// reads it: such a vault reads and writes legacy formats, with `keyring` NULL.
///
/// Fails as vault_config_from_file, and with VAULT_UNSUPPORTED for a format that is not known or not
/// legacy.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_from_text_key_file(
    path: *const c_char,
    path_len: usize,
    format: *const c_char,
    format_len: usize,
    config: *mut *mut Config,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (path, config) = unsafe { (read_path(path, path_len)?, out(config)?) };
        // SAFETY: the rules of the header.
        let format: Format = unsafe { boundary::text(format, format_len, "format", MAX_TEXT)? }.parse()?;
        if !format.is_legacy() {
            return Err(vault_core::Error::Unsupported { what: "format: it is not a legacy one" }.into());
        }
        config.give(Config::new(Origin::TextKeyFile { path, format }));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Accepts secrets of up to `limit` bytes, at most 16777216; without this, 1048576.
///
/// Fails with VAULT_USAGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_set_limit(config: *mut Config, limit: usize, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        unsafe { config_of(config)? }.limit = limit.min(HARD_LIMIT);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// With `padded` not 0, pads what is sealed to a multiple of 32 bytes, so that tokens tell less of
/// the length.
///
/// Fails with VAULT_USAGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_set_padding(config: *mut Config, padded: u32, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        unsafe { config_of(config)? }.padded = padded != 0;
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Finds every secret by the rules of a preset, as in "strict", whatever `vault.toml` declares. Keys
/// are found as it declares.
///
/// Fails with VAULT_USAGE, and VAULT_UNSUPPORTED for a preset that is not known.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_set_preset(
    config: *mut Config,
    preset: *const c_char,
    preset_len: usize,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (config, preset) = unsafe { (config_of(config)?, boundary::text(preset, preset_len, "preset", MAX_TEXT)?) };
        config.preset = Some(preset.parse()?);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Looks for secrets at these variables instead of the process's, and in `mounts` instead of
/// /run/secrets. Keys are found where the process was told to look. The library keeps copies of the
/// variables, and no more wipes them than the system does the process's own.
///
/// Fails with VAULT_USAGE, VAULT_MALFORMED or VAULT_TOO_LARGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_set_environment(
    config: *mut Config,
    variables: *const Pair,
    variables_len: usize,
    mounts: *const c_char,
    mounts_len: usize,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (config, mounts) = unsafe { (config_of(config)?, read_path(mounts, mounts_len)?) };
        // SAFETY: the rules of the header.
        let variables = unsafe { pairs(variables, variables_len)? };
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        config.environment = Some(Environment { variables, mounts });
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Frees a configuration. Vaults that were loaded from it stay. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_config_free(config: *mut Config) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(config) }
}

impl Config {
    fn new(origin: Origin) -> Self {
        Self { origin, environment: None, limit: vault_core::DEFAULT_LIMIT, padded: false, preset: None }
    }
}

/// Without the values, which are secrets.
impl core::fmt::Debug for Environment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Environment").field("mounts", &self.mounts).finish_non_exhaustive()
    }
}

/// # Safety
///
/// As [`boundary::object_mut`].
unsafe fn config_of<'a>(config: *mut Config) -> Result<&'a mut Config, CallFailure> {
    // SAFETY: as the caller says.
    unsafe { boundary::object_mut(config, "the configuration is NULL") }
}

/// # Safety
///
/// As [`boundary::elements`].
unsafe fn read_path(path: *const c_char, len: usize) -> Result<PathBuf, CallFailure> {
    // SAFETY: as the caller says.
    let path = unsafe { boundary::text(path, len, "path", MAX_TEXT)? };
    if path.is_empty() || path.contains('\0') {
        return Err(CallFailure::Usage("a path is empty or has a NUL in it"));
    }
    Ok(path.into())
}
