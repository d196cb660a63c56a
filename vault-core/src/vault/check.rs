//! Whether declared secrets are in order, whatever their sources.

use crate::check::{Finding, Severity, judge};
use crate::error::{Error, Result};
use crate::manifest::SecretSpec;
use crate::name::{SecretName, Version};
use crate::resolver::Source;
use crate::secret::SecretBytes;
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
        let variable = name.variable();
        let twice = self.resolver.is_set(&variable) && self.resolver.is_set(&format!("{variable}_FILE"));
        if twice {
            findings.push(Finding::failure(
                "set-twice",
                format!("{variable} and {variable}_FILE are both set, and programs differ in which they take"),
                "unset one of them",
            ));
        }
        let sources = match self.sources(name) {
            Ok(sources) => sources,
            Err(_) if twice => return Ok(findings),
            Err(error) => {
                findings.push(unreadable(&error));
                return Ok(findings);
            }
        };
        match sources.split_first() {
            Some((won, shadowed)) => {
                findings.extend(self.judge_from(name, spec, won));
                findings.extend(shadowed.iter().filter_map(|other| self.shadowed(name, spec, won, other)));
                if matches!(won, Source::Variable(_)) && !spec.environment {
                    findings.push(Finding::warning(
                        "from-environment",
                        format!("it comes from {won}, which child processes and crash reports show"),
                        format!("deliver it as a file and name that in {variable}_FILE, or declare `source = \"env\"`"),
                    ));
                }
                findings.extend(self.overdue(name, spec, won, now));
            }
            None => findings.extend(self.absent(name, spec)),
        }
        Ok(findings)
    }

    /// The value that wins.
    fn judge_from(&self, name: &SecretName, spec: &SecretSpec, won: &Source) -> Vec<Finding> {
        let (findings, refused) = match self.secret(name.as_str()) {
            Ok(resolved) => (judge(name, spec, resolved.value.expose_secret()), None),
            // What the resolver refuses, the value itself may explain better.
            Err(error) => match self.value_at(name, spec, won) {
                Ok(value) => (judge(name, spec, value.expose_secret()), Some(error)),
                Err(error) => (Vec::new(), Some(error)),
            },
        };
        match refused {
            Some(error) if findings.is_empty() => vec![unreadable(&error)],
            _ => findings.into_iter().map(|found| found.at(won)).collect(),
        }
    }

    fn shadowed(&self, name: &SecretName, spec: &SecretSpec, won: &Source, other: &Source) -> Option<Finding> {
        let (Ok(winner), Ok(loser)) = (self.value_at(name, spec, won), self.value_at(name, spec, other)) else {
            return None;
        };
        (winner.expose_secret() != loser.expose_secret()).then(|| {
            Finding::failure(
                "shadows",
                format!("{won} wins over {other}, which has another value"),
                "remove the one that is out of date: whoever reads that source alone gets another secret",
            )
        })
    }

    /// What one source has, without the line break that text loses.
    fn value_at(&self, name: &SecretName, spec: &SecretSpec, source: &Source) -> Result<SecretBytes> {
        if let Source::Store { .. } = source {
            return Ok(self.stored(&EntryName::new(name.clone()), Version::Current)?.value);
        }
        let content = self.resolver.content(source)?;
        let bytes = content.expose_secret();
        let text = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n"));
        Ok(match text.filter(|_| spec.kind.loses_line_break()) {
            Some(text) => SecretBytes::copy_of(text),
            None => content,
        })
    }

    fn absent(&self, name: &SecretName, spec: &SecretSpec) -> Vec<Finding> {
        if let Some(default) = &spec.default {
            let used = Finding::warning(
                "default-used",
                "no source has it, and the default of vault.toml is used, which is no secret",
                format!("`vault set {name}`, or deliver it as a file"),
            );
            let judged = judge(name, spec, default.as_bytes()).into_iter();
            let judged = judged.map(|found| found.at("its default"));
            return [used].into_iter().chain(judged).collect();
        }
        match self.secret(name.as_str()) {
            Err(Error::NotFound { what }) if spec.required => vec![Finding::failure(
                "missing",
                format!("{what} not found"),
                format!("`vault set {name}`, mount it as a file, or declare `required = false`"),
            )],
            Ok(_) | Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => vec![unreadable(&error)],
        }
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

fn unreadable(error: &Error) -> Finding {
    let remedy = error.hint().unwrap_or("put right what the message names");
    Finding::failure("unreadable", error.to_string(), remedy)
}
