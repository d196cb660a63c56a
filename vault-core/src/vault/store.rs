//! Deployment secrets in the store of a configuration: sealed on the way in, opened on the way
//! out.

use std::sync::Arc;

use crate::error::{Error, Kind, Place, Result};
use crate::key::MasterKey;
use crate::keyring::Keyring;
use crate::manifest::{Manifest, StoreLocation, StoreSpec};
use crate::name::{SecretName, Version};
use crate::registry::Registry;
use crate::resolver::{AskStore, Explanation, Opened, Resolved, Resolver, Shadowed, Source, Stored};
use crate::sealer::Sealer;
use crate::secret::SecretBytes;
use crate::store::{Entry, EntryName, FileStore, NewEntry, STORE_ENTRY, Store};

use super::Vault;
use super::loaded::Loaded;

impl Vault {
    /// A deployment secret by name, from the first source that has it, in the order of
    /// [`Resolver`]. With `NAME@previous` or `NAME@2`, an older version from the
    /// store.
    ///
    /// # Errors
    ///
    /// As [`Resolver::secret`]; [`Error::Malformed`] for a name that no
    /// secret can have; what a [`Store`] says where it cannot be read, and [`Sealer::open`] where
    /// its token does not open; [`Error::NotFound`] for a version that is not kept.
    pub fn secret(&self, name: &str) -> Result<Resolved> {
        let (name, version) = Version::parse(name)?;
        let resolved = self.resolve(&name)?;
        match (version, resolved.source) {
            (Version::Current, source) => Ok(Resolved { source, ..resolved }),
            (_, Source::Store { .. }) => self.stored(&EntryName::new(name), version),
            (_, source) => {
                Err(Error::NotFound { what: format!("another version of secret {name}: {source} keeps none;") })
            }
        }
    }

