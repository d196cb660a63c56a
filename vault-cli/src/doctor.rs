//! `doctor`: keys, stores, databases and permissions, each finding with its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vault_core::{Access, KeyState, Kind, Manifest, Resolver, Scope, StoreLocation, Vault};

use crate::args::{DoctorArgs, Global};
use crate::failure::Outcome;
use crate::input;
use crate::output::Output;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Severity {
    /// Something does not work, or somebody else can change it.
    Failure,
    /// Something should be otherwise.
    Warning,
}

/// What was found.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    what: String,
    remedy: String,
}

/// What is wrong with a deployment.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn failure(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Failure, what: what.into(), remedy: remedy.into() });
    }

    fn warning(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Warning, what: what.into(), remedy: remedy.into() });
    }

    fn error(&mut self, error: &vault_core::Error) {
        self.failure(error.to_string(), error.hint().unwrap_or("put right what the message names"));
    }
}

/// `vault doctor`.
pub(crate) fn run(args: &DoctorArgs, global: &Global, output: &mut Output) -> Outcome {
    let config = input::config(global)?;
    let manifest = config.manifest().clone();
    let mut findings = Findings::default();
    files(&manifest, &config.resolver(), args.require_private_files, &mut findings);
    match Vault::load(config) {
        Ok(vault) => contents(&vault, &mut findings),
        Err(error) => findings.error(&error),
    }
    findings.0.sort_by_key(|finding| finding.severity);
    let failures = findings.0.iter().filter(|finding| finding.severity == Severity::Failure).count();
    let mut lines: Vec<String> = findings
        .0
        .iter()
        .map(|finding| {
            let severity = if finding.severity == Severity::Failure { "failure" } else { "warning" };
            format!("{severity}: {}\n  {}", finding.what, finding.remedy)
        })
        .collect();
    let warnings = findings.0.len() - failures;
    lines.push(format!("{failures} failures, {warnings} warnings"));
    let objects: Vec<Value> = findings
        .0
        .iter()
        .map(|finding| {
            json!({
                "severity": if finding.severity == Severity::Failure { "failure" } else { "warning" },
                "what": finding.what, "remedy": finding.remedy,
            })
        })
        .collect();
    output.result(&lines.join("\n"), json!({ "failures": failures, "warnings": warnings, "findings": objects }))?;
    Ok(if failures > 0 { Kind::DoctorFailures.exit_code() } else { 0 })
}

/// Who can read and change the files that everything rests on.
fn files(manifest: &Manifest, resolver: &Resolver, private: bool, findings: &mut Findings) {
    let mut directories = BTreeSet::new();
    let mut writable = |path: &Path, findings: &mut Findings| {
        let Ok(metadata) = fs::metadata(path) else { return };
        others_can_write(path, &metadata, findings);
        directories.insert(directory_of(path));
    };
    writable(manifest.path(), findings);
    for keyring in manifest.keyrings() {
        if let Some(state) = &keyring.state {
            writable(state, findings);
        }
        // What cannot be read is told when the keyring is loaded.
        for (place, _) in resolver.key_contents(keyring).unwrap_or_default() {
            let path = Path::new(&place);
            if path.is_absolute() {
                writable(path, findings);
                others_can_read(path, private, findings);
                mounted_alone(path, findings);
            } else {
                findings.warning(
                    format!("a key of keyring {} comes from {place}, where other programs can read it", keyring.name),
                    "deliver it as a file, and name that in NAME_FILE",
                );
            }
        }
    }
    if let Some(store) = manifest.store() {
        let (StoreLocation::File(path) | StoreLocation::Sqlite(path)) = &store.location else { return };
        writable(path, findings);
        if let Some(reason) = not_writable(&directory_of(path)) {
            findings.warning(
                format!("the directory of {} cannot be written: {reason}", path.display()),
                "secrets can be read and not set from here",
            );
        }
        if lone_mount(path).is_some() {
            findings.failure(
                format!("{} is mounted as a single file, which never shows a new one", path.display()),
                "mount its directory",
            );
        }
    }
    for directory in directories {
        let Ok(metadata) = fs::metadata(&directory) else { continue };
        // In a directory with the sticky bit only the owner of a file replaces it.
        if metadata.mode() & 0o002 != 0 && metadata.mode() & 0o1000 == 0 {
            findings.failure(
                format!("every user can replace files in {}", directory.display()),
                format!("chmod o-w {}", directory.display()),
            );
        }
    }
}

