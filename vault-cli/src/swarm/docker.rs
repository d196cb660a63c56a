//! The client of Docker, and what it tells.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use vault_core::{Error, Kind};

use crate::failure::Failure;

use super::PRIVATE;

/// The client of Docker.
pub(super) struct Docker<'a> {
    pub(super) program: &'a Path,
}

impl Docker<'_> {
    pub(super) fn secrets(&self) -> Result<Vec<Value>, Failure> {
        self.list(&["secret", "ls", "--format", "{{json .}}"])
    }

    pub(super) fn services(&self) -> Result<Vec<String>, Failure> {
        let services = self.list(&["service", "ls", "--format", "{{json .}}"])?;
        Ok(services.iter().filter_map(|service| text(service, "Name")).map(str::to_owned).collect())
    }

    /// What a service mounts.
    pub(super) fn mounted(&self, service: &str) -> Result<Vec<Mounted>, Failure> {
        let words = ["service", "inspect", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Secrets}}", service];
        let lists = self.list(&words)?;
        let secrets = lists.iter().filter_map(Value::as_array).flatten();
        let mounted = secrets.map(|secret| {
            let file = secret.get("File")?;
            let field = |name| text(file, name).map(str::to_owned);
            let mode = file.get("Mode")?.as_u64()?;
            let mount = Mount { target: field("Name")?, uid: field("UID")?, gid: field("GID")?, mode };
            Some(Mounted { name: text(secret, "SecretName")?.to_owned(), mount })
        });
        mounted.collect::<Option<_>>().ok_or_else(|| not_understood(&words))
    }

    /// The objects that a command prints, one a line.
    fn list(&self, words: &[&str]) -> Result<Vec<Value>, Failure> {
        let owned: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let told = self.run(&owned, b"")?;
        let lines = told.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(|_| not_understood(words))
    }

    /// Runs the client with `input` on its standard input; returns what it prints.
    pub(super) fn run(&self, words: &[String], input: &[u8]) -> Result<Vec<u8>, Failure> {
        let fail = |source| Error::Io { action: "run", path: PathBuf::from(self.program), source };
        let mut child = Command::new(self.program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                // It ended before it read everything, and says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other.map_err(fail)?,
            }
        }
        let ended = child.wait_with_output().map_err(fail)?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let what: Vec<_> = words.iter().take(2).map(String::as_str).collect();
        Err(Failure {
            kind: Kind::Unclassified,
            message: format!("docker {} failed: {}", what.join(" "), said.join("; ")),
            hint: Some("what was done stays done; put it right and run this again: it goes on from there".to_owned()),
        })
    }
}

fn not_understood(words: &[&str]) -> Failure {
    Failure {
        kind: Kind::Unclassified,
        message: format!(
            "docker {} told what is not understood",
            words.iter().take(2).copied().collect::<Vec<_>>().join(" ")
        ),
        hint: Some("is it a client of Docker 20.10 or newer?".to_owned()),
    }
}

/// How a task sees a secret.
#[derive(Clone)]
pub(super) struct Mount {
    pub(super) target: String,
    pub(super) uid: String,
    pub(super) gid: String,
    pub(super) mode: u64,
}

/// A secret that a service mounts.
pub(super) struct Mounted {
    pub(super) name: String,
    pub(super) mount: Mount,
}

impl Mount {
    pub(super) fn is_for(&self, uid: u32) -> bool {
        self.uid == uid.to_string() && self.mode == PRIVATE
    }

    pub(super) fn option(&self, source: &str) -> String {
        let Self { target, uid, gid, mode } = self;
        let mut option = format!("source={source},target={target},mode=0{mode:o}");
        if uid != "0" {
            option += &format!(",uid={uid}");
        }
        if gid != "0" {
            option += &format!(",gid={gid}");
        }
        option
    }
}

pub(super) fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str()
}
