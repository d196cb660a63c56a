//! How a column is declared.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::context::Context;
use crate::database::DatabaseLocation;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::error::{Error, Result};
use crate::format::Format;

/// A column as `vault.toml` declares it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ColumnSpec {
    /// Its name here.
    pub name: String,
    /// The database.
    pub database: DatabaseLocation,
    /// The table.
    pub table: String,
    /// The columns that identify a row.
    pub row: Vec<String>,
    /// The column that holds the values.
    pub value: String,
    /// The member of the JSON object in that column that holds the values, where they are not the
    /// column itself.
    pub member: Option<String>,
    /// The formats that values may be in, tried in this order.
    pub reads: Vec<Format>,
    /// The format that values are written in.
    pub writes: Format,
    /// The keyring of `writes`.
    pub keyring: String,
    /// The keyring of the other formats, where it is another one.
    pub reads_keyring: Option<String>,
    /// What tokens are bound to.
    pub context: ContextTemplate,
    /// A condition that rows must meet to be worked on. Counts that decide whether a key may go
    /// ignore it.
    pub filter: Option<String>,
    /// Rows may never be updated; their keys stay.
    pub immutable: bool,
    /// Every process that reads the column uses this library.
    pub linked: bool,
}

impl ColumnSpec {
    /// A column of tokens under the keyring `main`, without a context; every other field is set
    /// afterwards.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        database: impl Into<DatabaseLocation>,
        table: impl Into<String>,
        row: &[&str],
        value: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            database: database.into(),
            table: table.into(),
            row: row.iter().map(|name| (*name).to_owned()).collect(),
            value: value.into(),
            member: None,
            reads: vec![Format::Vs1],
            writes: Format::Vs1,
            keyring: "main".to_owned(),
            reads_keyring: None,
            context: ContextTemplate::default(),
            filter: None,
            immutable: false,
            linked: true,
        }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// What people should know about the declaration itself. `same` tells whether two names are of
    /// one column.
    pub(crate) fn findings(&self, same: fn(&str, &str) -> bool) -> Vec<ColumnFinding> {
        let mut findings = Vec::new();
        let mut find = |text: String| findings.push(ColumnFinding::new(text));
        if self.context.is_empty() {
            find("no context is declared: a token opens in whatever row it is moved to".to_owned());
        }
        let in_row = |name: &String| self.row.iter().any(|key| same(key, name));
        let outside: Vec<_> = self.context.columns().into_iter().filter(|name| !in_row(name)).collect();
        if !outside.is_empty() {
            find(format!(
                "the context is made of {}, which `row` does not contain: where one of them changes, the token no longer opens",
                outside.join(", ")
            ));
        }
        if let Some(format) = self.reads.iter().find(|format| !format.authenticated() && **format != Format::Vs1) {
            find(format!(
                "{format} has no authentication: a migration takes what a writer of the database put there as genuine"
            ));
        }
        findings
    }
}

/// A context whose fields are made from the columns of a row.
///
/// `{column}` stands for the cell: text as it is, whole numbers in decimal, NULL for an absent
/// field. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContextTemplate {
    tenant: Option<Template>,
    name: Option<Template>,
    purpose: Option<Template>,
    extra: Vec<(String, Template)>,
}

impl ContextTemplate {
    /// Adds a field: `tenant`, `name`, `purpose`, or `extra.KEY`.
    ///
    /// # Errors
    ///
    /// The reason, as a text that repeats nothing of the template.
    pub fn with(mut self, field: &str, template: &str) -> Result<Self, &'static str> {
        let template = Template::parse(template)?;
        match field {
            "tenant" => self.tenant = Some(template),
            "name" => self.name = Some(template),
            "purpose" => self.purpose = Some(template),
            _ => match field.strip_prefix("extra.") {
                Some(key) if !key.is_empty() => self.extra.push((key.to_owned(), template)),
                _ => return Err("a context has the fields tenant, name, purpose and extra.KEY"),
            },
        }
        Ok(self)
    }

    /// Whether no field is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The columns that it needs.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let fixed = [&self.tenant, &self.name, &self.purpose].into_iter().flatten();
        let parts = fixed.chain(self.extra.iter().map(|(_, template)| template)).flat_map(|template| &template.0);
        let mut columns: Vec<String> = parts
            .filter_map(|part| match part {
                Part::Column(name) => Some(name.clone()),
                Part::Text(_) => None,
            })
            .collect();
        columns.sort();
        columns.dedup();
        columns
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// The context of a row whose cells `lookup` gives.
    pub(crate) fn build<'a>(&self, lookup: &dyn Fn(&str) -> Option<&'a Cell>) -> Result<Context> {
        let mut context = Context::none();
        let fill = |template: &Option<Template>| template.as_ref().map_or(Ok(None), |template| template.fill(lookup));
        if let Some(tenant) = fill(&self.tenant)? {
            context = context.tenant(tenant);
        }
        if let Some(name) = fill(&self.name)? {
            context = context.name(name);
        }
        if let Some(purpose) = fill(&self.purpose)? {
            context = context.purpose(purpose);
        }
        for (key, template) in &self.extra {
            if let Some(value) = template.fill(lookup)? {
                context = context.extra(key, value);
            }
        }
        Ok(context)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Column(String),
    Text(String),
}

