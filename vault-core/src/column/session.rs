//! Who else has a database open.

#[cfg(feature = "sqlite")]
use std::fs;
#[cfg(feature = "sqlite")]
use std::os::unix::fs::MetadataExt as _;
#[cfg(feature = "sqlite")]
use std::path::{Path, PathBuf};

/// Somebody else who has the database of a column open, as far as it can be seen.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct Session {
    /// The database.
    pub database: String,
    /// The number of the process that has it open, or on a server of the session's.
    pub pid: u32,
    /// The name of the command, or on a server what the session calls itself.
    pub program: String,
    /// From where a session of a server came, where the server says so.
    pub address: Option<String>,
}

impl core::fmt::Display for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let program = if self.program.is_empty() { "?" } else { &self.program };
        match &self.address {
            Some(address) => write!(f, "session {} ({program}) from {address}", self.pid),
            None => write!(f, "process {} ({program})", self.pid),
        }
    }
}

/// The other processes of this machine that have a file of an SQLite database open. Those of other users are
/// seen by root alone.
#[cfg(feature = "sqlite")]
pub(super) fn of_file(database: &str) -> Vec<Session> {
    let files: Vec<PathBuf> =
        ["", "-wal", "-shm", "-journal"].iter().map(|end| format!("{database}{end}").into()).collect();
    let open: Vec<(u64, u64)> = files.iter().filter_map(|file| identity(file)).collect();
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut sessions = Vec::new();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let held = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten().any(|file| {
            // By the name first: to ask about every file of every process may wait for a server.
            let named =
                fs::read_link(file.path()).is_ok_and(|link| names.iter().any(|name| link.file_name() == Some(name)));
            named && identity(&file.path()).is_some_and(|found| open.contains(&found))
        });
        if held {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim_end().to_owned();
            sessions.push(Session { database: database.to_owned(), pid, program, address: None });
        }
    }
    sessions.sort();
    sessions
}

#[cfg(feature = "sqlite")]
fn identity(file: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino()))
}
