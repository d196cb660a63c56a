//! Whether a table can be worked on without losing a row.

use tokio_postgres::types::Type;

use crate::column::{ColumnFinding, ColumnSpec};
use crate::database::postgres::{Client, get, query, quoted};
use crate::error::{Error, Result};
use crate::format::Format;

/// What is known of a table that can be worked on.
pub(super) struct Table {
    pub(super) oid: u32,
    /// Its name in quotes, without the schema: columns are qualified with it.
    pub(super) name: String,
    /// The same with the schema.
    pub(super) path: String,
    /// The columns of the row key, in the order of the index that keeps them unique.
    pub(super) keys: Vec<Key>,
    pub(super) value: Kind,
    /// The most characters that a value may have.
    pub(super) capacity: Option<usize>,
    /// Whether the value is compared by a collation under which different texts can be equal.
    pub(super) loose: bool,
    pub(super) partitioned: bool,
    /// The function that tells what a document holds.
    pub(super) typeof_document: &'static str,
    columns: Vec<Declared>,
}

/// How values are held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Bytes,
    /// A member of a document.
    Member,
    Text,
}

/// A column of the row key.
pub(super) struct Key {
    pub(super) name: String,
    /// Its place in `row`.
    pub(super) place: usize,
    pub(super) cell: CellKind,
    /// What its text is cast to; empty where that is no other type.
    pub(super) cast: String,
    /// The schema of the operators that its type is ordered by.
    pub(super) operators: String,
}

/// What a cell is read as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CellKind {
    Integer,
    /// Of another type, shown as text: fit for a row key and not for a context.
    Shown,
    Text,
}

struct Declared {
    name: String,
    number: i16,
    not_null: bool,
    generated: bool,
    /// The type; of a domain, what it is made of.
    base: u32,
    written: String,
    capacity: Option<usize>,
    deterministic: bool,
    updatable: bool,
    operators: String,
}

impl Declared {
    fn cell(&self) -> CellKind {
        match Type::from_oid(self.base) {
            Some(Type::INT2 | Type::INT4 | Type::INT8) => CellKind::Integer,
            Some(Type::TEXT | Type::VARCHAR | Type::NAME | Type::UUID) => CellKind::Text,
            _ => CellKind::Shown,
        }
    }
}

impl Table {
    /// Looks at the table, and refuses what could not be rotated safely.
    pub(super) fn new(client: &mut Client, spec: &ColumnSpec) -> Result<Self> {
        let found = find(client, spec)?;
        let columns = columns(client, spec, found.oid)?;
        let column = |name: &str| columns.iter().find(|column| column.name == name);
        for name in spec.row.iter().chain(&spec.context.columns()).chain([&spec.value]) {
            if column(name).is_none() {
                return Err(wrong(spec, &format!("it has no column {name}")));
            }
        }
        let Some(value) = column(&spec.value) else { return Err(wrong(spec, "it has no column for the value")) };
        if value.generated {
            return Err(wrong(spec, &format!("column {} is generated", spec.value)));
        }
        let kind = match (Type::from_oid(value.base), spec.member.is_some()) {
            (Some(Type::TEXT | Type::VARCHAR), false) => Kind::Text,
            (Some(Type::BYTEA), false) => Kind::Bytes,
            (Some(Type::JSONB), true) => Kind::Member,
            (Some(Type::JSON), true) if spec.immutable => Kind::Member,
            (Some(Type::JSON), true) => {
                return Err(wrong(
                    spec,
                    &format!(
                        "column {} is of type json, whose text no update keeps; make it jsonb, or declare `immutable`",
                        spec.value
                    ),
                ));
            }
            (Some(Type::JSON | Type::JSONB), false) => {
                return Err(wrong(spec, &format!("column {} holds documents; name the `member`", spec.value)));
            }
            (_, true) => {
                return Err(wrong(spec, &format!("column {} is not jsonb, so it has no `member`", spec.value)));
            }
            (_, false) => {
                return Err(wrong(
                    spec,
                    &format!("column {} is of type {}; values are text, varchar or bytea", spec.value, value.written),
                ));
            }
        };
        let keys = unique_index(client, spec, found.oid, &columns)?.ok_or_else(|| {
            wrong(spec, "`row` is not unique: name the columns of its primary key, or of a unique index over exactly these columns")
        })?;
        if let Some(name) = spec.row.iter().find(|name| column(name).is_some_and(|column| !column.not_null)) {
            return Err(wrong(
                spec,
                &format!("column {name} of `row` may be NULL, which identifies nothing; make it NOT NULL"),
            ));
        }
        Ok(Self {
            oid: found.oid,
            name: quoted(&found.name),
            path: format!("{}.{}", quoted(&found.schema), quoted(&found.name)),
            keys,
            value: kind,
            capacity: value.capacity.filter(|_| kind == Kind::Text),
            loose: !value.deterministic,
            typeof_document: if value.base == Type::JSON.oid() {
                "pg_catalog.json_typeof"
            } else {
                "pg_catalog.jsonb_typeof"
            },
            partitioned: found.partitioned,
            columns,
        })
    }