impl Template {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '{' if rest.as_str().starts_with('{') => {
                    rest.next();
                    literal.push('{');
                }
                '}' if rest.as_str().starts_with('}') => {
                    rest.next();
                    literal.push('}');
                }
                '{' => {
                    let (column, behind) =
                        rest.as_str().split_once('}').ok_or("a brace is not closed; {{ stands for a brace")?;
                    if column.is_empty() || column.contains('{') {
                        return Err("a column's name is missing between braces");
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(core::mem::take(&mut literal)));
                    }
                    parts.push(Part::Column(column.to_owned()));
                    rest = behind.chars();
                }
                '}' => return Err("a brace is closed that was not opened; }} stands for a brace"),
                c => literal.push(c),
            }
        }
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn fill<'a>(&self, lookup: &dyn Fn(&str) -> Option<&'a Cell>) -> Result<Option<String>> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Column(name) => match lookup(name) {
                    Some(Cell::Text(text)) => out.push_str(text),
                    Some(Cell::Integer(number)) => out.push_str(&number.to_string()),
                    Some(Cell::Null) => return Ok(None),
                    _ => return Err(not_for_contexts()),
                },
            }
        }
        Ok(Some(out))
    }
}

/// One cell of a row, in the class that the database holds it in.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// Bytes.
    Blob(Vec<u8>),
    /// A whole number.
    Integer(i64),
    /// Nothing.
    Null,
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(String),
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl Cell {
    /// The bytes of text or of a blob; none of other classes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Blob(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
            _ => &[],
        }
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl core::fmt::Debug for Cell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cell([redacted])")
    }
}

/// Something that people should know about a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ColumnFinding {
    text: String,
    /// What to do before anything can be written, where something is in the way.
    remedy: Option<String>,
}

impl ColumnFinding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: None }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// One that keeps a run from its work.
    pub(crate) fn obstacle(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: Some(remedy.into()) }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// The refusal of a run that something is in the way of.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let remedy = self.remedy.clone()?;
        Some(Error::Refused { reason: self.text.clone(), remedy })
    }
}

impl core::fmt::Display for ColumnFinding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Why a cell cannot be part of a context.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn not_for_contexts() -> Error {
    Error::Malformed { what: "row: a column of its context is neither text nor a whole number" }
}

#[cfg(test)]
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    fn build(template: &str, cell: &Cell) -> Result<Context> {
        ContextTemplate::default().with("name", template).unwrap().build(&|name| (name == "c").then_some(cell))
    }

    #[test]
    fn templates_fill_in_cells() {
        let name = |text: &str| Context::none().name(text);
        assert_eq!(build("{c}", &Cell::Integer(-7)).unwrap(), name("-7"));
        assert_eq!(build("a{c}b", &Cell::Text("x{c}".to_owned())).unwrap(), name("ax{c}b"));
        assert_eq!(build("{{c}}", &Cell::Null).unwrap(), name("{c}"));
        assert_eq!(build("", &Cell::Null).unwrap(), name(""));
        assert_eq!(build("a{c}", &Cell::Null).unwrap(), Context::none());
        assert!(build("{c}", &Cell::Real(1.0)).is_err());
        assert!(build("{c}", &Cell::Blob(vec![1])).is_err());
        assert!(build("{d}", &Cell::Null).is_err(), "a column that was not read");
    }

    #[test]
    fn wrong_templates_are_refused() {
        for template in ["{", "{c", "}", "{}", "a}b", "{a{b}"] {
            assert!(ContextTemplate::default().with("name", template).is_err(), "{template}");
        }
        assert!(ContextTemplate::default().with("owner", "x").is_err());
        assert!(ContextTemplate::default().with("extra.", "x").is_err());
    }
}
