//! The object that applications and operators hold: keyrings, resolver, store and columns of one
//! configuration.

mod check;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod databases;
mod heartbeat;
mod legacy;
mod loaded;
mod look;
mod primary;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod rotation;
mod store;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::heartbeat::Node;
use self::loaded::Loaded;
use self::look::{Current, Report};
use crate::context::{Context, ContextHash};
use crate::error::{Error, Place, Result};
use crate::file;
use crate::follow::{Follower, Turn};
use crate::format::Format;
use crate::key::{KeyFormat, KeyId, KeyTextError, MasterKey, TextKey, Trim};
use crate::keyring::{
    self, Change, Found, KeyState, KeyView, Keyring, KeyringKind, KeyringState, Material, NewKey, StateFile, States,
};
use crate::legacy::LegacyKey;
#[cfg(feature = "postgres")]
use crate::manifest::StoreLocation;
use crate::manifest::{KeyringSpec, MAIN, Manifest, Preset, StateLocation};
use crate::os_keyring::OsKeyring;
use crate::permissions;
use crate::registry::{self, RegisteredStates, Registry};
use crate::resolver::{self, Resolver};
use crate::sealer::Sealer;
use crate::secret::SecretBytes;
use crate::token::{DEFAULT_LIMIT, Token};

pub use look::Following;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use rotation::Scope;

