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
        if column == STORE && self.store.is_some() {
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
        match (scope, &self.store) {
            (Scope::Column(STORE), Some(_)) => {}
            (Scope::Column(name), _) => drop(self.manifest.column(name)?),
            _ => {}
        }
        let mut databases = Databases::new(&self.resolver, access);
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
            for name in self.keyrings.keys().filter(|name| uses(name)) {
                guarded.push(name.clone());
                match self.keyrings.get(name) {
                    Some(AnyKeyring::Kek(keyring)) => keys.sealer = Some(Sealer::new(keyring.clone())),
                    Some(AnyKeyring::Text(keyring)) => keys.legacy = Some(keyring.clone()),
                    None => {}
                }
            }
            // A migration to tokens needs the keyring that will seal them before the column says so.
            if keys.sealer.is_none()
                && let Ok(KeyringSpec { name, .. }) = self.manifest.keyring_for(spec, Format::Vs1)
                && let Some(AnyKeyring::Kek(keyring)) = self.keyrings.get(name)
            {
                keys.sealer = Some(Sealer::new(keyring.clone()));
            }
            targets.push(Target { column, keys });
        }
        if let Some(store) = &self.store
            && match scope {
                Scope::All => true,
                Scope::Column(name) => name == STORE,
                Scope::Keyring(name) | Scope::UsesKeyring(name) => name == MAIN,
            }
        {
            guarded.push(MAIN.to_owned());
            let keys = ColumnKeys { sealer: Some(self.sealer()?.clone()), legacy: None };
            targets.push(Target { column: Box::new(StoreColumn::new(Arc::clone(store))), keys });
        }
        let generation = match scope {
            Scope::Keyring(name) | Scope::UsesKeyring(name) => self.keyring(name)?.generation(),
            _ => 0,
        };
        guarded.sort();
        guarded.dedup();
        let rotation = Rotation::new(targets, generation, move || self.unchanged(&guarded));
        Ok(match scope {
            Scope::Keyring(name) | Scope::UsesKeyring(name) if !missed => {
                rotation.of_all_that_use(self.keyring(name)?.keyring_id())
            }
            _ => rotation,
        })
    }

    /// Whether the states are the ones that were loaded.
    fn unchanged(&self, keyrings: &[String]) -> Result<()> {
        for name in keyrings {
            let (Ok(spec), Some(loaded)) = (self.manifest.keyring(name), self.keyrings.get(name)) else { continue };
            let generation = self.place_of(spec).read_states()?.map_or(0, |state| state.generation());
            if generation != loaded.generation() {
                return Err(Error::Temporary {
                    reason: format!("keyring {name} was changed meanwhile"),
                    remedy: "run the command again".to_owned(),
                });
            }
        }
        Ok(())
    }
}
