//! From one row's value to what it should be: the rules of rotation, migration and resealing, with
//! no database in sight (docs/ARCHITECTURE.md, "Rotation").

use std::sync::Arc;

use crate::column::{ColumnSpec, ContextTemplate, Row, Selection};
use crate::error::{Error, Result};
use crate::format::{Format, sealed};
use crate::key::KeyId;
use crate::keyring::Keyring;
use crate::legacy::{self, LegacyKey};
use crate::sealer::Sealer;
use crate::secret::SecretBytes;
use crate::token::{HARD_LIMIT, Token, WrappedKey};

/// What is being done to a column.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Job {
    /// Every value in another format.
    Migrate(Format),
    /// Tokens that were sealed for the old context, sealed again for the declared one.
    Reseal(ContextTemplate),
    /// Every value under the primary key: rewrapped, or for a legacy format written again.
    Rotate,
    /// Every token opened with its context and sealed again under the primary key and a new data
    /// key, once in a run; then as [`Rotate`](Self::Rotate).
    RotateDeep,
}

impl Job {
    /// The name under which a run of this job is recorded.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Migrate(_) => "migrate",
            Self::Reseal(_) => "reseal",
            Self::Rotate => "rotate",
            Self::RotateDeep => "rotate-deep",
        }
    }
}

/// The keys that a column's values may be under.
#[derive(Clone, Debug, Default)]
pub struct ColumnKeys {
    /// For tokens.
    pub sealer: Option<Sealer>,
    /// For legacy formats.
    pub legacy: Option<Keyring<LegacyKey>>,
}

/// What became of one value.
pub(super) enum Outcome {
    /// It is what it should be.
    Current,
    /// It cannot be moved, and is left as it is.
    Failed(Error),
    /// It should become this text.
    Rewrite(String),
    /// It opens, in a legacy format where tokens are written, or is plain text: no affair of a rotation.
    Unmigrated,
}

impl From<Option<String>> for Outcome {
    fn from(new: Option<String>) -> Self {
        new.map_or(Self::Current, Self::Rewrite)
    }
}

/// A value that was recognised: its format, and the key that it is under.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct Recognised {
    /// Its format.
    pub format: Format,
    /// Its key; none for plain text.
    pub kid: Option<KeyId>,
}

/// Applies one job to values, one at a time. Shared with the thread that works ahead.
pub(super) struct Converter<'a> {
    spec: &'a ColumnSpec,
    job: &'a Job,
    /// Whether a deep rotation seals tokens again that are under the primary key already.
    afresh: bool,
    /// The longest plaintext that a migration seals, in bytes.
    limit: usize,
    sealer: Option<Sealer>,
    legacy: Option<&'a Keyring<LegacyKey>>,
}

/// A value that was opened.
struct Opened {
    secret: SecretBytes,
    recognised: Recognised,
}

impl<'a> Converter<'a> {
    pub(super) fn new(spec: &'a ColumnSpec, keys: &'a ColumnKeys, job: &'a Job) -> Self {
        // What an application sealed under a raised limit must still move.
        let sealer = keys.sealer.clone().map(|sealer| sealer.with_limit(HARD_LIMIT));
        Self { spec, job, afresh: false, limit: HARD_LIMIT, sealer, legacy: keys.legacy.as_ref() }
    }

    /// The same for the pass of a deep rotation that leaves no token as it is.
    pub(super) fn afresh(self) -> Self {
        Self { afresh: true, ..self }
    }

