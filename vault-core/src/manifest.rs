//! `vault.toml`: what an operator declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::column::{ColumnSpec, ContextTemplate};
use crate::error::{Error, Place, Result};
use crate::file;
use crate::format::Format;
use crate::key::Trim;
use crate::keyring::KeyringKind;
use crate::name::SecretName;

/// Longest `vault.toml`, in bytes.
const MAX_FILE: usize = 1 << 20;
/// The keyring that seals tokens unless a column names another.
pub(crate) const MAIN: &str = "main";

/// A `vault.toml`, checked: a value of this type has no contradictions in it.
#[derive(Clone, Debug)]
pub struct Manifest {
    path: PathBuf,
    nodes: Option<u32>,
    keyrings: BTreeMap<String, KeyringSpec>,
    secrets: BTreeMap<SecretName, SecretSpec>,
    columns: Vec<ColumnSpec>,
}

/// A declared keyring.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyringSpec {
    /// Its name.
    pub name: String,
    /// What its keys are.
    pub kind: KeyringKind,
    /// Where its keys are looked for.
    pub sources: Vec<KeySource>,
    /// Its state file; without one, it has exactly one key.
    pub state: Option<PathBuf>,
    /// Least generation that is accepted of the state file.
    pub min_generation: u64,
    /// What is removed from key texts, by the formats of the columns that use them.
    pub trim: Trim,
}

/// Where keys are looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeySource {
    /// A file, or with `*` or `?` in its name all that match.
    File(PathBuf),
    /// A secret, resolved by name.
    Secret(SecretName),
}

/// A declared secret.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SecretSpec {
    /// The file that holds it, where it is not found by its name.
    pub path: Option<PathBuf>,
    /// Whether it must exist.
    pub required: bool,
}

impl Manifest {
    /// Reads a `vault.toml`, with the changes of a profile where one is named.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Config`] with line and column, never with what stands there.
    pub fn load(path: &Path, profile: Option<&str>) -> Result<Self> {
        let content = file::read(path, MAX_FILE)?;
        let text = core::str::from_utf8(content.expose_secret())
            .map_err(|_| Error::Config { place: Place::file(path), reason: "it is not UTF-8 text".to_owned() })?;
        let path = path.canonicalize().map_err(|source| Error::io("find", path, source))?;
        Self::parse(text, &path, profile)
    }

    /// Reads the text of a `vault.toml` that is at `path`: paths in it are relative to its
    /// directory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, profile: Option<&str>) -> Result<Self> {
        let raw: RawManifest = file::parse_toml(path, text)?;
        let reader = Reader { path };
        if raw.version != 1 {
            return Err(reader.wrong("`version` is not 1, the only version that this release reads"));
        }
        if raw.vault.nodes == Some(0) {
            return Err(reader.wrong("`nodes` is 0; it counts the processes that hold keys"));
        }
        let mut secrets = BTreeMap::new();
        let mut raw_secrets = raw.secrets;
        if let Some(profile) = profile {
            let Some(chosen) = raw.profiles.get(profile) else {
                return Err(reader.wrong(&format!("there is no profile {profile}")));
            };
            for (name, change) in &chosen.secrets {
                raw_secrets.entry(name.clone()).or_default().change(change);
            }
        }
        for (name, secret) in raw_secrets {
            secrets.insert(reader.name(&name)?, reader.secret(&name, &secret)?);
        }
        let mut variables = BTreeMap::new();
        for name in secrets.keys() {
            if let Some(other) = variables.insert(name.variable(), name) {
                return Err(reader.wrong(&format!("secrets {other} and {name} have one environment variable")));
            }
        }
        let columns = raw.column.iter().map(|column| reader.column(column)).collect::<Result<Vec<_>>>()?;
        let mut keyrings = BTreeMap::new();
        for (name, keyring) in &raw.keyring {
            keyrings.insert(name.clone(), reader.keyring(name, keyring, &columns)?);
        }
        let manifest = Self { path: path.to_owned(), nodes: raw.vault.nodes, keyrings, secrets, columns };
        for (at, column) in manifest.columns.iter().enumerate() {
            if manifest.columns.iter().take(at).any(|other| other.name == column.name) {
                return Err(reader.wrong(&format!("column {} is declared twice", column.name)));
            }
            manifest.keyring_for(column, column.writes)?;
            for format in column.reads.iter().filter(|format| **format != Format::Plaintext) {
                manifest.keyring_for(column, *format)?;
            }
        }
        Ok(manifest)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many processes hold the keys, where that is declared.
    #[must_use]
    pub fn nodes(&self) -> Option<u32> {
        self.nodes
    }