    /// As [`secret`](Self::secret) without a version, but nothing where the secret is declared as
    /// not `required` and no source has it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn optional_secret(&self, name: &str) -> Result<Option<Resolved>> {
        let name = SecretName::parse(name)?;
        self.with_stored(|store| self.resolver.optional_with(&name, store))
    }

    /// Where a secret comes from, and what that shadows. A shadowed source that cannot be read is
    /// told and is no error.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn explain(&self, name: &SecretName) -> Result<Explanation> {
        self.with_stored(|store| self.resolver.explain(name, store))
    }

    /// What each source has of a secret, for checks.
    pub(super) fn all(&self, name: &SecretName) -> Vec<Result<Resolved>> {
        let all = self.with_stored(|store| Ok(self.resolver.all(name, store)));
        all.unwrap_or_else(|error| vec![Err(error)])
    }

    /// Every source that has a secret, the one that wins first.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret), but an absent secret has no sources.
    pub fn sources(&self, name: &SecretName) -> Result<Vec<Source>> {
        let Explanation { source, shadowed, .. } = match self.explain(name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let shadowed = shadowed.into_iter().filter_map(|shadowed| match shadowed {
            Shadowed::Has(source) => Some(source),
            Shadowed::Unreadable(_) => None,
        });
        Ok([source].into_iter().chain(shadowed).collect())
    }

    /// One version of a secret in the store, whatever other sources have.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn stored(&self, name: &EntryName, version: Version) -> Result<Resolved> {
        let found =
            self.with_store(|store, sealer| store.get(name, version)?.map(|entry| opened(sealer, &entry)).transpose())?;
        let (value, version) = found.ok_or_else(|| Error::NotFound { what: describe(name, version) })?;
        let source = Source::Store { location: self.store()?.location().to_owned(), version };
        Ok(Resolved { value, source, notes: Vec::new() })
    }

    /// The versions of a secret in the store, the newest first; none if the store does not have it.
    ///
    /// # Errors
    ///
    /// As [`Store::versions`]; [`Error::Config`] if no store is declared.
    pub fn versions(&self, name: &EntryName) -> Result<Vec<Entry>> {
        self.with_store(|store, _| store.versions(name))
    }

    /// The store, for names and versions, with the keyring `main` as it is loaded at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if none is declared.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        self.store_in(&*self.connected()?).cloned()
    }

    fn store_in<'a>(&self, loaded: &'a Loaded) -> Result<&'a Arc<dyn Store>> {
        loaded.store.as_ref().ok_or_else(|| Error::Config {
            place: Place::file(self.manifest.path()),
            reason: "no [store] is declared".to_owned(),
        })
    }

    /// Seals secrets and makes them the newest versions of their names, all of them or none.
    /// Returns the versions.
    ///
    /// # Errors
    ///
    /// As [`Sealer::seal`] and [`Store::put`]; [`Error::Config`] for a name that is declared in
    /// another spelling, under which nobody would find it.
    pub fn set(&self, secrets: &[(EntryName, SecretBytes)], purpose: Option<&str>) -> Result<Vec<u64>> {
        for (name, _) in secrets.iter().filter(|(name, _)| name.tenant().is_none()) {
            self.resolver.refuse_other_spelling(name.name())?;
        }
        let purpose = purpose.unwrap_or(STORE_ENTRY);
        self.with_store(|store, sealer| {
            let tokens = secrets.iter().map(|(name, value)| sealer.seal(&name.context(purpose), value.expose_secret()));
            let tokens = tokens.collect::<Result<Vec<_>>>()?;
            let new: Vec<_> =
                secrets.iter().zip(&tokens).map(|((name, _), token)| NewEntry { name, purpose, token }).collect();
            store.put(&new)
        })
    }

    /// Makes an older version of a secret the newest again, as a version of its own. Returns that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a version that is not kept, and as [`set`](Self::set).
    pub fn roll_back(&self, name: &EntryName, version: Version) -> Result<u64> {
        self.with_store(|store, sealer| {
            let entry = store.get(name, version)?.ok_or_else(|| Error::NotFound { what: describe(name, version) })?;
            let token = sealer.seal(&entry.context(), sealer.open(&entry.context(), &entry.token)?.expose_secret())?;
            let versions = store.put(&[NewEntry { name, purpose: &entry.purpose, token: &token }])?;
            Ok(versions.first().copied().unwrap_or_default())
        })
    }

    /// Brings the store, where there is one, up to the keyring that was loaded:
    /// [`Store::settle`]. For commands that rotate; applications need not.
    ///
    /// # Errors
    ///
    /// As [`Store::settle`].
    pub fn settle(&self, accept_rollback: bool) -> Result<()> {
        match &self.connected()?.store {
            Some(store) if store.exists()? => store.settle(accept_rollback),
            _ => Ok(()),
        }
    }

    pub(super) fn resolve(&self, name: &SecretName) -> Result<Resolved> {
        self.with_stored(|store| self.resolver.secret_with(name, store))
    }

    /// Asks the resolver, with the store where there is one.
    fn with_stored<T>(&self, ask: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
        let loaded = self.connected()?;
        let newest: AskStore<'_> = &|name| self.newest(name);
        let store = loaded.store.as_ref().map(|store| (store.location(), newest));
        ask(Some(Opened { store, primary: &|keyring| self.primary_text(keyring) }))
    }

    fn newest(&self, name: &SecretName) -> Result<Option<(SecretBytes, u64)>> {
        let name = EntryName::new(name.clone());
        self.with_store(|store, sealer| {
            store.get(&name, Version::Current)?.map(|entry| opened(sealer, &entry)).transpose()
        })
    }

    /// Works with the store. Where it refuses the keyring because that was changed since the last look,
    /// there is another look: a store's word for it cannot be forged, so that look is never saved.
    fn with_store<T>(&self, work: impl Fn(&dyn Store, &Sealer) -> Result<T>) -> Result<T> {
        self.before_sealing();
        let before = self.connected()?;
        let within = |loaded: &Loaded| {
            let sealer = self.sealer_in(loaded)?;
            work(&**self.store_in(loaded)?, sealer)
        };
        let refused = match within(&before) {
            Err(refused @ (Error::Refused { .. } | Error::UnknownKey { .. })) => refused,
            other => return other,
        };
        self.look_now()?;
        let after = self.connected()?;
        if Arc::ptr_eq(&before, &after) { Err(refused) } else { within(&after) }
    }
}

