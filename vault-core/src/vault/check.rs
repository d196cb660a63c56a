//! Whether declared secrets are in order, whatever their sources.

use crate::check::{Finding, Severity, judge};
use crate::error::{Error, Result};
use crate::manifest::SecretSpec;
use crate::name::{SecretName, Version};
use crate::resolver::{Note, Resolved, Source};
use crate::store::EntryName;
use crate::time::Timestamp;

use super::Vault;

impl Vault {
    /// What is wrong with a declared secret at a time: it is missing, set twice, not what was
    /// declared, public, shadows another value, or is overdue. Nothing is changed, and no finding
    /// holds a value.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not declared. Whatever keeps a source from being read is a
    /// finding.
    pub fn check(&self, name: &SecretName, now: Timestamp) -> Result<Vec<Finding>> {
        let (_, spec) = self
            .manifest
            .secrets()
            .find(|(declared, _)| *declared == name)
            .ok_or_else(|| Error::NotFound { what: format!("declaration [secrets.{name}]") })?;
        let mut findings = Vec::new();
        let twice = self.resolver.set_twice(name);
        if let Some((variable, file_variable)) = &twice {
            findings.push(Finding::failure(
                "set-twice",
                format!("{variable} and {file_variable} are both set, and programs differ in which they take"),
                "unset one of them",
            ));
        }
        let all = self.all(name);
        let resolved = match self.optional_secret(name.as_str()) {
            Ok(Some(resolved)) => resolved,
            Ok(None) => return Ok(findings),
            Err(_) if twice.is_some() => return Ok(findings),
            Err(error) => {
                findings.extend(refused(name, spec, &all, &error));
                return Ok(findings);
            }
        };
        let won = &resolved.source;
        findings.extend(resolved.notes.iter().filter_map(|note| noted(name, note)));
        findings.extend(judge(name, spec, resolved.value.expose_secret()).into_iter().map(|found| found.at(won)));
        findings.extend(shadowed(spec, won, &all));
        findings.extend(unread(&resolved, &all));
        if matches!(won, Source::Variable(_)) && !spec.environment {
            findings.push(Finding::warning(
                "from-environment",
                format!("it comes from {won}, which child processes and crash reports show"),
                format!(
                    "deliver it as a file and name that in {}_FILE, or declare `source = \"env\"`",
                    name.variable()
                ),
            ));
        }
        if *won != Source::Default {
            findings.extend(self.overdue(name, spec, won, now));
        }
        Ok(findings)
    }

    /// Whether it should have been changed by now. The store knows when that was last done.
    fn overdue(&self, name: &SecretName, spec: &SecretSpec, won: &Source, now: Timestamp) -> Option<Finding> {
        let days = spec.rotate_every?;
        let stored = || {
            let entry = self.store().ok()?.get(&EntryName::new(name.clone()), Version::Current).ok()??;
            Some(entry.created)
        };
        let base = if matches!(won, Source::Store { .. }) { stored() } else { None }.or(spec.rotated);
        let Some(base) = base else {
            return Some(Finding::new(
                "rotation-unknown",
                Severity::Warning,
                format!("it is to be changed every {days} days, and nothing says when that was last done"),
                "declare `rotated = YYYY-MM-DD`, or keep it in the store",
            ));
        };
        if base.0 > now.0 + 86_400 {
            return Some(Finding::failure(
                "rotated-in-future",
                format!("it is said to have been changed on {}, which is still to come", base.date()),
                "put `rotated` or the clock right: until then it is never overdue",
            ));
        }
        let age = now.0.saturating_sub(base.0) / 86_400;
        (age >= u64::from(days)).then(|| {
            Finding::failure(
                "overdue",
                format!("it was last changed on {}, {age} days ago, and {days} are declared", base.date()),
                "change it where it is used and here, and then `rotated` where that is declared",
            )
        })
    }
}

/// Why no value can be used. What the resolver refuses, the value itself may explain better.
fn refused(name: &SecretName, spec: &SecretSpec, all: &[Result<Resolved>], error: &Error) -> Vec<Finding> {
    if let Some(Ok(first)) = all.first() {
        let findings = judge(name, spec, first.value.expose_secret());
        if !findings.is_empty() {
            return findings.into_iter().map(|found| found.at(&first.source)).collect();
        }
    }
    vec![match error {
        Error::NotFound { .. } => Finding::failure(
            "missing",
            error.to_string(),
            format!("`vault set {name}`, mount it as a file, or declare `required = false`"),
        ),
        _ => unreadable(error),
    }]
}

fn noted(name: &SecretName, note: &Note) -> Option<Finding> {
    match note {
        Note::Default => Some(Finding::warning(
            "default-used",
            "no source has it, and the default of vault.toml is used, which is no secret",
            format!("`vault set {name}`, or deliver it as a file"),
        )),
        Note::PassedOver(_) => {
            Some(Finding::warning("passed-over", note.to_string(), "let the application read it, or remove it"))
        }
        Note::OtherSpelling(_) => Some(Finding::failure(
            "other-spelling",
            note.to_string(),
            format!("call it {}, or remove it if it is out of date", name.file_name()),
        )),
        Note::Replaced => Some(Finding::failure("not-text", note.to_string(), "write it again as text, in UTF-8")),
        // What is judged says so.
        Note::Empty => None,
    }
}

/// What other sources have that differs from what wins.
fn shadowed<'a>(
    spec: &'a SecretSpec,
    won: &'a Source,
    all: &'a [Result<Resolved>],
) -> impl Iterator<Item = Finding> + 'a {
    let text = |resolved: &'a Resolved| spec.kind.secret_in(resolved.value.expose_secret());
    let found = || all.iter().flatten();
    let winner = found().find(|found| found.source == *won).map(text);
    found().filter(move |other| other.source != *won && winner.is_some_and(|winner| winner != text(other))).map(
        move |other| {
            Finding::failure(
                "shadows",
                format!("{won} wins over {}, which has another value", other.source),
                "remove the one that is out of date: whoever reads that source alone gets another secret",
            )
        },
    )
}

/// Sources behind the one that wins which exist and cannot be read: whoever reads them alone fails.
fn unread<'a>(won: &'a Resolved, all: &'a [Result<Resolved>]) -> impl Iterator<Item = Finding> + 'a {
    let told = |text: &str| won.notes.iter().any(|note| matches!(note, Note::PassedOver(reason) if reason == text));
    let errors = all.iter().filter_map(|found| found.as_ref().err()).filter(move |error| !told(&error.to_string()));
    errors.map(|error| {
        let Finding { code, what, remedy, .. } = unreadable(error);
        Finding::warning(code, format!("{} wins; of another source: {what}", won.source), remedy)
    })
}

fn unreadable(error: &Error) -> Finding {
    let remedy = error.hint().unwrap_or("put right what the message names");
    Finding::failure("unreadable", error.to_string(), remedy)
}