    /// All keyrings.
    pub fn keyrings(&self) -> impl Iterator<Item = &KeyringSpec> {
        self.keyrings.values()
    }

    /// A keyring by name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not declared.
    pub fn keyring(&self, name: &str) -> Result<&KeyringSpec> {
        self.keyrings.get(name).ok_or_else(|| {
            let known: Vec<_> = self.keyrings.keys().map(String::as_str).collect();
            Reader { path: &self.path }
                .wrong(&format!("no [keyring.{name}] is declared; declared are: {}", known.join(", ")))
        })
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// A column by name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub fn column(&self, name: &str) -> Result<&ColumnSpec> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| Error::NotFound { what: format!("column {name}") })
    }

    /// The declared secrets.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&SecretName, &SecretSpec)> {
        self.secrets.iter()
    }

    /// The keyring of a format's keys in a column.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if none of that kind is declared for it.
    pub fn keyring_for(&self, column: &ColumnSpec, format: Format) -> Result<&KeyringSpec> {
        let kind = if format == Format::Vs1 { KeyringKind::Kek } else { KeyringKind::Text };
        let named = [Some(column.keyring.as_str()), column.reads_keyring.as_deref()];
        for name in named.into_iter().flatten() {
            if name == MAIN && !self.keyrings.contains_key(MAIN) && kind == KeyringKind::Text {
                continue;
            }
            let keyring = self.keyring(name)?;
            if keyring.kind == kind {
                return Ok(keyring);
            }
        }
        if let Some(main) = self.keyrings.get(MAIN).filter(|main| kind == KeyringKind::Kek && main.kind == kind) {
            return Ok(main);
        }
        let reason = format!(
            "column {}: {format} needs a keyring of kind \"{}\" in `keyring` or `reads_keyring`",
            column.name,
            kind.as_str()
        );
        Err(Reader { path: &self.path }.wrong(&reason))
    }
}

impl KeyringSpec {
    /// Where a new key's file goes so that a source finds it: under its own name where a pattern
    /// matches that, else under one made of the pattern and `stem`, or where a named file is
    /// missing.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if no source takes another file.
    pub fn destination(&self, file: &Path, stem: &str) -> Result<PathBuf> {
        for source in &self.sources {
            let KeySource::File(pattern) = source else { continue };
            let wanted = pattern.file_name().unwrap_or_default().to_string_lossy();
            if !has_wildcard(&wanted) {
                if !pattern.exists() {
                    return Ok(pattern.clone());
                }
                continue;
            }
            let own = file.file_name().unwrap_or_default().to_string_lossy();
            if matches(&wanted, &own) {
                return Ok(pattern.with_file_name(&*own));
            }
            return Ok(pattern.with_file_name(wanted.replacen('*', stem, 1).replace(['*', '?'], "0")));
        }
        Err(Error::Config {
            place: Place::file("vault.toml"),
            reason: format!(
                "no source of keyring {} takes another key file; add one with a pattern, like \"file:/run/secrets/vault_kek_*\"",
                self.name
            ),
        })
    }
}

/// Whether a file name has a part that stands for others.
pub(crate) fn has_wildcard(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether a pattern of `*` and `?` matches a name. Hidden files match no pattern.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', behind)), _) => {
                (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| rest(behind, name)))
            }
            (Some((b'?', behind)), Some((_, name))) => rest(behind, name),
            (Some((wanted, behind)), Some((found, name))) => wanted == found && rest(behind, name),
            _ => false,
        }
    }
    // A pattern with many stars could take for ever; a dozen is more than anybody needs.
    !name.starts_with('.') && pattern.matches('*').count() <= 4 && rest(pattern.as_bytes(), name.as_bytes())
}

