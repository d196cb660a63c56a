//! What `check` and `doctor` found, for people and for machines.

use std::io;

use serde_json::{Value, json};
use vault_core::check::{Finding, Severity};

use crate::failure::Failure;
use crate::output::{Output, one_line};

/// What was found, each with the secret that it is about where there is one.
#[derive(Default)]
pub(crate) struct Findings(Vec<(Option<String>, Finding)>);

impl Findings {
    /// Something that does not work, or that somebody else can change.
    pub(crate) fn failure(&mut self, code: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push((None, Finding::failure(code, what, remedy)));
    }

    /// Something that should be otherwise.
    pub(crate) fn warning(&mut self, code: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push((None, Finding::warning(code, what, remedy)));
    }

    /// Something that is as it is.
    pub(crate) fn information(&mut self, code: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push((None, Finding::new(code, Severity::Information, what, remedy)));
    }

    /// An error that is found instead of being the end.
    pub(crate) fn error(&mut self, error: &vault_core::Error) {
        let denied =
            matches!(error, vault_core::Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
        let remedy = match error.hint() {
            Some(hint) => hint,
            None if denied => {
                "`chown` it to the user that runs this; in a container, set `user:` to its owner, or mount it with another mode"
            }
            None => "put right what the message names",
        };
        self.failure(error.kind().as_str(), error.to_string(), remedy);
    }

    /// What was found of a secret.
    pub(crate) fn of(&mut self, name: &str, finding: Finding) {
        self.0.push((Some(name.to_owned()), finding));
    }

    /// What was found so far of a secret, by code.
    pub(crate) fn has(&self, name: &str, code: &str) -> bool {
        self.0.iter().any(|(of, finding)| of.as_deref() == Some(name) && finding.code == code)
    }

    /// Takes back what was found of a secret, by code.
    pub(crate) fn replace(&mut self, name: &str, code: &str, by: Finding) {
        self.0.retain(|(of, finding)| of.as_deref() != Some(name) || finding.code != code);
        self.of(name, by);
    }

    /// How many there are of a severity.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|(_, finding)| finding.severity == severity).count()
    }

    /// Tells all of them, the worst first.
    pub(crate) fn tell(mut self, output: &mut Output) -> Result<(), Failure> {
        self.0.sort_by_key(|(_, finding)| finding.severity);
        let counts = [Severity::Failure, Severity::Warning, Severity::Information].map(|each| self.count(each));
        let [failures, warnings, notes] = counts;
        let mut lines: Vec<String> = self
            .0
            .iter()
            .map(|(name, finding)| {
                let of = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                let Finding { code, severity, what, remedy, .. } = finding;
                format!("{}: {of}{} [{code}]\n  {}", severity.as_str(), one_line(what), one_line(remedy))
            })
            .collect();
        lines.push(format!("{failures} failures, {warnings} warnings, {notes} notes"));
        let objects: Vec<Value> = self
            .0
            .iter()
            .map(|(name, finding)| {
                json!({
                    "name": name, "code": finding.code, "severity": finding.severity.as_str(), "what": finding.what,
                    "remedy": finding.remedy,
                })
            })
            .collect();
        output.result(
            &lines.join("\n"),
            json!({ "failures": failures, "warnings": warnings, "notes": notes, "findings": objects }),
        )
    }
}