    /// What cells of a column are read as.
    pub(super) fn cell(&self, column: &str) -> CellKind {
        self.columns.iter().find(|known| known.name == column).map_or(CellKind::Shown, Declared::cell)
    }

    /// What is allowed and worth knowing. `prefix` is what an index would be on.
    pub(super) fn findings(
        &self,
        client: &mut Client,
        spec: &ColumnSpec,
        prefix: &str,
        writes: bool,
    ) -> Result<Vec<ColumnFinding>> {
        self.refuse_unreadable(client, spec)?;
        let mut findings = Vec::new();
        if spec.immutable {
            // Nothing is ever written.
            return Ok(findings);
        }
        let value = self.columns.iter().find(|column| column.name == spec.value);
        let number = value.map_or(0, |value| value.number);
        for trigger in self.triggers(client, spec, number)? {
            findings.push(ColumnFinding::new(format!(
                "trigger {trigger} fires for every row that is written, and may refuse or alter it"
            )));
        }
        if value.is_some_and(|value| !value.updatable) {
            let missing = ColumnFinding::obstacle(
                format!("column {}, table {}: the role may not update column {}", spec.name, spec.table, spec.value),
                format!("GRANT UPDATE ({}) ON {} TO the role of the URL", quoted(&spec.value), self.path),
            );
            if let Some(refusal) = missing.refusal().filter(|_| writes) {
                return Err(refusal);
            }
            findings.push(missing);
        }
        findings.extend(missing_schema(client, spec)?);
        findings.extend(self.missing_identity(client, spec)?);
        // What is not written as tokens does not tell by how it begins whether it is stale.
        if spec.writes == Format::Vs1 && !self.has_prefix_index(client, spec, number)? {
            // An index of a partitioned table is made at once, or partition by partition.
            let how = if self.partitioned { "" } else { " CONCURRENTLY" };
            findings.push(ColumnFinding::new(format!(
                "no index tells which values are stale, so each pass reads the table: CREATE INDEX{how} ON {} (({}))",
                self.path, prefix
            )));
        }
        Ok(findings)
    }

    /// Refuses what the role may not read, or not all of.
    fn refuse_unreadable(&self, client: &mut Client, spec: &ColumnSpec) -> Result<()> {
        let mut names: Vec<&str> = spec.row.iter().map(String::as_str).collect();
        let context = spec.context.columns();
        names.extend(context.iter().map(String::as_str).chain([spec.value.as_str()]));
        let rows = query(
            client,
            &looking(spec),
            "SELECT name, pg_catalog.row_security_active($1) FROM pg_catalog.unnest($2) WITH ORDINALITY AS u(name, place)
             WHERE NOT pg_catalog.has_column_privilege($1, name, 'SELECT') OR pg_catalog.row_security_active($1)
             ORDER BY place",
            &[(&self.oid, Type::OID), (&names, Type::TEXT_ARRAY)],
        )?;
        let Some(first) = rows.first() else { return Ok(()) };
        let place = format!("column {}, table {}", spec.name, spec.table);
        if get(first, 1)? {
            return Err(Error::Refused {
                reason: format!("{place}: row-level security would hide rows from the role"),
                remedy: "connect as the table's owner, or ALTER ROLE … BYPASSRLS".to_owned(),
            });
        }
        let mut names = rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<Vec<_>>>()?;
        names.dedup();
        let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
        let names = names.join(", ");
        Err(Error::Refused {
            reason: format!("{place}: the role may not read {names}"),
            remedy: format!("GRANT SELECT ({names}) ON {} TO the role of the URL", self.path),
        })
    }

    /// The triggers that an update of the value fires.
    fn triggers(&self, client: &mut Client, spec: &ColumnSpec, value: i16) -> Result<Vec<String>> {
        let rows = query(
            client,
            &looking(spec),
            "SELECT DISTINCT tgname::text FROM pg_catalog.pg_trigger
             WHERE (tgrelid = $1 OR tgrelid IN (SELECT relid::oid FROM pg_catalog.pg_partition_tree($1)))
               AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype::int4 & 16 <> 0
               AND (tgattr::text = '' OR $2 = ANY (tgattr::int2[])) ORDER BY 1",
            &[(&self.oid, Type::OID), (&value, Type::INT2)],
        )?;
        rows.iter().map(|row| get(row, 0)).collect()
    }