/// Where a vault's configuration is, and how it seals.
#[derive(Clone, Debug)]
pub struct Config {
    manifest: Manifest,
    keys: KeyLocation,
    limit: usize,
    padded: bool,
    os_keyring: Option<Arc<dyn OsKeyring>>,
    process: Option<String>,
    silent: bool,
    lenient: bool,
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
        Ok(Self::new(Manifest::load(path.as_ref(), profile)?, KeyLocation::Declared))
    }

    /// The one master key in a file, in any form that [`MasterKey::parse`] accepts, without a
    /// `vault.toml`. The vault follows the file: a key that takes its place is read.
    #[must_use]
    pub fn from_key_file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self::new(Manifest::of_key_file(path, KeyringKind::Kek, Trim::default()), KeyLocation::File(path.to_owned()))
    }

    /// The one key text in a file, read as the application of `format` reads it, without a `vault.toml`.
    /// The vault follows the file. Its keyring is called `main`.
    #[must_use]
    pub fn from_text_key_file(path: impl AsRef<Path>, format: Format) -> Self {
        let path = path.as_ref();
        let manifest = Manifest::of_key_file(path, KeyringKind::Text, format.trim());
        Self::new(manifest, KeyLocation::File(path.to_owned()))
    }

    fn new(manifest: Manifest, keys: KeyLocation) -> Self {
        Self {
            manifest,
            keys,
            limit: DEFAULT_LIMIT,
            padded: false,
            os_keyring: None,
            process: None,
            silent: false,
            lenient: false,
        }
    }

    /// Accepts plaintexts of up to `limit` bytes, as [`Sealer::with_limit`].
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Pads what is sealed, as [`Sealer::with_padding`].
    #[must_use]
    pub fn with_padding(self) -> Self {
        Self { padded: true, ..self }
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

    /// Loads keyrings also where the material of a decrypt-only key is missing: what is under it does
    /// not open, and the keyring's findings say so. For commands, one of which takes such a key out of
    /// the states; an application should not start without a key that its values may need.
    #[must_use]
    pub fn despite_missing_keys(self) -> Self {
        Self { lenient: true, ..self }
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

    /// Whether both have the same keys from the same places, in the same states.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kek(one), Self::Kek(two)) => one.is_same(two),
            (Self::Text(one), Self::Text(two)) => one.is_same(two),
            _ => false,
        }
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

/// Where the keys are.
#[derive(Clone, Debug)]
enum KeyLocation {
    /// Where `vault.toml` says.
    Declared,
    /// In one file, without a `vault.toml`.
    File(PathBuf),
}

/// Keyrings, secrets, store and columns of one configuration. May be shared between threads and used
/// after `fork()`.
///
/// A vault follows changes of its keys: before it seals or opens, it looks whether keys or their states
/// have changed if its last look is older than `follow` in `vault.toml` (1 s), and it looks once more before
/// it refuses a value whose key it does not know or may not use. A look asks for the states of files, and
/// where the states of keys are in a database for those; it reads only what has changed. One that fails
/// leaves what is loaded, and [`following`](Self::following) shows why. `vault.toml` itself is read once.
#[derive(Debug)]
pub struct Vault {
    manifest: Manifest,
    location: KeyLocation,
    limit: usize,
    padded: bool,
    /// Whether it does without the material of decrypt-only keys.
    lenient: bool,
    /// Finds secrets by name.
    resolver: Resolver,
    /// Finds keys, and the store.
    keys: Resolver,
    /// What tells this vault's heartbeats from those of others; none where it sends none.
    node: Option<Node>,
    follower: Follower,
    /// What is loaded. No lock: one that another thread held while the process forked would stay locked in
    /// the child.
    current: ArcSwap<Current>,
    report: Report,
}

impl Vault {
    /// Loads every declared keyring.
    ///
    /// # Errors
    ///
    /// Whatever makes a key unusable: [`Error::KeyMissing`], [`Error::KeyMalformed`],
    /// [`Error::KeyUnavailable`], [`Error::Refused`] for a state file that must not be trusted;
    /// [`Error::Io`] for a key file without a `vault.toml` that cannot be read.
    pub fn load(config: Config) -> Result<Self> {
        let resolver = config.resolver();
        let node = if config.silent { None } else { Some(Node::new(config.process)?) };
        let vault = Self {
            follower: Follower::new(config.manifest.follow()),
            manifest: config.manifest,
            location: config.keys,
            limit: config.limit,
            padded: config.padded,
            keys: resolver.clone(),
            lenient: config.lenient,
            resolver,
            node,
            current: ArcSwap::from_pointee(Current::nothing()),
            report: Report::default(),
        };
        vault.refresh()?;
        Ok(vault)
    }

    /// Looks for secrets at these variables instead of the process's, and in `mounts` instead of
    /// `/run/secrets`. Keys are found where the process was told to look.
    #[must_use]
    pub fn with_environment(self, variables: BTreeMap<String, OsString>, mounts: impl Into<PathBuf>) -> Self {
        Self { resolver: self.resolver.clone().with_environment(variables, mounts), ..self }
    }

    /// Finds every secret by the rules of `preset`, whatever is declared. Keys are found as they are
    /// declared.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        Self { resolver: self.resolver.clone().with_preset(preset), ..self }
    }

    /// Reads keys and states again, whether they seem to have changed or not. Where that fails, the vault
    /// stays as it was. A vault follows changes by itself, so this is rarely needed: after a key of the
    /// operating system's keyring has changed, or to have the error at hand.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); [`Error::Refused`] for states that are older than the loaded ones.
    pub fn refresh(&self) -> Result<()> {
        let looked = self.follower.now(|turn| self.look_and_keep(turn, true));
        self.report.at_once();
        self.report(Some(&looked));
        looked
    }

    /// How it follows changes of its keys.
    #[must_use]
    pub fn following(&self) -> Following {
        self.report.following()
    }

    /// Before something is sealed under what is [`loaded`](Self::loaded) then.
    fn before_sealing(&self) {
        if !self.follower.is_fresh() {
            self.report(self.follower.before_sealing(|turn| self.look_and_keep(turn, false)).as_ref());
        }
    }

    /// Before something is opened.
    fn before_opening(&self) {
        if !self.follower.is_fresh() {
            self.report(self.follower.before_opening(|turn| self.look_and_keep(turn, false)).as_ref());
        }
    }

    /// Opens something. If `curable` says that newer keys may open what these do not, looks for them and
    /// opens it once more.
    fn opening<T>(&self, curable: fn(&Error) -> bool, open: impl Fn(&Loaded) -> Result<T>) -> Result<T> {
        self.before_opening();
        let before = self.current.load();
        match open(&before.loaded) {
            Err(error) if curable(&error) => self.newer_than(&before.loaded).map_or(Err(error), |loaded| open(&loaded)),
            other => other,
        }
    }

    /// What is loaded after another look, if that is something else.
    fn newer_than(&self, before: &Arc<Loaded>) -> Option<Arc<Loaded>> {
        self.report(self.follower.after_failure(|turn| self.look_and_keep(turn, false)).as_ref());
        let after = self.loaded();
        (!Arc::ptr_eq(before, &after)).then_some(after)
    }

    fn look_now(&self) -> Result<()> {
        let looked = self.follower.now(|turn| self.look_and_keep(turn, false));
        self.report(Some(&looked));
        looked
    }

    /// What is loaded at this moment.
    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.load().loaded)
    }

    /// What is loaded, with connections of this process.
    fn connected(&self) -> Result<Arc<Loaded>> {
        if !self.current.load().is_own() {
            // What fails in it need not be what is asked for.
            drop(self.look_now());
        }
        let current = self.current.load();
        if current.is_own() {
            return Ok(Arc::clone(&current.loaded));
        }
        // Only the secret that the URL is in can fail here.
        Ok(self.reconnected(&current)?.loaded)
    }

    /// Looks, and keeps what was read.
    fn look_and_keep(&self, turn: Turn, all: bool) -> Result<()> {
        let looked = self.where_blocking_is_allowed(|| self.read_until_newest(turn, all)).and_then(|looked| looked);
        self.report.looked(looked.as_ref().err());
        looked
    }

    /// A look that took long may have been taken over, and what it read be older than what the other look
    /// has put here: then it is read again.
    fn read_until_newest(&self, turn: Turn, all: bool) -> Result<()> {
        let keep = |before: &Arc<Current>, read: Current| {
            Arc::ptr_eq(&self.current.compare_and_swap(before, Arc::new(read)), before)
        };
        let before = self.current.load_full();
        if turn == Turn::TakenOver || !before.is_own() {
            keep(&before, self.reconnected(&before)?);
            self.report.at_once();
        }
        loop {
            let before = self.current.load_full();
            let read = self.look(&before, all)?;
            let changed = !Arc::ptr_eq(&before.loaded, &read.loaded);
            if keep(&before, read) {
                if changed {
                    self.report.at_once();
                }
                return Ok(());
            }
        }
    }

    /// Tells others of a look, where there was one, unless that was done a moment ago. Nobody waits for
    /// that who waited for the look.
    fn report(&self, looked: Option<&Result<()>>) {
        let Some(looked) = looked else { return };
        if self.report.is_due() && self.current.load().is_own() {
            // Who cannot be told does without.
            let _ = self.where_blocking_is_allowed(|| self.beat(looked.as_ref().err()));
        }
    }

    /// Works on a thread of its own where this one runs tasks of an async runtime: PostgreSQL's client has
    /// a runtime, too, and none may run inside another.
    fn where_blocking_is_allowed<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        #[cfg(feature = "postgres")]
        if matches!(
            self.manifest.store().map(|store| &store.location),
            Some(StoreLocation::Postgres(_) | StoreLocation::Secret(_))
        ) && crate::database::postgres::runs_tasks()
        {
            let failed = || Error::Temporary {
                reason: "the system gives no thread to look at keys from an async runtime".to_owned(),
                remedy: "raise the limit of threads of this process".to_owned(),
            };
            return std::thread::scope(|scope| {
                let spawned = std::thread::Builder::new().spawn_scoped(scope, work).map_err(|_| failed())?;
                spawned.join().map_err(|_| failed())
            });
        }
        Ok(work())
    }

    /// What was declared.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The sealer of the keyring `main`, as it is loaded at this moment. It follows no change: what is kept
    /// for long seals and opens by the vault itself.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn sealer(&self) -> Result<Sealer> {
        self.sealer_in(&self.current.load().loaded).cloned()
    }

    fn sealer_in<'a>(&self, loaded: &'a Loaded) -> Result<&'a Sealer> {
        loaded.sealer.as_ref().ok_or_else(|| Error::KeyMissing {
            place: match &self.location {
                KeyLocation::Declared => "vault.toml declares no [keyring.main] of kind \"kek\"".to_owned(),
                KeyLocation::File(_) => "the vault was loaded from a key text, which seals no tokens".to_owned(),
            },
        })
    }

    /// [`Sealer::seal`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Token> {
        self.before_sealing();
        self.sealer_in(&self.current.load().loaded)?.seal(context, plaintext)
    }

    /// [`Sealer::open`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(&self, context: &Context, token: &Token) -> Result<SecretBytes> {
        self.opening(newer_keys_may_open, |loaded| self.sealer_in(loaded)?.open(context, token))
    }

    /// [`Sealer::seal_for`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn seal_for(&self, context: &ContextHash, plaintext: &[u8]) -> Result<Token> {
        self.before_sealing();
        self.sealer_in(&self.current.load().loaded)?.seal_for(context, plaintext)
    }

    /// [`Sealer::open_for`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn open_for(&self, context: &ContextHash, token: &Token) -> Result<SecretBytes> {
        self.opening(newer_keys_may_open, |loaded| self.sealer_in(loaded)?.open_for(context, token))
    }

    /// [`Sealer::rewrap`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn rewrap(&self, token: &Token) -> Result<Token> {
        self.before_sealing();
        self.opening(newer_keys_may_open, |loaded| self.sealer_in(loaded)?.rewrap(token))
    }

    /// [`Sealer::verify`] of the keyring `main`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn verify(&self, token: &Token) -> Result<()> {
        self.opening(newer_keys_may_open, |loaded| self.sealer_in(loaded)?.verify(token))
    }

    /// Seals many values: `seal` is given the sealer of the keyring `main` after at most one look. All are
    /// sealed under one primary key.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn sealing<T>(&self, seal: impl FnOnce(&Sealer) -> T) -> Result<T> {
        self.before_sealing();
        Ok(seal(self.sealer_in(&self.loaded())?))
    }

    /// Opens many values: `open` is given the sealer of the keyring `main`, and returns whether newer keys
    /// may open what did not open. Then, if another look finds other keys, it is given the sealer of those,
    /// once. [`may_be_newer`](Self::may_be_newer) judges the errors.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`] if no such keyring of master keys is declared.
    pub fn opening_many(&self, mut open: impl FnMut(&Sealer) -> bool) -> Result<()> {
        self.before_opening();
        let before = self.loaded();
        if open(self.sealer_in(&before)?)
            && let Some(after) = self.newer_than(&before)
        {
            open(self.sealer_in(&after)?);
        }
        Ok(())
    }

    /// Whether newer keys or states may open what did not open.
    #[must_use]
    pub fn may_be_newer(error: &Error) -> bool {
        newer_keys_may_open(error)
    }

    /// A declared keyring, as it is loaded at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not declared.
    pub fn keyring(&self, name: &str) -> Result<AnyKeyring> {
        self.manifest.keyring(name)?;
        let loaded = self.current.load();
        let keyring = loaded.loaded.keyrings.get(name).cloned();
        keyring.ok_or_else(|| Error::NotFound { what: format!("keyring {name}") })
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
    /// As [`settle`](Self::settle); [`Error::KeyMalformed`]; [`Error::Config`] if the keyring declares no state file or no
    /// source that takes another file; [`Error::Refused`]; [`Error::Io`].
    pub fn key_add(
        config: &Config,
        keyring: &str,
        file: &Path,
        label: Option<&str>,
        out: Option<&Path>,
    ) -> Result<KeyId> {
        let content = &file::read(file, file::MAX_KEY_FILE)?;
        add_either(config, keyring, &New { file, content, label, out, dry_run: false, generation: None })
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
        add_either(config, keyring, &New { file, content, label, out, dry_run: true, generation: None })
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
        let place = KeyringPlace { spec, resolver: &resolver, registry: registry.as_deref(), lenient: config.lenient };
        let left = match spec.kind {
            KeyringKind::Kek => interrupted(place, master_key)?,
            KeyringKind::Text => interrupted(place, text_key)?,
        };
        let key = MasterKey::generate()?;
        let content = left.as_ref().unwrap_or(key.text());
        add_either(
            config,
            keyring,
            &New { file: Path::new(""), content, label, out: None, dry_run: false, generation: None },
        )
    }

    /// The text of a key, as the source has it that has the key.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn key_text(&self, keyring: &str, kid: KeyId) -> Result<SecretBytes> {
        let spec = self.manifest.keyring(keyring)?;
        let place = self.keyring(keyring)?.keys().into_iter().find(|key| key.kid == kid).and_then(|key| key.place);
        let contents = self.keys.key_contents(spec)?;
        let found = contents.into_iter().find(|(found, _)| Some(found) == place.as_ref());
        found.map(|(_, content)| content).ok_or_else(|| Error::NotFound { what: format!("the text of key {kid}") })
    }

    /// Generates a key and adds it, if the keyring still has this generation: whoever comes second of two makes
    /// none.
    ///
    /// # Errors
    ///
    /// As [`key_generate`](Self::key_generate); [`Error::Temporary`] where somebody else changed the keyring
    /// meanwhile.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn key_generate_next(&self, keyring: &str, generation: u64) -> Result<KeyId> {
        let spec = self.manifest.keyring(keyring)?;
        let loaded = self.connected()?;
        let place = self.place_of(spec, &loaded);
        let left = match spec.kind {
            KeyringKind::Kek => interrupted(place, master_key)?,
            KeyringKind::Text => interrupted(place, text_key)?,
        };
        let key = MasterKey::generate()?;
        let new = New {
            file: Path::new(""),
            content: left.as_ref().unwrap_or(key.text()),
            label: None,
            out: None,
            dry_run: false,
            generation: Some(generation),
        };
        add_to(place, &self.manifest, &new)
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
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        if let Change::Promote(kid, _) = change {
            self.refuse_fenced(keyring, *kid)?;
        }
        let loaded = self.connected()?;
        let place = self.place_of(spec, &loaded);
        let states = &*place.needed_states()?;
        let load_keys = || place.load(None, master_key, None);
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
            KeyringKind::Text => keyring::change(states, out, || place.load(None, text_key, None), change),
        }
    }

    /// Whether [`key_change`](Self::key_change) could put a key into the state `to`, by the states
    /// and the material that are loaded. Whether values need the key is not asked.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn key_check(&self, keyring: &str, kid: KeyId, to: KeyState) -> Result<()> {
        let loaded = self.connected()?;
        self.place_of(self.manifest.keyring(keyring)?, &loaded).needed_states()?;
        of_either!(&self.keyring(keyring)?, loaded => keyring::check(loaded, kid, to))
    }

    /// Reads a keyring. What `known` has derived already is not derived again.
    fn read(
        &self,
        spec: &KeyringSpec,
        registry: Option<&dyn Registry>,
        known: Option<&AnyKeyring>,
    ) -> Result<AnyKeyring> {
        let place = KeyringPlace { spec, resolver: &self.keys, registry, lenient: self.lenient };
        Ok(match (spec.kind, known) {
            (KeyringKind::Kek, Some(AnyKeyring::Kek(known))) => {
                AnyKeyring::Kek(self.load_from(place, master_key, Some(known))?)
            }
            (KeyringKind::Kek, _) => AnyKeyring::Kek(self.load_from(place, master_key, None)?),
            (KeyringKind::Text, Some(AnyKeyring::Text(known))) => {
                AnyKeyring::Text(self.load_from(place, text_key, Some(known))?)
            }
            (KeyringKind::Text, _) => AnyKeyring::Text(self.load_from(place, text_key, None)?),
        })
    }

    fn load_from<K: Material>(
        &self,
        at: KeyringPlace<'_>,
        parse: Parse<K>,
        known: Option<&Keyring<K>>,
    ) -> Result<Keyring<K>> {
        let KeyLocation::File(path) = &self.location else { return at.load(None, parse, known) };
        // It has to be there, and an error says more of it than that no source has a key.
        let content = file::read(path, file::MAX_KEY_FILE)?;
        let place = path.display().to_string();
        let key = parse(&place, &content, at.spec, known)?;
        Keyring::of_shared(vec![Found { key, place }], None, 0, None)
    }

    fn place_of<'a>(&'a self, spec: &'a KeyringSpec, loaded: &'a Loaded) -> KeyringPlace<'a> {
        KeyringPlace { spec, resolver: &self.keys, registry: loaded.registry.as_deref(), lenient: self.lenient }
    }
}

