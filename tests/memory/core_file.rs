//! What an aborted process leaves on disk.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use vault_core::{Context, Keyring, MasterKey, Sealer};

use crate::World;
use crate::expected::fixed_text;

/// Aborts a process without protection, whose core must hold the key, and the command, which must
/// leave none.
pub(crate) fn check(world: &mut World<'_>) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).unwrap();
    println!("core pattern \"{}\", limit {:?}", pattern.trim(), limit.maximum);
    unprotected(world);
    command(world);
    world.checked += 1;
}

/// The control: a process that holds a key and a plaintext, as the command does. The pages of the key are left
/// out of its core, so it is the plaintext that has to be found.
fn unprotected(world: &mut World<'_>) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(
        Command::new(std::env::current_exe().unwrap()).args(["hold", "-"]).arg(world.directory),
        directory.path(),
    );
    let mut said = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let status = abort(&mut child);
    let hits: Vec<_> =
        cores(directory.path()).iter().flat_map(|core| world.needles.in_bytes(&fs::read(core).unwrap())).collect();
    println!("{:<38}core dumped: {}, secrets in it: {hits:?}", "control: aborted", status.core_dumped());
    if !status.core_dumped() {
        println!("this machine writes no cores, so that only the limit of the command is looked at");
    } else if cores(directory.path()).is_empty() {
        println!("this machine hands cores to a program, so that only whether one was made is looked at");
    } else if !hits.iter().any(|(name, _)| name == "plain-json") {
        world.failures.push("control: aborted: its core does not hold the plaintext".to_owned());
    }
}

fn command(world: &mut World<'_>) {
    let directory = tempfile::tempdir().unwrap();
    let key = world.directory.join("kek_1");
    let context = Context::new("user-secret").tenant("42");
    let sealer = Sealer::new(Keyring::single(MasterKey::parse(fixed_text("kek_1").as_bytes()).unwrap()));
    let plaintext = fs::read(world.directory.join("plain-json")).unwrap();
    let token = sealer.seal(&context, &plaintext).unwrap().to_string();
    world.masters["kek_1"].token(&token, &mut world.needles);

    let mut command = Command::new(build());
    command.args(["open", "--lines", "--purpose", "user-secret", "--tenant", "42", "--key-file"]).arg(key);
    let mut child = start(&mut command, directory.path());
    writeln!(child.stdin.as_mut().unwrap(), "{token}").unwrap();
    let mut opened = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut opened).unwrap();
    assert_eq!(opened.trim_end().as_bytes(), plaintext);

    // It waits for the next line, with the key and what it has read in memory. Only an administrator
    // can look.
    let held = world.needles.in_process(child.id()).map(|scan| scan.total());
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let limit: Vec<_> = limit.split_whitespace().skip(4).take(2).collect();
    let status = abort(&mut child);
    let cores = cores(directory.path());
    println!(
        "{:<38}core dumped: {}, limit {}, secrets in memory: {}",
        "vault open: aborted",
        status.core_dumped(),
        limit.join(" "),
        held.as_ref().map_or_else(|_| "hidden from this user".to_owned(), usize::to_string)
    );
    if held.is_ok_and(|held| held == 0) {
        world.failures.push("vault open: no secret was found while it was in use".to_owned());
    }
    if status.core_dumped() || !cores.is_empty() || limit != ["0", "0"] {
        world.failures.push("vault open: left a core".to_owned());
    }
    for core in cores {
        let hits = world.needles.in_bytes(&fs::read(core).unwrap());
        world.failures.extend(hits.into_keys().map(|name| format!("vault open: left in its core: {name}")));
    }
}

/// The command as it is released.
fn build() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--quiet", "-p", "vault-cli", "--target-dir"])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    // What cargo tells a test about its package makes build scripts run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.status().unwrap().success());
    target.join("release/vault")
}

fn start(command: &mut Command, directory: &Path) -> Child {
    command.current_dir(directory).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn abort(child: &mut Child) -> ExitStatus {
    kill_process(Pid::from_child(child), Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    status
}

fn cores(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}