    /// What keeps a published table from any update: a subscriber would not know which row is meant.
    fn missing_identity(&self, client: &mut Client, spec: &ColumnSpec) -> Result<Option<ColumnFinding>> {
        let rows = query(
            client,
            &looking(spec),
            "WITH t AS (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree($1) WHERE isleaf)
             SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
                    (SELECT pubname::text FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_publication u USING (pubname)
                     WHERE u.pubupdate AND (p.schemaname = n.nspname AND p.tablename = c.relname
                           OR pg_catalog.to_regclass(pg_catalog.format('%I.%I', p.schemaname, p.tablename))::oid = $1)
                     ORDER BY 1 LIMIT 1)
             FROM t JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND CASE c.relreplident
                 WHEN 'f' THEN false WHEN 'n' THEN true
                 WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid)
                 ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid) END
             ORDER BY 1",
            &[(&self.oid, Type::OID)],
        )?;
        for row in &rows {
            let (table, publication): (String, Option<String>) = (get(row, 0)?, get(row, 1)?);
            if let Some(publication) = publication {
                return Ok(Some(ColumnFinding::obstacle(
                    format!(
                        "column {}: publication {} publishes updates of table {table}, which has no replica identity, so the server refuses every update",
                        spec.name,
                        quoted(&publication)
                    ),
                    format!("ALTER TABLE {table} REPLICA IDENTITY USING INDEX …, or add a primary key"),
                )));
            }
        }
        Ok(None)
    }

    fn has_prefix_index(&self, client: &mut Client, spec: &ColumnSpec, value: i16) -> Result<bool> {
        let rows = query(
            client,
            &looking(spec),
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = $1 AND indisvalid AND indpred IS NULL
                AND pg_catalog.pg_get_indexdef(indexrelid, 1, false) ~ '^(\"?left\"?|substr(ing)?)[(].*22[)]$'
                AND EXISTS (SELECT FROM pg_catalog.pg_depend WHERE objid = indexrelid AND refobjid = indrelid AND refobjsubid = $2))",
            &[(&self.oid, Type::OID), (&i32::from(value), Type::INT4)],
        )?;
        rows.first().map_or(Ok(false), |row| get(row, 0))
    }
}

/// What the role lacks to record a run.
fn missing_schema(client: &mut Client, spec: &ColumnSpec) -> Result<Option<ColumnFinding>> {
    let rows = query(
        client,
        &looking(spec),
        "SELECT n.oid IS NOT NULL,
                CASE WHEN n.oid IS NULL THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
                     ELSE pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                          AND pg_catalog.has_schema_privilege(n.oid, 'CREATE') END,
                pg_catalog.current_database()::text
         FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'vault_core'",
        &[],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (exists, allowed, database): (bool, bool, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    Ok((!allowed).then(|| {
        let remedy = if exists {
            "GRANT USAGE, CREATE ON SCHEMA vault_core TO the role of the URL".to_owned()
        } else {
            format!(
                "CREATE SCHEMA vault_core and GRANT USAGE, CREATE ON it TO the role of the URL, in database {}",
                quoted(&database)
            )
        };
        ColumnFinding::obstacle(
            format!("column {}: the role may not record a run in schema vault_core", spec.name),
            remedy,
        )
    }))
}

struct Found {
    oid: u32,
    schema: String,
    name: String,
    partitioned: bool,
}

/// The one table that is meant: by `schema.name`, or by a name that only one schema of the search path
/// has. A name with a dot in it is found where no schema of that name has such a table.
fn find(client: &mut Client, spec: &ColumnSpec) -> Result<Found> {
    let (schema, name) = spec.table.split_once('.').map_or((None, None), |(schema, name)| (Some(schema), Some(name)));
    let rows = query(
        client,
        &looking(spec),
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
                EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid),
                EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid AND ev_type IN ('2', '4')),
                pg_catalog.pg_get_userbyid(c.relowner)::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relpersistence <> 't' AND c.relkind NOT IN ('c', 'i', 'I', 't')
           AND (c.relname::text = $1 AND n.nspname = ANY (pg_catalog.current_schemas(true))
                OR n.nspname::text = $2 AND c.relname::text = $3)
         ORDER BY n.nspname, c.relname",
        &[(&spec.table, Type::TEXT), (&schema, Type::TEXT), (&name, Type::TEXT)],
    )?;
    let row = match rows.as_slice() {
        [] => return Err(wrong(spec, "the database has no such table, or the role may not see it")),
        [row] => row,
        rows => {
            let place = |row| -> Result<String> {
                let (schema, name, owner): (String, String, String) = (get(row, 1)?, get(row, 2)?, get(row, 6)?);
                Ok(format!("{}.{} of {}", quoted(&schema), quoted(&name), quoted(&owner)))
            };
            let places = rows.iter().map(place).collect::<Result<Vec<_>>>()?.join(", ");
            return Err(Error::Refused {
                reason: format!("column {}: several tables could be meant by {}: {places}", spec.name, spec.table),
                remedy: "write `table = \"schema.name\"` in vault.toml, and remove a table whose own name is that"
                    .to_owned(),
            });
        }
    };
    let (kind, has_children, has_rules): (String, bool, bool) = (get(row, 3)?, get(row, 4)?, get(row, 5)?);
    let what = match kind.as_str() {
        "p" | "r" => "",
        "v" | "m" => "a view; name the table that holds the rows",
        "f" => "a foreign table; name the server that holds the rows",
        _ => "no table",
    };
    if !what.is_empty() {
        return Err(wrong(spec, &format!("it is {what}")));
    }
    if kind == "r" && has_children {
        return Err(wrong(spec, "other tables inherit from it, whose rows its key does not identify"));
    }
    if has_rules {
        return Err(wrong(spec, "a rule rewrites updates of it"));
    }
    Ok(Found { oid: get(row, 0)?, schema: get(row, 1)?, name: get(row, 2)?, partitioned: kind == "p" })
}

