//! The columns and the store of a configuration, with the keys that their values may be under.

use std::sync::Arc;

use crate::database::Access;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::manifest::{KeyringSpec, MAIN};
use crate::rotate::{ColumnKeys, Rotation, Target};
use crate::sealer::Sealer;
use crate::store::{NAME as STORE, StoreColumn};

use super::databases::Databases;
use super::{AnyKeyring, Vault};

/// Which columns a rotation is about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Scope<'a> {
    /// All of them.
    All,
    /// One.
    Column(&'a str),
    /// Those that are written under a keyring.
    Keyring(&'a str),
    /// Those that are written or read under a keyring.
    UsesKeyring(&'a str),
}

impl Vault {
    /// The keyring that a column, or the store, is written under.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a column that is not declared.
    pub fn written_under(&self, column: &str) -> Result<&str> {
        if column == STORE && self.loaded().store.is_some() {
            return Ok(MAIN);
        }
        let spec = self.manifest.column(column)?;
        Ok(&self.manifest.keyring_for(spec, spec.writes)?.name)
    }

    /// The columns of `scope`, with the keys that their values may be under. The store is among
    /// them, as column `store`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a column that is not declared; [`Error::Database`] or
    /// [`Error::Refused`] if a database cannot be opened or a table is not as declared.
    pub fn rotation(&self, scope: Scope<'_>, access: Access) -> Result<Rotation<'_>> {
        let loaded = self.connected()?;
        match (scope, &loaded.store) {
            (Scope::Column(STORE), Some(_)) => {}
            (Scope::Column(name), _) => drop(self.manifest.column(name)?),
            _ => {}
        }
        let mut databases = Databases::new(self, access);
        let mut targets = Vec::new();
        let mut guarded = Vec::new();
        let mut missed = false;
        for spec in self.manifest.columns() {
            let writes = &self.manifest.keyring_for(spec, spec.writes)?.name;
            let uses = |name: &str| {
                let formats = spec.reads.iter().filter(|format| **format != Format::Plaintext);
                writes == name
                    || formats
                        .flat_map(|format| self.manifest.keyring_for(spec, *format))
                        .any(|keyring| keyring.name == name)
            };
            let wanted = match scope {
                Scope::All => true,
                Scope::Column(name) => spec.name == name,
                Scope::Keyring(name) => writes == name,
                Scope::UsesKeyring(name) => uses(name),
            };
            if !wanted {
                missed |= matches!(scope, Scope::Keyring(name) if uses(name));
                continue;
            }
            let column = databases.column(spec)?;
            let mut keys = ColumnKeys::default();
            for (name, keyring) in loaded.keyrings.iter().filter(|(name, _)| uses(name)) {
                guarded.push((name.clone(), keyring.generation()));
                match keyring {
                    AnyKeyring::Kek(keyring) => keys.sealer = Some(Sealer::new(keyring.clone())),
                    AnyKeyring::Text(keyring) => keys.legacy = Some(keyring.clone()),
                }
            }
            // A migration to tokens needs the keyring that will seal them before the column says so.
            if keys.sealer.is_none()
                && let Ok(KeyringSpec { name, .. }) = self.manifest.keyring_for(spec, Format::Vs1)
                && let Some(AnyKeyring::Kek(keyring)) = loaded.keyrings.get(name)
            {
                keys.sealer = Some(Sealer::new(keyring.clone()));
            }
            targets.push(Target { column, keys });
        }
        if let Some(store) = &loaded.store
            && match scope {
                Scope::All => true,
                Scope::Column(name) => name == STORE,
                Scope::Keyring(name) | Scope::UsesKeyring(name) => name == MAIN,
            }
        {
            let sealer = self.sealer_in(&loaded)?;
            guarded.push((MAIN.to_owned(), sealer.keyring().generation()));
            let keys = ColumnKeys { sealer: Some(sealer.clone()), legacy: None };
            targets.push(Target { column: Box::new(StoreColumn::new(Arc::clone(store))), keys });
        }
        let of_scope = match scope {
            Scope::Keyring(name) | Scope::UsesKeyring(name) => {
                self.manifest.keyring(name)?;
                loaded.keyrings.get(name)
            }
            _ => None,
        };
        let generation = of_scope.map_or(0, AnyKeyring::generation);
        guarded.sort();
        guarded.dedup();
        let keyring_id = of_scope.and_then(AnyKeyring::keyring_id).map(str::to_owned);
        let rotation = Rotation::new(targets, generation, move || self.unchanged(&guarded));
        Ok(match scope {
            Scope::Keyring(_) | Scope::UsesKeyring(_) if !missed => rotation.of_all_that_use(keyring_id.as_deref()),
            _ => rotation,
        })
    }

    /// Whether the states have the generations of the keys that a rotation has.
    fn unchanged(&self, keyrings: &[(String, u64)]) -> Result<()> {
        let loaded = self.connected()?;
        for (name, expected) in keyrings {
            let Ok(spec) = self.manifest.keyring(name) else { continue };
            let generation = self.place_of(spec, &loaded).read_states()?.map_or(0, |state| state.generation());
            if generation != *expected {
                return Err(Error::Temporary {
                    reason: format!("keyring {name} was changed meanwhile"),
                    remedy: "run the command again".to_owned(),
                });
            }
        }
        Ok(())
    }
}