/// Brings the store of a configuration, where there is one, up to a keyring that was loaded.
pub(super) fn settle_under(manifest: &Manifest, keyring: Keyring<MasterKey>) -> Result<()> {
    match manifest.store() {
        // Weak keys seal nothing, so there is nothing of theirs in a store.
        Some(spec) if keyring.primary().is_ok() => {
            let store = open(spec, &Resolver::new(manifest), &Sealer::new(keyring), None)?;
            if store.exists()? { store.settle(false) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// The store of a configuration, if it declares one and the keyring that it needs.
pub(super) fn open_declared(
    manifest: &Manifest,
    resolver: &Resolver,
    main: Option<&Sealer>,
    registry: Option<&Arc<dyn Registry>>,
) -> Result<Option<Arc<dyn Store>>> {
    match (manifest.store(), main) {
        (Some(spec), Some(main)) => open(spec, resolver, main, registry).map(Some),
        _ => Ok(None),
    }
}

/// A store, by the connection of `registry` where that has one to the same place.
fn open(
    spec: &StoreSpec,
    resolver: &Resolver,
    sealer: &Sealer,
    registry: Option<&Arc<dyn Registry>>,
) -> Result<Arc<dyn Store>> {
    let _ = registry;
    let keyring = sealer.keyring().clone();
    match &spec.location {
        StoreLocation::File(path) => Ok(Arc::new(FileStore::new(path, keyring).with_keep(spec.keep))),
        #[cfg(feature = "postgres")]
        StoreLocation::Postgres(url) => Ok(postgres(url.clone(), keyring, spec, registry)),
        #[cfg(feature = "postgres")]
        StoreLocation::Secret(name) => Ok(postgres(resolver.postgres_url(name)?, keyring, spec, registry)),
        #[cfg(not(feature = "postgres"))]
        StoreLocation::Postgres(_) | StoreLocation::Secret(_) => {
            let _ = resolver;
            Err(Error::Unsupported { what: "store in PostgreSQL: this build has no feature `postgres`" })
        }
        #[cfg(feature = "sqlite")]
        StoreLocation::Sqlite(path) => Ok(Arc::new(crate::store::SqliteStore::new(path, keyring).with_keep(spec.keep))),
        #[cfg(not(feature = "sqlite"))]
        StoreLocation::Sqlite(_) => {
            Err(Error::Unsupported { what: "store in SQLite: this build has no feature `sqlite`" })
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres(
    url: crate::database::PostgresUrl,
    keyring: Keyring<MasterKey>,
    spec: &StoreSpec,
    registry: Option<&Arc<dyn Registry>>,
) -> Arc<dyn Store> {
    let shared = registry.and_then(|registry| registry.connection()).filter(|connection| *connection.url() == url);
    let store = match shared {
        Some(connection) => crate::store::PostgresStore::connected_by(connection.clone(), keyring),
        None => crate::store::PostgresStore::new(url, keyring),
    };
    Arc::new(store.with_keep(spec.keep))
}

fn opened(sealer: &Sealer, entry: &Entry) -> Result<(SecretBytes, u64)> {
    Ok((sealer.open(&entry.context(), &entry.token)?, entry.key.version))
}

fn describe(name: &EntryName, version: Version) -> String {
    match version {
        Version::Current => format!("secret {name} in the store"),
        Version::Previous => format!("previous version of secret {name} in the store"),
        Version::Number(number) => format!("version {number} of secret {name} in the store"),
    }
}
