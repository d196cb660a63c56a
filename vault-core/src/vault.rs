//! The object that applications and operators hold: keyrings, resolver, store and columns of one
//! configuration.

mod check;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod databases;
mod heartbeat;
mod legacy;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod rotation;
mod store;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::heartbeat::Node;
use crate::context::Context;
use crate::error::{Error, Place, Result};
use crate::file;
use crate::key::{KeyId, KeyTextError, MasterKey, TextKey};
use crate::keyring::{
    self, Change, Found, KeyState, KeyView, Keyring, KeyringKind, KeyringState, Material, NewKey, StateFile, States,
};
use crate::legacy::LegacyKey;
use crate::manifest::{KeyringSpec, MAIN, Manifest, Preset, StateLocation};
use crate::os_keyring::OsKeyring;
use crate::permissions;
use crate::registry::{self, RegisteredStates, Registry};
use crate::resolver::{self, Resolver};
use crate::sealer::Sealer;
use crate::secret::SecretBytes;
use crate::store::Store;
use crate::token::Token;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use rotation::Scope;

/// Where a vault's configuration is.
#[derive(Clone, Debug)]
pub struct Config {
    manifest: Manifest,
    os_keyring: Option<Arc<dyn OsKeyring>>,
    process: Option<String>,
    silent: bool,
}