    /// The same for a migration that seals no plaintext of more than `limit` bytes, which applications
    /// would not open.
    pub(super) fn limited(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The format that values have when the job is done.
    pub(super) fn goal(&self) -> Format {
        match self.job {
            Job::Migrate(format) => *format,
            Job::Reseal(_) => Format::Vs1,
            Job::Rotate | Job::RotateDeep => self.spec.writes,
        }
    }

    /// The columns whose cells the job needs for the values that `select` gives.
    pub(super) fn columns(&self, select: &Selection) -> Arc<[String]> {
        let mut columns = match (self.job, select) {
            // Tokens alone, and a rewrap is the same whatever the context.
            (Job::Rotate, Selection::Prefixes(_)) => Vec::new(),
            (Job::Reseal(old), _) => [old.columns(), self.spec.context.columns()].concat(),
            _ => self.spec.context.columns(),
        };
        columns.sort();
        columns.dedup();
        columns.into()
    }

    /// The key that values are under when the job is done.
    pub(super) fn target(&self) -> Result<KeyId> {
        if self.goal() == Format::Vs1 { self.sealer()?.primary() } else { Ok(self.legacy()?.primary()?.kid()) }
    }

    pub(super) fn convert(&self, row: &Row) -> Outcome {
        self.try_convert(row).unwrap_or_else(Outcome::Failed)
    }

    /// What the value is, after it was proved to open (a token: to be authentic).
    pub(super) fn recognise(&self, row: &Row) -> Result<Recognised> {
        let value = text(row)?;
        match Shape::of(value) {
            Shape::Token => {
                let token = token(value)?;
                self.sealer()?.verify(&token)?;
                Ok(Recognised { format: Format::Vs1, kid: Some(token.kid()) })
            }
            Shape::WrappedKey => {
                let wrapped: WrappedKey = value.parse()?;
                let sealer = self.sealer()?;
                sealer.rewrap_key(&wrapped)?;
                Ok(Recognised { format: Format::Vs1, kid: Some(wrapped.kid()) })
            }
            Shape::Other => self.open_legacy(row).map(|opened| opened.recognised),
        }
    }

    fn try_convert(&self, row: &Row) -> Result<Outcome> {
        let value = text(row)?;
        match (Shape::of(value), self.goal()) {
            (Shape::Token, Format::Vs1) => self.convert_token(row, &token(value)?).map(Outcome::from),
            (Shape::WrappedKey, Format::Vs1) => {
                let wrapped: WrappedKey = value.parse()?;
                let moved = self.sealer()?.rewrap_key(&wrapped)?;
                Ok((moved != wrapped).then(|| moved.to_string()).into())
            }
            (Shape::WrappedKey, _) => Err(Error::Unsupported { what: "format for a wrapped key: it can only be vk1" }),
            (Shape::Token, goal) => {
                if !matches!(self.job, Job::Migrate(_)) {
                    return Err(Error::Malformed {
                        what: "value: a token in a column that writes a legacy format; migrate it",
                    });
                }
                let secret = self.sealer()?.open(&row.context(&self.spec.context)?, &token(value)?)?;
                self.write_legacy(goal, row, &secret).map(Outcome::Rewrite)
            }
            (Shape::Other, Format::Vs1) => match self.job {
                Job::Migrate(_) => {
                    let opened = self.open_legacy(row)?;
                    if opened.secret.len() > self.limit {
                        return Err(Error::TooLarge { what: "value: its plaintext", limit: self.limit });
                    }
                    let token =
                        self.sealer()?.seal(&row.context(&self.spec.context)?, opened.secret.expose_secret())?;
                    Ok(Outcome::Rewrite(token.text()))
                }
                Job::Reseal(_) => Err(Error::Malformed { what: "value: not a token; migrate the column first" }),
                Job::Rotate | Job::RotateDeep => self.open_legacy(row).map(|_| Outcome::Unmigrated),
            },
            (Shape::Other, goal) => {
                let opened = self.open_legacy(row)?;
                if opened.recognised == (Recognised { format: goal, kid: Some(self.target()?) }) {
                    return Ok(Outcome::Current);
                }
                // It is under no key that could be replaced.
                if opened.recognised.format == Format::Plaintext && !matches!(self.job, Job::Migrate(_)) {
                    return Ok(Outcome::Unmigrated);
                }
                self.write_legacy(goal, row, &opened.secret).map(Outcome::Rewrite)
            }
        }
    }

    /// The new text, or none where the token is what it should be.
    fn convert_token(&self, row: &Row, token: &Token) -> Result<Option<String>> {
        let sealer = self.sealer()?;
        let stale = token.kid() != sealer.primary()?;
        match self.job {
            Job::Rotate if stale => Ok(Some(sealer.rewrap(token)?.text())),
            Job::RotateDeep => {
                let context = &row.context(&self.spec.context)?;
                let secret = sealer.open(context, token)?;
                let reseal = stale || self.afresh;
                reseal
                    .then(|| sealer.seal(context, secret.expose_secret()))
                    .transpose()
                    .map(|new| new.map(|token| token.text()))
            }
            Job::Reseal(old) => {
                let context = &row.context(&self.spec.context)?;
                match sealer.open(context, token) {
                    Ok(_) => Ok(None),
                    Err(Error::ContextMismatch) => {
                        let secret = sealer.open(&row.context(old)?, token)?;
                        Ok(Some(sealer.seal(context, secret.expose_secret())?.text()))
                    }
                    Err(other) => Err(other),
                }
            }
            _ => Ok(None),
        }
    }

    fn write_legacy(&self, goal: Format, row: &Row, secret: &SecretBytes) -> Result<String> {
        let owner = legacy::owner(row.value.as_bytes()).map(|uid| uid.to_string());
        let context = row.context(&self.spec.context)?;
        let tenant = owner.as_deref().or(context.tenant_value());
        legacy::seal(goal, self.legacy()?.primary()?, tenant, secret.expose_secret())
    }

    /// Opens a value that names no key: the formats that the column reads are tried in order where
    /// the syntax fits, under the keys of its keyring with the target first, and the format's MAC
    /// decides. Plain text is read last.
    fn open_legacy(&self, row: &Row) -> Result<Opened> {
        let value = row.value.as_bytes();
        let mut failure = None;
        let formats = self.spec.reads.iter().copied();
        for format in formats.filter(|format| format.is_legacy() && format.fits(value)) {
            let opened = if format.authenticated() {
                self.open_authenticated(format, row)
            } else {
                self.open_unauthenticated(format, row)
            };
            match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if !self.spec.reads.contains(&Format::Plaintext) || !Format::Plaintext.fits(value) => {
                Err(Error::Malformed { what: "value: in none of the formats that the column reads" })
            }
            None if sealed::seems_sealed(value, &self.spec.reads) => Err(Error::Malformed {
                what: "value: it looks sealed, and is damaged or in a format that the column does not read",
            }),
            None => {
                let recognised = Recognised { format: Format::Plaintext, kid: None };
                Ok(Opened { secret: SecretBytes::copy_of(value), recognised })
            }
        }
    }

    fn open_authenticated(&self, format: Format, row: &Row) -> Result<Opened> {
        let mut failure = Error::Corrupt { what: "value" };
        let context = row.context(&self.spec.context)?;
        for key in self.legacy()?.opening_keys() {
            match legacy::open(format, key, context.tenant_value(), row.value.as_bytes()) {
                Ok(secret) => return Ok(Opened { secret, recognised: Recognised { format, kid: Some(key.kid()) } }),
                Err(Error::Corrupt { .. }) => {}
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    /// Without a MAC, a wrong key passes now and then: exactly one key must give a plausible
    /// result. The target, under which such values are never written, is asked only where it is
    /// the only key.
    fn open_unauthenticated(&self, format: Format, row: &Row) -> Result<Opened> {
        let keyring = self.legacy()?;
        let target = keyring.primary_kid();
        let only_key = keyring.opening_keys().count() == 1;
        let mut found = None;
        for key in keyring.opening_keys().filter(|key| only_key || key.kid() != target) {
            if let Ok(secret) = legacy::open(format, key, None, row.value.as_bytes()) {
                if found.is_some() {
                    return Err(Error::Corrupt { what: "value, under two keys of which no MAC tells the right one," });
                }
                found = Some(Opened { secret, recognised: Recognised { format, kid: Some(key.kid()) } });
            }
        }
        found.ok_or(Error::Corrupt { what: "value" })
    }

    /// Whether tokens that name `kid` may open.
    pub(super) fn opens_under(&self, kid: KeyId) -> bool {
        self.sealer.as_ref().is_some_and(|sealer| sealer.keyring().opening(kid).is_ok())
    }

    fn sealer(&self) -> Result<&Sealer> {
        self.sealer.as_ref().ok_or(Error::KeyMissing { place: "the column has no keyring of kind \"kek\"".to_owned() })
    }

    fn legacy(&self) -> Result<&'a Keyring<LegacyKey>> {
        self.legacy.ok_or(Error::KeyMissing { place: "the column has no keyring of kind \"text\"".to_owned() })
    }
}

/// What the first characters of a value say.
enum Shape {
    Other,
    Token,
    WrappedKey,
}

impl Shape {
    fn of(value: &str) -> Self {
        if value.starts_with("vs1.") {
            Self::Token
        } else if value.starts_with("vk1.") {
            Self::WrappedKey
        } else {
            Self::Other
        }
    }
}

fn token(value: &str) -> Result<Token> {
    Token::parse(value, HARD_LIMIT)
}

/// The value, which is text in every format.
fn text(row: &Row) -> Result<&str> {
    core::str::from_utf8(row.value.as_bytes()).map_err(|_| Error::Malformed {
        what: "value: it is no text, or in a document that is no JSON; repair or remove the row",
    })
}

/// Why a value was not moved, and what to do.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::KeyDisabled { kid } => format!("{error}; `vault key enable {kid}` opens it again, until it is moved"),
        Error::KeyDestroyed { .. } => format!("{error}; restore the row from a backup, or remove it"),
        Error::KeyUnavailable { .. } | Error::UnknownKey { .. } => {
            format!("{error}; {}", error.hint().unwrap_or_default())
        }
        Error::TooLarge { .. } => {
            format!("{error}, the limit of applications; where theirs is raised, say so with --max-plaintext")
        }
        Error::Corrupt { .. } => format!("{error}; restore the row from a backup"),
        Error::ContextMismatch => format!("{error}; it was moved here, or a column of its context was changed"),
        _ => error.to_string(),
    }
}
