//! How fast a rotation is beside the least that it could cost: the same batches with values that
//! were made ready before.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rusqlite::{TransactionBehavior, params};
use vault_core::rotate::{Job, RunOptions};
use vault_core::{Access, Config, KeyId, Result, Scope, Token, Vault};

use super::CATALOG;
use super::catalog::{COLUMNS, Catalog, failed};

const BATCH: usize = 500;
const ROUNDS: usize = 3;

/// Rows per second, medians of three rounds that take turns.
pub(super) struct Rates {
    pub(super) rewrap: f64,
    pub(super) floor: f64,
}

/// Measures on copies of the database in `dir/before`, whose tokens are under `old`.
pub(super) fn measure(dir: &Path, config: &str, old: KeyId) -> Result<Rates> {
    let work = dir.join("measure");
    let io = |source| vault_core::Error::Io { action: "prepare", path: work.clone(), source };
    fs::create_dir(&work).map_err(io)?;
    let file = work.join("vault.toml");
    fs::write(&file, config.replace("\"file:", "\"file:../").replace("state = \"", "state = \"../")).map_err(io)?;
    let (mut rewrap, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fs::copy(dir.join("before").join(CATALOG), work.join(CATALOG)).map_err(io)?;
        rewrap.push(rewrap_all(&file)?);
        fs::copy(dir.join("before").join(CATALOG), work.join(CATALOG)).map_err(io)?;
        floor.push(write_ready_made(&file, &work.join(CATALOG), old)?);
    }
    fs::remove_dir_all(&work).map_err(io)?;
    Ok(Rates { rewrap: median(rewrap), floor: median(floor) })
}

/// The real thing, in this process and without an application beside it.
fn rewrap_all(config: &Path) -> Result<f64> {
    let vault = Vault::load(Config::from_file(config)?)?;
    let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write)?;
    let started = Instant::now();
    let summaries =
        rotation.run(&Job::Rotate, &RunOptions::default(), &mut |_| core::ops::ControlFlow::Continue(()))?;
    let rows: u64 = summaries.iter().map(|summary| summary.rewritten).sum();
    Ok(per_second(rows, started))
}

/// The same pages read, and values written that cost nothing to make.
fn write_ready_made(config: &Path, database: &Path, old: KeyId) -> Result<f64> {
    let vault = Vault::load(Config::from_file(config)?)?;
    let mut catalog = Catalog::open(database)?;
    catalog
        .0
        .execute_batch("PRAGMA secure_delete = ON; CREATE TABLE vault_core_floor (cursor TEXT, rewritten INTEGER); INSERT INTO vault_core_floor VALUES ('', 0);")
        .map_err(failed)?;
    let mut ready = Vec::new();
    for (table, column) in COLUMNS {
        let mut statement =
            catalog.0.prepare(&format!("SELECT id, {column} FROM {table} ORDER BY id")).map_err(failed)?;
        let values = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<(u64, String)>>>)
            .map_err(failed)?;
        let moved: Vec<String> = values
            .iter()
            .map(|(_, value)| Ok(vault.sealer()?.rewrap(&value.parse::<Token>()?)?.to_string()))
            .collect::<Result<_>>()?;
        ready.push(moved);
    }

    let started = Instant::now();
    let mut rows = 0;
    for ((table, column), ready) in COLUMNS.into_iter().zip(&ready) {
        let select = format!(
            "SELECT id, user_id, name, {column} FROM {table} WHERE CAST(substr({column}, 1, 22) AS TEXT) IN ('vs1.{old}.', 'vk1.{old}.') AND id > ?1 ORDER BY id LIMIT ?2"
        );
        let update = format!("UPDATE {table} SET {column} = ?3 WHERE id = ?1 AND {column} = ?2");
        let mut after = 0;
        let mut ready = ready.iter();
        loop {
            let page = catalog
                .0
                .prepare_cached(&select)
                .and_then(|mut statement| {
                    statement
                        .query_map(params![after, BATCH], |row| Ok((row.get(0)?, row.get(3)?)))
                        .and_then(Iterator::collect::<rusqlite::Result<Vec<(u64, String)>>>)
                })
                .map_err(failed)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let transaction = catalog.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            for ((id, old), new) in page.iter().zip(&mut ready) {
                transaction
                    .prepare_cached(&update)
                    .and_then(|mut update| update.execute(params![id, old, new]))
                    .map_err(failed)?;
                rows += 1;
            }
            transaction
                .execute(
                    "UPDATE vault_core_floor SET cursor = ?1, rewritten = rewritten + ?2",
                    params![after.to_string(), page.len()],
                )
                .map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
    }
    Ok(per_second(rows, started))
}

fn per_second(rows: u64, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rows = rows as f64;
    rows / started.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