/// Whether a token that did not open may be under a key that was added, or enabled, since the last look.
fn newer_keys_may_open(error: &Error) -> bool {
    matches!(error, Error::UnknownKey { .. } | Error::KeyUnavailable { .. } | Error::KeyDisabled { .. })
}

/// How a key is made of what a source has: place, content, declaration, and the keys that are known already.
type Parse<K> = fn(&str, &SecretBytes, &KeyringSpec, Option<&Keyring<K>>) -> Result<Arc<K>>;

/// A key that is to be added.
struct New<'a> {
    /// Where it is; empty for one that is nowhere yet.
    file: &'a Path,
    content: &'a SecretBytes,
    label: Option<&'a str>,
    out: Option<&'a Path>,
    dry_run: bool,
    /// The generation that the keyring must have.
    generation: Option<u64>,
}

fn add_either(config: &Config, keyring: &str, new: &New<'_>) -> Result<KeyId> {
    let spec = config.manifest.keyring(keyring)?;
    let resolver = config.resolver();
    let registry = config.registry(&resolver)?;
    add_to(
        KeyringPlace { spec, resolver: &resolver, registry: registry.as_deref(), lenient: config.lenient },
        &config.manifest,
        new,
    )
}

fn add_to(place: KeyringPlace<'_>, manifest: &Manifest, new: &New<'_>) -> Result<KeyId> {
    match place.spec.kind {
        KeyringKind::Kek => add(place, new, master_key, |keyring| match place.spec.name.as_str() {
            MAIN => store::settle_under(manifest, keyring),
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
    let New { file, content, label, out, dry_run, generation } = *new;
    let key = parse(&file.display().to_string(), content, at.spec, None)?;
    let kid = key.kid();
    let stem = label.filter(|label| label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')));
    let destination = &at.spec.destination(file, stem.unwrap_or(kid.as_str()))?;
    let states = &*at.needed_states()?;
    let new = &NewKey { key: &*key, content, label: label.map(str::to_owned), generation };
    let load = |except: Option<&Path>| at.load(except, parse, None);
    if dry_run {
        keyring::check_addition(out, destination, new, load)?;
    } else {
        // What the last promotion left to do in the store would look like an older file, once
        // the generation is raised again.
        let present = || load(None).or_else(|_| load(Some(destination)));
        if let Ok(keyring) = present() {
            let generation = keyring.generation();
            settle(keyring).map_err(|error| match present() {
                // What the store refuses is only older than what somebody else has just written.
                Ok(now) if now.generation() != generation => Error::Temporary {
                    reason: format!("keyring {} was changed by somebody else", at.spec.name),
                    remedy: "run the command again".to_owned(),
                },
                _ => error,
            })?;
        }
        keyring::add(states, out, destination, new, load)?;
    }
    Ok(kid)
}

/// The content of a key that the state file lists and whose file an interrupted run did not put
/// where a source finds it.
fn interrupted<K: Material>(at: KeyringPlace<'_>, parse: Parse<K>) -> Result<Option<SecretBytes>> {
    let loaded = match at.load(None, parse, None) {
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
    /// Whether it is read also without the material of decrypt-only keys.
    lenient: bool,
}

impl<'a> KeyringPlace<'a> {
    /// The keyring as its sources and its states have it, but for the key in the file `except`.
    fn load<K: Material>(
        self,
        except: Option<&Path>,
        parse: Parse<K>,
        known: Option<&Keyring<K>>,
    ) -> Result<Keyring<K>> {
        let found = || {
            let contents = self.resolver.key_contents(self.spec)?.into_iter();
            contents
                .filter(|(place, _)| except.is_none_or(|except| Path::new(place) != except))
                .map(|(place, content)| Ok(Found { key: parse(&place, &content, self.spec, known)?, place }))
                .collect()
        };
        let states_in = self.spec.state.as_ref().and_then(StateLocation::file);
        let keyring = Keyring::read(found, || self.read_states(), self.spec.min_generation, states_in)?;
        if self.lenient { Ok(keyring) } else { keyring.with_all_keys() }
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
            place: Place::file(&self.spec.declared_in),
            reason: format!("[keyring.{}] declares no `state`, which a second key needs", self.spec.name),
        })
    }
}

fn master_key(
    place: &str,
    content: &SecretBytes,
    _: &KeyringSpec,
    known: Option<&Keyring<MasterKey>>,
) -> Result<Arc<MasterKey>> {
    let content = content.expose_secret();
    let text = |key: &&Arc<MasterKey>| key.format() != KeyFormat::Raw;
    let known =
        known.and_then(|known| known.of_text(content).or_else(|| known.of_text(content.trim_ascii()).filter(text)));
    match known {
        Some(known) => Ok(Arc::clone(known)),
        None => MasterKey::parse_for_opening(content).map(Arc::new).map_err(|reason| malformed(place, reason)),
    }
}

fn text_key(
    place: &str,
    content: &SecretBytes,
    spec: &KeyringSpec,
    known: Option<&Keyring<LegacyKey>>,
) -> Result<Arc<LegacyKey>> {
    let content = content.expose_secret();
    let text = core::str::from_utf8(content).map(|text| spec.trim.apply(text).as_bytes());
    match known.zip(text.ok()).and_then(|(known, text)| known.of_text(text)) {
        Some(known) => Ok(Arc::clone(known)),
        None => {
            let key = TextKey::parse(content, spec.trim).map_err(|reason| malformed(place, reason))?;
            Ok(Arc::new(LegacyKey::new(key)))
        }
    }
}

fn malformed(place: &str, reason: KeyTextError) -> Error {
    Error::KeyMalformed { place: place.to_owned(), reason }
}
