//! Heartbeats beside a state file: one file for each process, replaced whole.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file;
use crate::time::Timestamp;

use super::REMEMBERED;
use super::heartbeat::{Heartbeat, MAX_HEARTBEAT};
use super::machine::Presence;

/// The heartbeats of one keyring, in the directory `<state file>.processes`.
pub(crate) struct HeartbeatFiles {
    directory: PathBuf,
    /// Who may read the state file may read these.
    mode: u32,
}

impl HeartbeatFiles {
    pub(crate) fn beside(state: &Path) -> Self {
        let mut name = state.file_name().unwrap_or_default().to_owned();
        name.push(".processes");
        let mode = fs::metadata(state).map_or(0o644, |state| state.permissions().mode() & 0o666);
        Self { directory: state.with_file_name(name), mode }
    }

    /// Writes the heartbeat of a process in the place of its last one.
    pub(crate) fn beat(&self, heartbeat: &Heartbeat) -> Result<()> {
        let fail = |source| Error::io("write", &self.directory, source);
        self.make_directory().map_err(fail)?;
        let name = format!("{}-{}", heartbeat.pid(), heartbeat.vault);
        let (temporary, path) = (self.directory.join(format!(".{name}")), self.directory.join(&name));
        self.write(&temporary, &heartbeat.render()).and_then(|()| fs::rename(&temporary, &path)).map_err(fail)?;
        if heartbeat.beats == 1 {
            self.forget();
        }
        Ok(())
    }

    fn make_directory(&self) -> io::Result<()> {
        // Who may read a file may look into its directory.
        let mode = self.mode | (self.mode & 0o444) >> 2;
        match DirBuilder::new().mode(mode).create(&self.directory) {
            // The mode at creation is subject to the umask.
            Ok(()) => fs::set_permissions(&self.directory, Permissions::from_mode(mode)),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                match fs::symlink_metadata(&self.directory)? {
                    found if found.is_dir() => Ok(()),
                    _ => Err(source),
                }
            }
            Err(source) => Err(source),
        }
    }

    fn write(&self, temporary: &Path, text: &str) -> io::Result<()> {
        match fs::remove_file(temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(source),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(self.mode).open(temporary)?;
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.write_all(text.as_bytes())
    }

    /// What processes said that may still be there.
    pub(crate) fn heartbeats(&self) -> Result<Vec<Heartbeat>> {
        let mut heartbeats = Vec::new();
        for path in self.files()? {
            match self.read(&path)? {
                Some(heartbeat) if !is_old(&heartbeat) => heartbeats.push(heartbeat),
                _ => {}
            }
        }
        heartbeats.sort_by_key(Heartbeat::id);
        Ok(heartbeats)
    }

    /// Removes what processes said that are gone, or silent for a day. What cannot be removed stays.
    fn forget(&self) {
        for path in self.files().unwrap_or_default() {
            let read = self.read(&path).ok().flatten();
            let gone = |heartbeat: Heartbeat| is_old(&heartbeat) || heartbeat.whereabouts.presence() == Presence::Gone;
            if read.is_some_and(gone) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let fail = |source| Error::io("list", &self.directory, source);
        let entries = match fs::read_dir(&self.directory) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fail)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail)?;
            // One that is being written begins with a dot.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry.path());
            }
        }
        Ok(files)
    }

    /// A heartbeat; none for one that went away meanwhile, or that a crash of the machine left empty.
    fn read(&self, path: &Path) -> Result<Option<Heartbeat>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content = match file::read(path, MAX_HEARTBEAT) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(Error::Io { .. } | Error::Oversized { .. }) => return Ok(Some(Heartbeat::unreadable(&name))),
            content => content?,
        };
        let text = core::str::from_utf8(content.expose_secret()).unwrap_or("?");
        Ok((!text.is_empty()).then(|| Heartbeat::told(&name, text)))
    }
}

/// Whether a process is silent for so long that nobody waits for it.
fn is_old(heartbeat: &Heartbeat) -> bool {
    heartbeat.beats > 0 && heartbeat.spoke.0.saturating_add(REMEMBERED) < Timestamp::now().0
}