/// Turns what was read into what it means.
struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, reason: &str) -> Error {
        Error::Config { place: Place::file(self.path), reason: reason.to_owned() }
    }

    fn resolve(&self, path: &str) -> PathBuf {
        file::directory_of(self.path).join(path)
    }

    fn name(&self, name: &str) -> Result<SecretName> {
        SecretName::parse(name)
            .map_err(|_| self.wrong("the name of a secret is not letters, digits and . _ - in segments joined by /"))
    }

    fn secret(&self, name: &str, raw: &RawSecret) -> Result<SecretSpec> {
        const TYPES: [&str; 10] = [
            "text",
            "url",
            "int",
            "hex",
            "base64",
            "fernet-key",
            "pem-private-key",
            "pem-public-key",
            "binary",
            "json",
        ];
        if raw.r#type.as_deref().is_some_and(|kind| !TYPES.contains(&kind)) {
            return Err(self.wrong(&format!("secret {name}: `type` is none of {}", TYPES.join(", "))));
        }
        if raw.path.is_some() && raw.composed.is_some() {
            return Err(self.wrong(&format!("secret {name}: `path` and `composed` exclude each other")));
        }
        Ok(SecretSpec {
            path: raw.path.as_deref().map(|path| self.resolve(path)),
            required: raw.required.unwrap_or(true),
        })
    }

    fn keyring(&self, name: &str, raw: &RawKeyring, columns: &[ColumnSpec]) -> Result<KeyringSpec> {
        let wrong = |reason: &str| self.wrong(&format!("[keyring.{name}]: {reason}"));
        let mut sources = Vec::new();
        for source in &raw.sources {
            sources.push(match source.split_once(':') {
                Some(("file", path)) if !path.is_empty() => {
                    let path = self.resolve(path);
                    if path.parent().is_some_and(|parent| has_wildcard(&parent.to_string_lossy())) {
                        return Err(wrong("a source has a pattern in a directory; only file names may have one"));
                    }
                    KeySource::File(path)
                }
                Some(("secret", secret)) => KeySource::Secret(self.name(secret)?),
                _ => return Err(wrong("a source is neither \"file:PATH\" nor \"secret:NAME\"")),
            });
        }
        if sources.is_empty() {
            return Err(wrong("`sources` is empty"));
        }
        let kind = match raw.kind.as_deref() {
            None | Some("kek") => KeyringKind::Kek,
            Some("text") => KeyringKind::Text,
            Some(_) => return Err(wrong("`kind` is neither \"kek\" nor \"text\"")),
        };
        let mut trims = columns
            .iter()
            .filter(|column| column.keyring == name || column.reads_keyring.as_deref() == Some(name))
            .flat_map(|column| column.reads.iter().chain([&column.writes]))
            .filter(|format| format.is_foreign())
            .map(|format| format.trim());
        let trim = trims.next().unwrap_or_default();
        if kind == KeyringKind::Text && trims.any(|other| other != trim) {
            return Err(wrong(
                "its columns are of applications that trim key texts differently; give each a keyring of its own",
            ));
        }
        Ok(KeyringSpec {
            name: name.to_owned(),
            kind,
            sources,
            state: raw.state.as_deref().map(|path| self.resolve(path)),
            min_generation: raw.min_generation.unwrap_or_default(),
            trim,
        })
    }

    fn column(&self, raw: &RawColumn) -> Result<ColumnSpec> {
        let wrong = |reason: &str| self.wrong(&format!("column {}: {reason}", raw.name));
        if raw.name.is_empty()
            || !raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        {
            return Err(self.wrong("the `name` of a column is not of letters, digits and . _ -"));
        }
        let Some(database) = raw.database.strip_prefix("sqlite:").filter(|path| !path.is_empty()) else {
            return Err(wrong("`database` is not \"sqlite:PATH\", the only kind that this release rotates"));
        };
        let format = |name: &String| {
            name.parse::<Format>().map_err(|_| {
                let known: Vec<_> = Format::ALL.iter().map(|format| format.as_str()).collect();
                wrong(&format!("an unknown format; known are {}", known.join(", ")))
            })
        };
        let reads = raw.reads.iter().map(format).collect::<Result<Vec<_>>>()?;
        let writes = format(&raw.writes)?;
        if !writes.writable() {
            return Err(wrong(&format!("nothing is ever written as {writes}")));
        }
        if reads.iter().rev().skip(1).any(|format| *format == Format::Plaintext) {
            return Err(wrong("\"plaintext\" fits everything, and must be the last of `reads`"));
        }
        if !reads.contains(&writes) {
            return Err(wrong("`reads` does not contain the format that `writes` names"));
        }
        if raw.row.is_empty() {
            return Err(wrong("`row` is empty"));
        }
        if raw.member.as_ref().is_some_and(|member| member.is_empty() || member.contains(['"', '\\', '\0'])) {
            return Err(wrong("`member` is empty, or has a quote or backslash in it"));
        }
        let mut context = ContextTemplate::default();
        for (field, template) in &raw.context {
            match template {
                RawTemplate::Field(template) => {
                    context = context.with(field, template).map_err(|reason| wrong(&format!("context: {reason}")))?;
                }
                RawTemplate::Extra(pairs) if field == "extra" => {
                    for (key, template) in pairs {
                        let field = format!("extra.{key}");
                        context =
                            context.with(&field, template).map_err(|reason| wrong(&format!("context: {reason}")))?;
                    }
                }
                RawTemplate::Extra(_) => return Err(wrong("context: only `extra` holds further pairs")),
            }
        }
        let text = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        Ok(ColumnSpec {
            name: raw.name.clone(),
            database: self.resolve(database),
            table: raw.table.clone(),
            row: raw.row.clone(),
            value: raw.value.clone(),
            member: raw.member.clone(),
            reads,
            writes,
            keyring: raw.keyring.clone().unwrap_or_else(|| MAIN.to_owned()),
            reads_keyring: raw.reads_keyring.clone(),
            context,
            filter: text(&raw.filter),
            immutable: raw.immutable,
            linked: raw.linked,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    version: u32,
    #[serde(default)]
    vault: RawVault,
    #[serde(default)]
    keyring: BTreeMap<String, RawKeyring>,
    #[serde(default)]
    #[expect(dead_code, reason = "checked for its form; stores are not part of this release")]
    store: Option<RawStore>,
    #[serde(default)]
    secrets: BTreeMap<String, RawSecret>,
    #[serde(default)]
    profiles: BTreeMap<String, RawProfile>,
    #[serde(default)]
    column: Vec<RawColumn>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`app` and `preset` are checked for their form; nothing depends on them yet")]
struct RawVault {
    app: Option<String>,
    preset: Option<String>,
    nodes: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeyring {
    kind: Option<String>,
    sources: Vec<String>,
    state: Option<String>,
    min_generation: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked for its form")]
struct RawStore {
    url: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecret {
    r#type: Option<String>,
    path: Option<String>,
    composed: Option<String>,
    source: Option<String>,
    default: Option<String>,
    min_length: Option<u32>,
    bytes: Option<u32>,
    rotate_every: Option<String>,
    rotated: Option<toml::value::Datetime>,
    required: Option<bool>,
}

impl RawSecret {
    fn change(&mut self, other: &Self) {
        fn over<T: Clone>(own: &mut Option<T>, other: &Option<T>) {
            if other.is_some() {
                own.clone_from(other);
            }
        }
        over(&mut self.r#type, &other.r#type);
        over(&mut self.path, &other.path);
        over(&mut self.composed, &other.composed);
        over(&mut self.source, &other.source);
        over(&mut self.default, &other.default);
        over(&mut self.min_length, &other.min_length);
        over(&mut self.bytes, &other.bytes);
        over(&mut self.rotate_every, &other.rotate_every);
        over(&mut self.rotated, &other.rotated);
        over(&mut self.required, &other.required);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(default)]
    secrets: BTreeMap<String, RawSecret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    name: String,
    database: String,
    table: String,
    row: Vec<String>,
    value: String,
    member: Option<String>,
    reads: Vec<String>,
    writes: String,
    keyring: Option<String>,
    reads_keyring: Option<String>,
    #[serde(default)]
    context: BTreeMap<String, RawTemplate>,
    filter: Option<String>,
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    linked: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTemplate {
    Field(String),
    Extra(BTreeMap<String, String>),
}