fn columns(client: &mut Client, spec: &ColumnSpec, table: u32) -> Result<Vec<Declared>> {
    let rows = query(
        client,
        &looking(spec),
        "SELECT a.attname::text, a.attnum, a.attnotnull, a.attgenerated <> '',
                CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END,
                pg_catalog.format_type(a.atttypid, -1),
                CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, coalesce(c.collisdeterministic, true),
                pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'),
                coalesce((SELECT n.nspname::text FROM pg_catalog.pg_opclass k
                    JOIN pg_catalog.pg_amop s ON s.amopfamily = k.opcfamily AND s.amopmethod = k.opcmethod AND s.amopstrategy = 5
                        AND s.amoplefttype = k.opcintype AND s.amoprighttype = k.opcintype
                    JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr AND o.oprname = '>'
                    JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
                    JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree'
                    WHERE k.opcdefault AND k.opcintype = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END),
                    'pg_catalog')
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[(&table, Type::OID)],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Declared {
                name: get(row, 0)?,
                number: get(row, 1)?,
                not_null: get(row, 2)?,
                generated: get(row, 3)?,
                base: get(row, 4)?,
                written: get(row, 5)?,
                // Of character types, the length and a header of four bytes.
                capacity: usize::try_from(get::<i32>(row, 6)? - 4).ok(),
                deterministic: get(row, 7)?,
                updatable: get(row, 8)?,
                operators: get(row, 9)?,
            })
        })
        .collect()
}

/// The columns of `row` in the order of a full unique index over exactly these columns, which is
/// checked with every statement, and finds no two keys that the columns' own collations take for one.
fn unique_index(client: &mut Client, spec: &ColumnSpec, table: u32, columns: &[Declared]) -> Result<Option<Vec<Key>>> {
    let rows = query(
        client,
        &looking(spec),
        "SELECT ARRAY(SELECT coalesce(a.attname::text, '') FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS s(n)
                      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[s.n]
                      ORDER BY s.n)
         FROM pg_catalog.pg_index i
         WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
           AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS s(n)
                           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[s.n]
                           JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
                           WHERE NOT c.collisdeterministic AND i.indcollation[s.n] <> a.attcollation)
         ORDER BY i.indisprimary DESC, i.indexrelid",
        &[(&table, Type::OID)],
    )?;
    for row in &rows {
        let names: Vec<String> = get(row, 0)?;
        let key = |name: &String| -> Option<Key> {
            let place = spec.row.iter().position(|key| key == name)?;
            let column = columns.iter().find(|column| column.name == *name)?;
            let text = matches!(Type::from_oid(column.base), Some(Type::TEXT | Type::VARCHAR));
            let cell = column.cell();
            let cast = if text || cell == CellKind::Integer { String::new() } else { format!("::{}", column.written) };
            Some(Key { name: name.clone(), place, cell, cast, operators: column.operators.clone() })
        };
        let keys: Option<Vec<Key>> = names.iter().map(key).collect();
        if let Some(keys) = keys.filter(|keys| keys.len() == spec.row.len()) {
            return Ok(Some(keys));
        }
    }
    Ok(None)
}

pub(super) fn looking(spec: &ColumnSpec) -> String {
    format!("look at table {}", spec.table)
}

pub(super) fn wrong(spec: &ColumnSpec, reason: &str) -> Error {
    Error::Refused {
        reason: format!("column {}, table {}: {reason}", spec.name, spec.table),
        remedy: "correct the [[column]] in vault.toml".to_owned(),
    }
}