fn others_can_write(path: &Path, metadata: &fs::Metadata, findings: &mut Findings) {
    let mode = metadata.mode();
    if mode & 0o002 != 0 {
        findings.failure(format!("every user can change {}", path.display()), format!("chmod o-w {}", path.display()));
    } else if mode & 0o020 != 0 {
        findings.warning(
            format!("group {} can change {}", metadata.gid(), path.display()),
            format!("chmod g-w {}", path.display()),
        );
    }
}

fn others_can_read(path: &Path, private: bool, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(path) else { return };
    if metadata.mode() & 0o044 == 0 {
        return;
    }
    let what = format!("others than user {} can read the key in {}", metadata.uid(), path.display());
    let remedy = format!("chmod 0400 {}; a mount of Swarm is told its mode where it is mounted", path.display());
    if private {
        findings.failure(what, remedy);
    } else {
        findings.warning(what, remedy);
    }
}

/// What the keys and stores themselves say.
fn contents(vault: &Vault, findings: &mut Findings) {
    for spec in vault.manifest().keyrings() {
        let Ok(keyring) = vault.keyring(&spec.name) else { continue };
        for finding in keyring.findings() {
            findings.warning(format!("keyring {}: {finding}", spec.name), "`vault key list` shows the states");
        }
        if spec.state.is_none() {
            findings.warning(
                format!("keyring {} has no state file, so its key cannot be rotated", spec.name),
                "declare `state` in vault.toml",
            );
        }
        let waiting = keyring.keys().iter().filter(|key| key.state == KeyState::Active).count();
        if waiting > 1 {
            findings
                .warning(format!("{waiting} keys of keyring {} wait to be promoted", spec.name), "promote one of them");
        }
    }
    if let Ok(store) = vault.store() {
        match store.exists().and_then(|exists| if exists { store.check().map(Some) } else { Ok(None) }) {
            Ok(None) => {
                findings.failure(format!("{} does not exist", store.location()), "`vault init --store-only` makes it");
            }
            Ok(Some(found)) => found.iter().for_each(|finding| findings.warning(finding.to_string(), "see there")),
            Err(error) => findings.error(&error),
        }
    }
    for column in vault.manifest().columns() {
        if let Err(error) = vault.rotation(Scope::Column(&column.name), Access::Read) {
            findings.error(&error);
        }
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn not_writable(directory: &Path) -> Option<io::Error> {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).err().map(Into::into)
}

/// A key that is replaced outside stays the old one in here.
fn mounted_alone(path: &Path, findings: &mut Findings) {
    match lone_mount(path) {
        // Those of Swarm: nobody can put another file in their place.
        Some(LoneMount { fixed: true, .. }) | None => {}
        Some(LoneMount { replaced: true, .. }) => findings.failure(
            format!("the file behind {} was replaced, and this mount still shows the old one", path.display()),
            "start the container again, and mount the directory instead of the file",
        ),
        Some(_) => findings.warning(
            format!("{} is mounted as a single file, which never shows a new one", path.display()),
            "mount its directory",
        ),
    }
}

/// A file that is a mount of its own.
struct LoneMount {
    /// Its file system is read-only for everybody.
    fixed: bool,
    /// Its name leads to another file by now, or to none.
    replaced: bool,
}

/// How the mount table names a file, if it does.
fn lone_mount(path: &Path) -> Option<LoneMount> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // The last mount at a place is the one that is seen.
    let mount = mounts.lines().rfind(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == path))?;
    let replaced = mount.split(' ').nth(3).is_some_and(|root| root.ends_with("//deleted"));
    let fixed = mount.rsplit(' ').next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
    Some(LoneMount { fixed, replaced })
}
