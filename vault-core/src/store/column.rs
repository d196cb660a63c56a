//! A store as a column, so that one rotation serves both.
//!
//! A store needs no record of a run: the tokens themselves tell how far it is. It needs no fence
//! either: it takes no token but under the primary key.

use std::sync::Arc;

use crate::column::{
    Cell, Column, ColumnFinding, ColumnSpec, ContextTemplate, Fence, Page, Progress, Row, RowChange, RowKey, Run,
    Selection, Survey, Written,
};
use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::name::SecretName;
use crate::token::{HARD_LIMIT, Token, kid_of};

use super::{Entry, EntryKey, EntryName, NAME, Replacement, Store};

/// The cells of an entry that its context is made of.
const CELLS: [&str; 3] = ["name", "purpose", "tenant"];

/// How a store is declared as a column.
fn spec(location: &str) -> ColumnSpec {
    let context = ["tenant", "name", "purpose"]
        .into_iter()
        .try_fold(ContextTemplate::default(), |context, field| context.with(field, &format!("{{{field}}}")));
    ColumnSpec {
        context: context.unwrap_or_default(),
        ..ColumnSpec::new(NAME, location, NAME, &["name", "tenant", "version"], "token")
    }
}

/// A store as a column.
pub(crate) struct StoreColumn {
    store: Arc<dyn Store>,
    spec: ColumnSpec,
    names: Arc<[String]>,
}

impl StoreColumn {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let spec = spec(store.location());
        Self { store, spec, names: CELLS.map(str::to_owned).into() }
    }

    fn row(&self, entry: &Entry) -> Row {
        let text = |text: &str| Cell::Text(text.to_owned());
        let tenant = entry.key.name.tenant().map_or(Cell::Null, text);
        let cells = vec![text(entry.key.name.name().as_str()), text(&entry.purpose), tenant];
        Row::new(row_key(&entry.key), Cell::Text(entry.token.to_string()), Arc::clone(&self.names), cells)
    }

    /// Every entry, page by page.
    fn each(&self, mut work: impl FnMut(Entry)) -> Result<()> {
        let mut after: Option<EntryKey> = None;
        loop {
            let page = self.store.page(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            page.into_iter().for_each(&mut work);
        }
    }
}

impl Column for StoreColumn {
    fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    fn database(&self) -> &str {
        self.store.location()
    }

    fn transactional(&self) -> bool {
        false
    }

    fn check(&mut self) -> Result<Vec<ColumnFinding>> {
        self.store.check()
    }

    fn survey(&mut self) -> Result<Survey> {
        let mut survey = Survey::default();
        self.each(|entry| {
            let [prefix, _] = entry.token.kid().prefixes();
            match survey.tokens.iter_mut().find(|(known, _)| *known == prefix) {
                Some((_, count)) => *count += 1,
                None => survey.tokens.push((prefix, 1)),
            }
        })?;
        Ok(survey)
    }

    fn read(&mut self, page: &Page<'_>) -> Result<Vec<Row>> {
        let mut after = page.after.map(entry_key).transpose()?;
        let mut rows = Vec::new();
        // A page of a selection may take several of the store.
        while rows.is_empty() {
            let entries = self.store.page(after.as_ref(), page.limit.max(1))?;
            let Some(last) = entries.last() else { break };
            after = Some(last.key.clone());
            let wanted = |entry: &Entry| {
                let kid = entry.token.kid();
                let one_of = |prefixes: &[String]| prefixes.iter().any(|prefix| kid_of(prefix.as_bytes()) == Some(kid));
                match page.select {
                    Selection::All => true,
                    Selection::Except(prefixes) => !one_of(prefixes),
                    Selection::Prefixes(prefixes) => one_of(prefixes),
                }
            };
            rows.extend(entries.iter().filter(|entry| wanted(entry)).map(|entry| self.row(entry)));
        }
        Ok(rows)
    }

    fn write(&mut self, changes: &[RowChange], _: &Progress<'_>) -> Result<Written> {
        let replacements = changes.iter().map(|change| {
            let old = core::str::from_utf8(change.old.as_bytes()).unwrap_or_default();
            Ok(Replacement {
                key: entry_key(&change.key)?,
                old: Token::parse(old, HARD_LIMIT)?,
                new: Token::parse(&change.new, HARD_LIMIT)?,
            })
        });
        let replaced = self.store.replace(&replacements.collect::<Result<Vec<_>>>()?)?;
        let rewritten = replaced.iter().filter(|replaced| **replaced).count();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Written { rewritten: count(rewritten), lost: count(replaced.len() - rewritten), ..Written::default() })
    }

    fn begin_exclusive(&mut self) -> Result<()> {
        Err(Error::Unsupported { what: "exclusive transaction over a store" })
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn rollback(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self) -> Result<Option<Run>> {
        Ok(None)
    }

    fn open_run(&mut self, run: &Run) -> Result<Run> {
        Ok(run.clone())
    }

    fn close_run(&mut self) -> Result<()> {
        Ok(())
    }

    fn list_failures(&mut self, _: &str, _: &[(RowKey, String)]) -> Result<()> {
        Ok(())
    }

    fn fence_obstacle(&mut self, _: &[KeyId]) -> Result<Option<Error>> {
        Ok(None)
    }

    fn failures(&mut self) -> Result<Vec<(RowKey, String)>> {
        Ok(Vec::new())
    }

    fn fence(&mut self, _: &Fence) -> Result<()> {
        Ok(())
    }

    fn standing_fence(&mut self) -> Result<Fence> {
        Ok(Fence::default())
    }

    fn unfence(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

fn row_key(key: &EntryKey) -> RowKey {
    let tenant = key.name.tenant().map_or(Cell::Null, |tenant| Cell::Text(tenant.to_owned()));
    let version = i64::try_from(key.version).unwrap_or(i64::MAX);
    RowKey::new(vec![Cell::Text(key.name.name().as_str().to_owned()), tenant, Cell::Integer(version)])
}

fn entry_key(row: &RowKey) -> Result<EntryKey> {
    let wrong = Error::Malformed { what: "row key of a store" };
    let [Cell::Text(name), tenant, Cell::Integer(version)] = row.cells() else { return Err(wrong) };
    let name = SecretName::parse(name)?;
    let name = match tenant {
        Cell::Text(tenant) => EntryName::of_tenant(name, tenant.as_str())?,
        _ => EntryName::new(name),
    };
    Ok(EntryKey { name, version: u64::try_from(*version).map_err(|_| wrong)? })
}

/// Entries read at a time while counting.
const PAGE: usize = 1_000;