impl Config {
    /// Reads a `vault.toml`, with the profile that `VAULT_CORE_PROFILE` names.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Config`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_profile(path, resolver::profile_from_environment().as_deref())
    }

    /// Reads a `vault.toml` with a profile.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file).
    pub fn with_profile(path: impl AsRef<Path>, profile: Option<&str>) -> Result<Self> {
        Ok(Self { manifest: Manifest::load(path.as_ref(), profile)?, os_keyring: None, process: None, silent: false })
    }

    /// Reads the `vault.toml` that `VAULT_CORE_CONFIG` names. A library never searches for one.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the variable is not set, else as [`from_file`](Self::from_file).
    pub fn from_env() -> Result<Self> {
        let (path, profile) = resolver::config_from_environment()
            .ok_or_else(|| Error::NotFound { what: "environment variable VAULT_CORE_CONFIG".to_owned() })?;
        Self::with_profile(path, profile.as_deref())
    }

    /// Reads the `vault.toml` that `VAULT_CORE_CONFIG` names, or the one in `start`, its parents
    /// or `/etc/vault`: what a command does.
    ///
    /// What is found, and not named, decides which secrets a program gets and which databases are
    /// written. So it and every directory on the way belong to root or to this process's user, and
    /// nobody else can write them.
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialised`] if there is none; [`Error::Refused`] where somebody else can have
    /// put it there; else as [`from_file`](Self::from_file).
    pub fn search(start: &Path) -> Result<Self> {
        if resolver::config_from_environment().is_some() {
            return Self::from_env();
        }
        let path = resolver::find_config(start).ok_or_else(|| Error::NotInitialised {
            place: "here, in a parent directory, or in /etc/vault".to_owned(),
        })?;
        permissions::refuse_strangers(&path)?;
        Self::from_file(path)
    }

    /// Reads keys and secrets that are declared to be in the operating system's keyring so.
    /// Without this, such a declaration is an error where it is needed.
    #[must_use]
    pub fn with_os_keyring(self, keyring: Arc<dyn OsKeyring>) -> Self {
        Self { os_keyring: Some(keyring), ..self }
    }

    /// What it declares.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Sends no heartbeats: for whoever looks at a deployment and is no part of it. The processes that
    /// `nodes` counts send them.
    #[must_use]
    pub fn without_heartbeats(self) -> Self {
        Self { silent: true, ..self }
    }

    /// The name of this process in heartbeats, unless its machine's, its number and its start are to
    /// tell it from others. Vaults with one name count as one process.
    #[must_use]
    pub fn with_process_name(self, name: impl Into<String>) -> Self {
        Self { process: Some(name.into()), ..self }
    }

    fn registry(&self, resolver: &Resolver) -> Result<Option<Arc<dyn Registry>>> {
        self.manifest.store().map_or(Ok(None), |store| registry::open(store, resolver, None))
    }

    /// Finds secrets and keys as it declares them, but for those of the store.
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        Resolver::new(&self.manifest).with_os_keyring(self.os_keyring.clone())
    }
}

/// A keyring of either kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyKeyring {
    /// Master keys, which seal tokens.
    Kek(Keyring<MasterKey>),
    /// Key texts of a legacy format.
    Text(Keyring<LegacyKey>),
}

macro_rules! of_either {
    ($self:expr, $keyring:ident => $body:expr) => {
        match $self {
            AnyKeyring::Kek($keyring) => $body,
            AnyKeyring::Text($keyring) => $body,
        }
    };
}

impl AnyKeyring {
    /// Every key.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyView> {
        of_either!(self, keyring => keyring.keys().collect())
    }

    /// The key that seals.
    #[must_use]
    pub fn primary_kid(&self) -> KeyId {
        of_either!(self, keyring => keyring.primary_kid())
    }

    /// How often the state file was written; 0 without one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        of_either!(self, keyring => keyring.generation())
    }

    /// The keys with which it opens.
    fn opening_kids(&self) -> Vec<KeyId> {
        of_either!(self, keyring => keyring.opening_keys().map(|key| key.kid()).collect())
    }

    /// The random name that the state file gives it; none without one.
    #[must_use]
    pub fn keyring_id(&self) -> Option<&str> {
        of_either!(self, keyring => keyring.keyring_id())
    }

    /// What people should know about it.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        of_either!(self, keyring => keyring.findings())
    }
}

/// Keyrings, secrets, store and columns of one configuration. May be shared between threads and used
/// after `fork()`.
#[derive(Debug)]
pub struct Vault {
    manifest: Manifest,
    resolver: Resolver,
    registry: Option<Arc<dyn Registry>>,
    /// What tells this vault's heartbeats from those of others; none where it sends none.
    node: Option<Node>,
    keyrings: BTreeMap<String, AnyKeyring>,
    sealer: Option<Sealer>,
    store: Option<Arc<dyn Store>>,
}

impl Vault {
    /// Loads every declared keyring.
    ///
    /// # Errors
    ///
    /// Whatever makes a key unusable: [`Error::KeyMissing`], [`Error::KeyMalformed`],
    /// [`Error::KeyUnavailable`], [`Error::Refused`] for a state file that must not be trusted.
    pub fn load(config: Config) -> Result<Self> {
        Self::load_as(config, None)
    }

    /// Loads a configuration in the place of this vault, which stays as it is: for who shares a vault
    /// with threads, and replaces it whole where they [`refresh`](Self::refresh) nothing. In heartbeats
    /// both are one process.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn successor(&self, config: Config) -> Result<Self> {
        Self::load_as(config, self.node.clone())
    }

    fn load_as(config: Config, node: Option<Node>) -> Result<Self> {
        let resolver = config.resolver();
        let registry = config.registry(&resolver)?;
        let node = match node {
            _ if config.silent || registry.is_none() => None,
            Some(node) => Some(node),
            None => Some(Node::new(config.process)?),
        };
        let mut vault = Self {
            manifest: config.manifest,
            resolver,
            registry,
            node,
            keyrings: BTreeMap::new(),
            sealer: None,
            store: None,
        };
        vault.refresh()?;
        Ok(vault)
    }

    /// Looks for secrets at these variables instead of the process's, and in `mounts` instead of
    /// `/run/secrets`. Keys stay the ones that were loaded.
    #[must_use]
    pub fn with_environment(self, variables: BTreeMap<String, OsString>, mounts: impl Into<PathBuf>) -> Self {
        Self { resolver: self.resolver.clone().with_environment(variables, mounts), ..self }
    }

    /// Finds every secret by the rules of `preset`, whatever is declared. Keys stay the ones that
    /// were loaded.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        Self { resolver: self.resolver.clone().with_preset(preset), ..self }
    }

    /// Reads keys and states again. Where that fails, the vault stays as it was.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn refresh(&mut self) -> Result<()> {
        let before = self.registry.clone();
        if let Some(store) = self.manifest.store() {
            // The URL of a server may be in a secret, and have another password now.
            self.registry = registry::open(store, &self.resolver, before.as_ref())?;
        }
        let read = self.manifest.keyrings().map(|spec| Ok((spec.name.clone(), self.read(spec)?)));
        let keyrings: BTreeMap<_, _> = match read.collect::<Result<_>>() {
            Ok(keyrings) => keyrings,
            Err(error) => {
                self.registry = before;
                return Err(error);
            }
        };
        self.sealer = match keyrings.get(MAIN) {
            Some(AnyKeyring::Kek(main)) => Some(Sealer::new(main.clone())),
            _ => None,
        };
        self.keyrings = keyrings;
        self.store = store::open_declared(self)?;
        self.beat();
        Ok(())
    }

    /// What was declared.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The sealer of the keyring `main`.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn sealer(&self) -> Result<&Sealer> {
        self.sealer.as_ref().ok_or_else(|| Error::KeyMissing {
            place: "vault.toml declares no [keyring.main] of kind \"kek\"".to_owned(),
        })
    }

    /// [`Sealer::seal`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Token> {
        self.sealer()?.seal(context, plaintext)
    }

    /// [`Sealer::open`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(&self, context: &Context, token: &Token) -> Result<SecretBytes> {
        self.sealer()?.open(context, token)
    }

    /// A declared keyring.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not declared.
    pub fn keyring(&self, name: &str) -> Result<&AnyKeyring> {
        self.manifest.keyring(name)?;
        self.keyrings.get(name).ok_or_else(|| Error::NotFound { what: format!("keyring {name}") })
    }

    /// Adds the key in `file` to a keyring: as its first and primary key, or waiting as active
    /// until it is promoted. Run again after an interruption, it finishes.
    ///
    /// With `out`, the next state file is written there for redeployment, the present one stays,
    /// and the key's file is left to whoever deploys it.
    ///
    /// The store is brought up to the keyring before, as [`key_change`](Self::key_change) does.
    ///
    /// # Errors
    ///
    /// As [`Store::settle`]; [`Error::KeyMalformed`]; [`Error::Config`] if the keyring declares no state file or no
    /// source that takes another file; [`Error::Refused`]; [`Error::Io`].
    pub fn key_add(
        config: &Config,
        keyring: &str,
        file: &Path,
        label: Option<&str>,
        out: Option<&Path>,
    ) -> Result<KeyId> {
        let content = &file::read(file, file::MAX_KEY_FILE)?;
        add_either(config, keyring, &New { file, content, label, out, dry_run: false })
    }

    /// The id of the key in `file`, after everything that [`key_add`](Self::key_add) does but
    /// write.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn key_add_check(
        config: &Config,
        keyring: &str,
        file: &Path,
        label: Option<&str>,
        out: Option<&Path>,
    ) -> Result<KeyId> {
        let content = &file::read(file, file::MAX_KEY_FILE)?;
        add_either(config, keyring, &New { file, content, label, out, dry_run: true })
    }

    /// Generates a key and adds it to a keyring, as [`key_add`](Self::key_add) does. Run again
    /// after an interruption, it goes on with the key that the state file lists by then.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::CannotSeal`] if the operating system gives no randomness.
    pub fn key_generate(config: &Config, keyring: &str, label: Option<&str>) -> Result<KeyId> {
        let spec = config.manifest.keyring(keyring)?;
        let resolver = config.resolver();
        let registry = config.registry(&resolver)?;
        let place = KeyringPlace { spec, resolver: &resolver, registry: registry.as_deref() };
        let left = match spec.kind {
            KeyringKind::Kek => interrupted(place, master_key)?,
            KeyringKind::Text => interrupted(place, text_key)?,
        };
        let key = MasterKey::generate()?;
        let content = left.as_ref().unwrap_or(key.text());
        add_either(config, keyring, &New { file: Path::new(""), content, label, out: None, dry_run: false })
    }

    /// Changes the state of a key: under the lock of the state file, after reading it again. With
    /// `out`, the next state file is written there and the present one stays.
    ///
    /// The store is brought up to the keyring before and after, so that wherever this is
    /// interrupted, store and keyring fit each other.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a move that is not allowed, [`Error::UnknownKey`],
    /// [`Error::CannotSeal`] if the key to promote is weak or published, [`Error::Config`]
    /// without a state file, [`Error::Io`], [`Error::DurabilityUnknown`].
    pub fn key_change(&self, keyring: &str, change: &Change, out: Option<&Path>) -> Result<KeyringState> {
        let spec = self.manifest.keyring(keyring)?;
        let place = self.place_of(spec);
        let states = &*place.needed_states()?;
        let load_keys = || place.load(None, master_key);
        match spec.kind {
            KeyringKind::Kek if spec.name == MAIN => {
                store::settle_under(&self.manifest, load_keys()?)?;
                let state = keyring::change(states, out, load_keys, change)?;
                if out.is_none() {
                    store::settle_under(&self.manifest, load_keys()?)?;
                }
                Ok(state)
            }
            KeyringKind::Kek => keyring::change(states, out, load_keys, change),
            KeyringKind::Text => keyring::change(states, out, || place.load(None, text_key), change),
        }
    }

    /// Whether [`key_change`](Self::key_change) could put a key into the state `to`, by the states
    /// and the material that are loaded. Whether values need the key is not asked.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn key_check(&self, keyring: &str, kid: KeyId, to: KeyState) -> Result<()> {
        self.place_of(self.manifest.keyring(keyring)?).needed_states()?;
        of_either!(self.keyring(keyring)?, loaded => keyring::check(loaded, kid, to))
    }

    fn read(&self, spec: &KeyringSpec) -> Result<AnyKeyring> {
        Ok(match spec.kind {
            KeyringKind::Kek => AnyKeyring::Kek(self.place_of(spec).load(None, master_key)?),
            KeyringKind::Text => AnyKeyring::Text(self.place_of(spec).load(None, text_key)?),
        })
    }

    fn place_of<'a>(&'a self, spec: &'a KeyringSpec) -> KeyringPlace<'a> {
        KeyringPlace { spec, resolver: &self.resolver, registry: self.registry.as_deref() }
    }
}

