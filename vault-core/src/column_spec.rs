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
///
/// Two rows with different cells never have one context (docs/FORMAT.md, "Contexts of rows"). So two
/// columns of a field have a text between them, and a row is refused if one of the cells contains
/// the text that follows it, or if some of them are NULL and others are not.
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
    pub fn with(self, field: &str, template: &str) -> Result<Self, &'static str> {
        let template = Template::parse(template)?;
        if template.runs_together() {
            return Err(
                "two columns stand side by side, so different rows may have one context; write a text between them, as in {a}/{b}",
            );
        }
        self.with_template(field, template)
    }

    /// The same for a context that values were sealed for before. Different rows may have one there:
    /// a reseal takes values away from it.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with), but for templates whose columns run together.
    pub fn with_former(self, field: &str, template: &str) -> Result<Self, &'static str> {
        let template = Template { former: true, ..Template::parse(template)? };
        self.with_template(field, template)
    }

    fn with_template(mut self, field: &str, template: Template) -> Result<Self, &'static str> {
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
        let parts = fixed.chain(self.extra.iter().map(|(_, template)| template)).flat_map(|template| &template.parts);
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
struct Template {
    parts: Vec<Part>,
    /// Whether values were sealed by it before, and are no more.
    former: bool,
}

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
        Ok(Self { parts, former: false })
    }

    /// Whether it is made of more than one column.
    fn is_composed(&self) -> bool {
        let mut columns = self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name),
            Part::Text(_) => None,
        });
        let first = columns.next();
        columns.any(|other| Some(other) != first)
    }

    /// Whether two of its columns have nothing between them.
    fn runs_together(&self) -> bool {
        let pairs = self.parts.iter().zip(self.parts.iter().skip(1));
        self.is_composed() && pairs.into_iter().any(|pair| matches!(pair, (Part::Column(_), Part::Column(_))))
    }

    /// The text of a row; none where its cells are NULL.
    ///
    /// What is read from left to right, each cell up to the text that follows it, gives the cells
    /// back: so no other cells make the same text.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn fill<'a>(&self, lookup: &dyn Fn(&str) -> Option<&'a Cell>) -> Result<Option<String>> {
        let guarded = self.is_composed() && !self.former;
        let (mut out, mut nulls, mut filled) = (String::new(), false, false);
        for (at, part) in self.parts.iter().enumerate() {
            let name = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Column(name) => name,
            };
            let from = out.len();
            match lookup(name) {
                Some(Cell::Text(text)) => out.push_str(text),
                Some(Cell::Integer(number)) => out.push_str(&number.to_string()),
                Some(Cell::Null) => {
                    nulls = true;
                    continue;
                }
                _ => return Err(not_for_contexts()),
            }
            filled = true;
            if guarded && let (Some(cell), Some(Part::Text(text))) = (out.get(from..), self.parts.get(at + 1)) {
                let is_last = !self.parts.iter().skip(at + 1).any(|part| matches!(part, Part::Column(_)));
                if !is_last && format!("{cell}{text}").find(text.as_str()) != Some(cell.len()) {
                    return Err(Error::Malformed {
                        what: "row: a column of its context contains the text that follows it in the template",
                    });
                }
            }
        }
        match (nulls, filled) {
            (true, true) if guarded => {
                Err(Error::Malformed { what: "row: some of the columns that make a field of its context are NULL" })
            }
            (true, _) => Ok(None),
            _ => Ok(Some(out)),
        }
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
    use proptest::prelude::*;

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

    fn fill(template: &str, cells: &[(&str, Cell)]) -> Result<Option<String>> {
        let template = Template::parse(template).unwrap();
        template.fill(&|name| cells.iter().find(|(known, _)| *known == name).map(|(_, cell)| cell))
    }

    #[test]
    fn columns_that_run_together_are_refused() {
        let with = |template| ContextTemplate::default().with("tenant", template);
        for template in ["{org}{uid}", "x{org}{uid}y", "{a}/{b}{c}", "{a}{b}/{a}"] {
            assert!(with(template).is_err(), "{template}");
            ContextTemplate::default().with_former("tenant", template).unwrap();
        }
        for template in ["{org}", "x{org}y", "{org}/{uid}", "{a}, {b}: {c}", "{a}{a}"] {
            with(template).unwrap();
        }
    }

    #[test]
    fn a_cell_that_contains_its_separator_is_refused() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let both = |template: &str, a: &str, b: &str| fill(template, &[("a", text(a)), ("b", text(b))]);
        assert_eq!(both("{a}/{b}", "1", "2/3").unwrap().unwrap(), "1/2/3");
        assert!(both("{a}/{b}", "1/2", "3").is_err());
        assert!(both("{a}::{b}", "1:", "3").is_err(), "the separator would be found one character early");
        assert_eq!(both("{a}::{b}::", "1", "::3::").unwrap().unwrap(), "1::::3::::");
        assert_eq!(fill("{a}/{b}", &[("a", Cell::Integer(1)), ("b", Cell::Integer(-2))]).unwrap().unwrap(), "1/-2");
        assert!(fill("{a}/{b}", &[("a", Cell::Null), ("b", text("x"))]).is_err());
        assert!(fill("{a}/{b}", &[("a", text("x")), ("b", Cell::Null)]).is_err());
        assert_eq!(fill("{a}/{b}", &[("a", Cell::Null), ("b", Cell::Null)]).unwrap(), None);
        let former = ContextTemplate::default().with_former("name", "{c}{d}").unwrap();
        assert_eq!(former.build(&|_| Some(&Cell::Integer(7))).unwrap(), Context::none().name("77"));
    }

    proptest! {
        /// No two rows that are taken have one text.
        #[test]
        fn filled_templates_tell_rows_apart(
            between in "[:a]{1,3}",
            one in ("[:ab]{0,4}", "[:ab]{0,4}"),
            other in ("[:ab]{0,4}", "[:ab]{0,4}"),
        ) {
            let filled = |(a, b): &(String, String)| {
                let cells = [("a", Cell::Text(a.clone())), ("b", Cell::Text(b.clone()))];
                fill(&format!("x{{a}}{between}{{b}}y"), &cells).ok().flatten()
            };
            if let (Some(first), Some(second)) = (filled(&one), filled(&other)) {
                prop_assert_eq!(first == second, one == other);
            }
        }
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