/// How a key is made of what a source has: place, content, declaration.
type Parse<K> = fn(&str, &SecretBytes, &KeyringSpec) -> Result<K>;

/// A key that is to be added.
struct New<'a> {
    /// Where it is; empty for one that is nowhere yet.
    file: &'a Path,
    content: &'a SecretBytes,
    label: Option<&'a str>,
    out: Option<&'a Path>,
    dry_run: bool,
}

fn add_either(config: &Config, keyring: &str, new: &New<'_>) -> Result<KeyId> {
    let spec = config.manifest.keyring(keyring)?;
    let resolver = config.resolver();
    let registry = config.registry(&resolver)?;
    let place = KeyringPlace { spec, resolver: &resolver, registry: registry.as_deref() };
    match spec.kind {
        KeyringKind::Kek => add(place, new, master_key, |keyring| match spec.name.as_str() {
            MAIN => store::settle_under(&config.manifest, keyring),
            _ => Ok(()),
        }),
        KeyringKind::Text => add(place, new, text_key, |_| Ok(())),
    }
}

/// `settle` is given the keyring before it changes, where there is one.
fn add<K: Material>(
    at: KeyringPlace<'_>,
    new: &New<'_>,
    parse: Parse<K>,
    settle: impl FnOnce(Keyring<K>) -> Result<()>,
) -> Result<KeyId> {
    let New { file, content, label, out, dry_run } = *new;
    let key = parse(&file.display().to_string(), content, at.spec)?;
    let kid = key.kid();
    let stem = label.filter(|label| label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')));
    let destination = &at.spec.destination(file, stem.unwrap_or(kid.as_str()))?;
    let states = &*at.needed_states()?;
    let new = &NewKey { key: &key, content, label: label.map(str::to_owned) };
    let load = |except: Option<&Path>| at.load(except, parse);
    if dry_run {
        keyring::check_addition(out, destination, new, load)?;
    } else {
        // What the last promotion left to do in the store would look like an older file, once
        // the generation is raised again.
        if let Ok(keyring) = load(None).or_else(|_| load(Some(destination))) {
            settle(keyring)?;
        }
        keyring::add(states, out, destination, new, load)?;
    }
    Ok(kid)
}

/// The content of a key that the state file lists and whose file an interrupted run did not put
/// where a source finds it.
fn interrupted<K: Material>(at: KeyringPlace<'_>, parse: Parse<K>) -> Result<Option<SecretBytes>> {
    let loaded = match at.load(None, parse) {
        Err(Error::KeyMissing { .. }) => return Ok(None),
        other => other?,
    };
    for key in loaded.keys().filter(|key| key.state == KeyState::Active && key.place.is_none()) {
        let destination = at.spec.destination(Path::new(""), key.kid.as_str())?;
        match file::read(&keyring::hidden(&destination, key.kid), file::MAX_KEY_FILE) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// A declared keyring, and where its keys and states are.
#[derive(Clone, Copy)]
struct KeyringPlace<'a> {
    spec: &'a KeyringSpec,
    resolver: &'a Resolver,
    registry: Option<&'a dyn Registry>,
}

impl<'a> KeyringPlace<'a> {
    /// The keyring as its sources and its states have it, but for the key in the file `except`.
    fn load<K: Material>(self, except: Option<&Path>, parse: Parse<K>) -> Result<Keyring<K>> {
        let found = || {
            let contents = self.resolver.key_contents(self.spec)?.into_iter();
            contents
                .filter(|(place, _)| except.is_none_or(|except| Path::new(place) != except))
                .map(|(place, content)| Ok(Found { key: parse(&place, &content, self.spec)?, place }))
                .collect()
        };
        Keyring::read(found, || self.read_states(), self.spec.min_generation)
    }

    fn read_states(self) -> Result<Option<KeyringState>> {
        self.states().map_or(Ok(None), |states| states.read())
    }

    /// Where its states are, if it is declared to have any.
    fn states(self) -> Option<Box<dyn States + 'a>> {
        match (&self.spec.state, self.registry) {
            (Some(StateLocation::File(path)), _) => Some(Box::new(StateFile(path))),
            (Some(StateLocation::Store), Some(registry)) => {
                Some(Box::new(RegisteredStates { registry, keyring: &self.spec.name }))
            }
            _ => None,
        }
    }

    fn needed_states(self) -> Result<Box<dyn States + 'a>> {
        self.states().ok_or_else(|| Error::Config {
            place: Place::file("vault.toml"),
            reason: format!("[keyring.{}] declares no `state`, which a second key needs", self.spec.name),
        })
    }
}

fn master_key(place: &str, content: &SecretBytes, _: &KeyringSpec) -> Result<MasterKey> {
    MasterKey::parse_for_opening(content.expose_secret()).map_err(|reason| malformed(place, reason))
}

fn text_key(place: &str, content: &SecretBytes, spec: &KeyringSpec) -> Result<LegacyKey> {
    TextKey::parse(content.expose_secret(), spec.trim).map(LegacyKey::new).map_err(|reason| malformed(place, reason))
}

fn malformed(place: &str, reason: KeyTextError) -> Error {
    Error::KeyMalformed { place: place.to_owned(), reason }
}
