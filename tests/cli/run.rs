//! `run`: real commands that get secrets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Directory, Ran, finish};

const PASSWORD: &str = "correct horse battery";
const TOKEN: &str = "tok-0123456789";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n";

/// A configuration of three secrets that are there and one that need not be.
fn home() -> Directory {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[secrets.DB_PASSWORD]\npath = \"db\"\n[secrets.\"api-token\"]\npath = \"token\"\n\
         [secrets.\"tls/key\"]\ntype = \"pem-private-key\"\npath = \"pem\"\n[secrets.OPTIONAL]\nrequired = false\n",
    );
    directory.write("db", format!("{PASSWORD}\n"));
    directory.write("token", TOKEN);
    directory.write("pem", PEM);
    directory
}

/// `vault run` with flags and a command, and no signal ignored, as `nohup` would have it.
fn launch(directory: &Directory, flags: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(crate::binary()).arg("run").args(flags.split_whitespace()).arg("--");
    command.args(arguments).current_dir(directory.home.path()).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

fn run(directory: &Directory, flags: &str, arguments: &[&str]) -> Ran {
    finish(&mut launch(directory, flags, arguments), b"")
}

fn shell(directory: &Directory, flags: &str, script: &str) -> Ran {
    run(directory, flags, &["sh", "-c", script])
}

/// Starts a shell that says when it is ready.
fn started(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, out)
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

/// The directories that `--files` made and that are still there.
fn left(parent: &Path) -> Vec<String> {
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    entries.filter(|name| name.starts_with("vault-run-")).collect()
}

/// A directory in memory, so that tests do not see each other's files.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

#[test]
fn a_command_gets_every_declared_secret_and_which_vault_it_is_of() {
    let directory = home();
    for flags in ["", "--mask"] {
        let out = directory.path("environ");
        let copy = format!("cat /proc/self/environ > {}", out.display());
        let mut launched = launch(&directory, flags, &["sh", "-c", &copy]);
        launched.env("VAULT_CORE_CONFIG", directory.path("vault.toml")).env("VAULT_CORE_PROFILE", "");
        launched
            .env("VAULT_CORE_ANYTHING", "x")
            .env("VAULT_ADDR", "another's")
            .env("TLS_KEY_FILE", "")
            .env("KEPT", "1");
        finish(&mut launched, b"").ok();
        let environment = fs::read(out).unwrap();
        let mut variables: Vec<_> = environment.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).collect();
        variables
            .retain(|entry| !entry.starts_with(b"PWD=") && !entry.starts_with(b"_=") && !entry.starts_with(b"OLDPWD="));
        variables.sort_unstable();
        let expected = [
            format!("API_TOKEN={TOKEN}"),
            format!("DB_PASSWORD={PASSWORD}"),
            "KEPT=1".to_owned(),
            "PATH=/usr/bin:/bin".to_owned(),
            format!("TLS_KEY={PEM}"),
            "VAULT_ADDR=another's".to_owned(),
            format!("VAULT_CORE_CONFIG={}", directory.path("vault.toml").display()),
            "VAULT_CORE_PROFILE=".to_owned(),
        ];
        assert_eq!(variables, expected.iter().map(String::as_bytes).collect::<Vec<_>>(), "{flags}");
    }
}

/// It opens everything, and the command was not to get it.
#[test]
fn a_master_key_in_the_environment_stays_with_vault() {
    let directory = Directory::new();
    directory.vault("key generate --out kek").ok();
    let config = "version = 1\n[keyring.main]\nsources = [\"secret:MY_KEK\", \"secret:OTHER_KEK\"]\n";
    directory.write("vault.toml", config);
    let key = fs::read_to_string(directory.path("kek")).unwrap();
    for flags in ["", "--mask", "--files"] {
        let mut by_value = launch(&directory, flags, &["env"]);
        let told = finish(by_value.env("MY_KEK", &key).env("OTHER", "stays"), b"").ok();
        assert!(!told.contains("MY_KEK") && told.contains("OTHER=stays"), "{told}");
        let mut by_file = launch(&directory, flags, &["env"]);
        let told = finish(by_file.env("MY_KEK_FILE", directory.path("kek")), b"").ok();
        assert!(!told.contains("MY_KEK"), "{told}");
    }
    let mut named = launch(&directory, "--only MY_KEK", &["env"]);
    assert!(finish(named.env("MY_KEK", &key), b"").ok().contains("MY_KEK="));
}

#[test]
fn what_named_a_file_is_unset() {
    let directory = home();
    directory.write("other", "from a file");
    let mut launched = launch(&directory, "--only OTHER", &["sh", "-c", "echo \"$OTHER ${OTHER_FILE-unset}\""]);
    let told = finish(launched.env("OTHER_FILE", directory.path("other")), b"").ok();
    assert_eq!(told, "from a file unset\n");
    let mut launched =
        launch(&directory, "--files --only OTHER", &["sh", "-c", "echo \"${OTHER-unset}\"; cat $OTHER_FILE"]);
    assert_eq!(finish(launched.env("OTHER", "a value"), b"").ok(), "unset\na value");
}

#[test]
fn only_those_that_are_named() {
    let directory = home();
    let script = "echo \"${DB_PASSWORD-unset} ${API_TOKEN-unset} ${LOOSE-unset}\"";
    let mut launched = launch(&directory, "--only api-token,LOOSE", &["sh", "-c", script]);
    assert_eq!(finish(launched.env("LOOSE", "not declared"), b"").ok(), format!("unset {TOKEN} not declared\n"));
    for (only, expected) in [("a-b,a.b", "A_B"), ("A,a-file", "A_FILE")] {
        let mut launched = launch(&directory, &format!("--only {only}"), &["true"]);
        let told = finish(launched.env("A_B", "x").env("A", "x").env("A_FILE", ""), b"");
        assert!(told.code != 0 && (told.code == 10 || told.err.contains(expected)), "{told:?}");
    }
    let mut launched = launch(&directory, "--only a-b,a.b", &["true"]);
    let told = finish(launched.env("A_B", "x"), b"").fails(2);
    assert!(told.contains("have the variable A_B"), "{told}");
    shell(&directory, "--only nope!", "true").fails(11);
}

#[test]
fn all_that_are_missing_are_named_before_anything_is_started() {
    let directory = home();
    shell(&directory, "", "test -z \"${OPTIONAL+set}\"").ok();
    for (flags, names) in
        [("--only NOT_HERE,api-token,NOR_HERE", "NOR_HERE, NOT_HERE"), ("--only OPTIONAL", "secret OPTIONAL")]
    {
        let told = shell(&directory, flags, "touch started").fails(10);
        assert!(told.contains(names) && told.contains("nothing was started"), "{told}");
    }
    fs::remove_file(directory.path("db")).unwrap();
    let told = shell(&directory, "--files", "touch started").fails(18);
    assert!(told.contains("/db"), "{told}");
    assert!(!directory.path("started").exists());
}

#[test]
fn pristine_passes_on_what_a_program_needs() {
    let directory = home();
    let mut launched = launch(&directory, "--pristine --only api-token", &["env"]);
    for name in
        ["HOME", "USER", "LANG", "LC_ALL", "LC_TIME", "TERM", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "AWS_KEY", "LCX"]
    {
        launched.env(name, "v");
    }
    let told = finish(&mut launched, b"").ok();
    let mut lines: Vec<_> = told.lines().collect();
    lines.sort_unstable();
    let token = format!("API_TOKEN={TOKEN}");
    assert_eq!(
        lines,
        [
            &token,
            "HOME=v",
            "LANG=v",
            "LC_ALL=v",
            "LC_TIME=v",
            "PATH=/usr/bin:/bin",
            "TERM=v",
            "TMPDIR=v",
            "TZ=v",
            "USER=v"
        ]
    );
}

#[test]
fn the_command_takes_the_place_of_vault() {
    let directory = home();
    for (flags, same) in [("", true), ("--pristine", true), ("--mask", false), ("--files", false)] {
        let mut launched = launch(&directory, flags, &["sh", "-c", "echo $$"]);
        let child = launched.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let told = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(told.trim() == pid.to_string(), same, "{flags}");
    }
}

/// What `vault` does to its own process is not what the command asked for.
#[test]
fn the_command_has_the_limits_of_the_caller() {
    let directory = home();
    let vault = crate::binary().display();
    let show = "import ctypes, os, resource, signal\n\
        print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3), sorted(os.listdir('/proc/self/fd')),\n\
        [l for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigCgt'))])";
    directory.write("show.py", show);
    for limits in ["ulimit -Sc 0", "ulimit -Sc 0; ulimit -Hc 4096", "ulimit -Sc 8; ulimit -Hc 16"] {
        let told = |launcher: &str| {
            let line = format!("{limits}; exec {launcher} python3 show.py");
            let mut shell = Command::new("sh");
            finish(shell.args(["-c", &line]).current_dir(directory.home.path()), b"").ok()
        };
        let expected = told("");
        assert!(expected.contains(", 1, ") || expected.contains(") 1 "), "dumpable: {expected}");
        for flags in ["", "--files", "--mask"] {
            assert_eq!(told(&format!("{vault} run {flags} --")), expected, "{limits} {flags}");
            // Nobody but an administrator may raise a limit that was lowered.
            let told = told(&format!("setpriv --bounding-set=-sys_resource {vault} run {flags} --"));
            assert_eq!(told, expected, "{limits} {flags}, without the right to raise limits");
        }
    }
}

#[test]
fn exit_codes_are_those_of_the_command() {
    let directory = home();
    directory.write("text", "not a program");
    fs::set_permissions(directory.path("text"), PermissionsExt::from_mode(0o644)).unwrap();
    for flags in ["", "--files", "--mask", "--files --mask --pristine"] {
        for code in [0, 1, 7, 75, 255] {
            assert_eq!(shell(&directory, flags, &format!("exit {code}")).code, code, "{flags}");
        }
        for (program, code) in [("./text", 126), ("/", 126), ("./nowhere", 127), ("no-such-command", 127)] {
            let told = run(&directory, flags, &[program]).fails(code);
            assert!(told.starts_with("vault: error: run ") && told.contains(program), "{told}");
        }
        for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
            let status = launch(&directory, flags, &["sh", "-c", &format!("kill -{signal} $$")])
                .stderr(Stdio::null())
                .status()
                .unwrap();
            // What took the place of `vault` was killed itself; for that shells say 128 + N.
            let shown = status.code().or(status.signal().map(|signal| 128 + signal));
            assert_eq!(shown, Some(128 + number), "{flags} {signal}");
            assert_eq!(status.signal().is_some(), flags.is_empty());
        }
    }
    let long = "x".repeat(200 << 10);
    directory.write("token", long);
    let told = shell(&directory, "", "true").fails(126);
    assert!(told.contains("--files"), "{told}");
    shell(&directory, "--files", "test $(wc -c < $API_TOKEN_FILE) = 204800").ok();
    directory.vault("run").fails(2);
    directory.vault("run --").fails(2);
}

#[test]
fn a_nul_byte_goes_into_files_only() {
    let directory = home();
    let text = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", text + "[secrets.RAW]\ntype = \"binary\"\npath = \"raw\"\n");
    directory.write("raw", b"a\0b\n");
    let told = shell(&directory, "", "true").fails(11);
    assert!(told.contains("secret RAW") && told.contains("--files"), "{told}");
    shell(&directory, "--files --only RAW", "cmp $RAW_FILE raw").ok();
}

#[test]
fn files_are_private_in_memory_and_gone_afterwards() {
    let directory = home();
    let script = "test -z \"${DB_PASSWORD+set}\" && d=$(dirname $DB_PASSWORD_FILE) && stat -c %a $d $d/* && stat -f -c %T $d && ls $d \
        && cat $DB_PASSWORD_FILE && cmp $TLS_KEY_FILE pem && cat $API_TOKEN_FILE && exit 3";
    let memory = memory();
    let mut launched = launch(&directory, "--files", &["sh", "-c", script]);
    let told = finish(launched.env("XDG_RUNTIME_DIR", memory.path()), b"");
    assert_eq!(told.out, format!("700\n400\n400\n400\ntmpfs\napi-token\ndb_password\ntls_key\n{PASSWORD}{TOKEN}"));
    assert_eq!(told.code, 3);
    assert!(left(memory.path()).is_empty());

    // What a command leaves there goes too.
    let mut launched =
        launch(&directory, "--files", &["sh", "-c", "touch $(dirname $API_TOKEN_FILE)/more; kill -KILL $$"]);
    finish(launched.env("XDG_RUNTIME_DIR", memory.path()), b"").fails(137);
    assert!(left(memory.path()).is_empty());

    let mut launched = launch(&directory, "--files", &["./nowhere"]);
    finish(launched.env("XDG_RUNTIME_DIR", memory.path()), b"").fails(127);
    assert!(left(memory.path()).is_empty());

    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let mut launched = launch(&directory, "--files", &["sh", "-c", "echo ready; exec sleep 60"]);
        let (mut child, _out) = started(launched.env("XDG_RUNTIME_DIR", memory.path()));
        assert_eq!(left(memory.path()).len(), 1);
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(128 + number));
        assert!(left(memory.path()).is_empty(), "{signal}");
    }
}

#[test]
fn files_are_never_written_to_a_disk() {
    let directory = home();
    // A session's directory on a disk is passed over.
    let mut launched = launch(&directory, "--files", &["sh", "-c", "stat -f -c %T $API_TOKEN_FILE"]);
    assert_eq!(finish(launched.env("XDG_RUNTIME_DIR", directory.home.path()), b"").ok(), "tmpfs\n");
    // So is one of somebody else, who could put another directory in the place of ours.
    let strange = memory();
    std::os::unix::fs::chown(strange.path(), Some(65_534), None).unwrap();
    let mut launched = launch(&directory, "--files", &["sh", "-c", "dirname $(dirname $API_TOKEN_FILE)"]);
    assert_eq!(finish(launched.env("XDG_RUNTIME_DIR", strange.path()), b"").ok(), "/dev/shm\n");
    let own = memory();
    let mut launched = launch(&directory, "--files", &["sh", "-c", "dirname $(dirname $API_TOKEN_FILE)"]);
    let told = finish(launched.env("XDG_RUNTIME_DIR", own.path()), b"").ok();
    assert_eq!(told.trim(), own.path().display().to_string());
    // Where nothing is in memory, nothing is started.
    let proc = "mount --bind /proc/self /dev/shm && exec \"$@\"";
    let vault = crate::binary().display().to_string();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", proc, "sh", &vault, "run", "--files", "--", "touch", "started"]);
    let told = finish(unshare.current_dir(directory.home.path()).env_remove("XDG_RUNTIME_DIR"), b"").fails(23);
    assert!(told.contains("no tmpfs is at /dev/shm") && told.contains("mount a tmpfs"), "{told}");
    assert!(!directory.path("started").exists());
}

#[test]
fn signals_reach_the_command() {
    let directory = home();
    let signals = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "ALRM"];
    let traps: String = signals.iter().map(|signal| format!("trap 'echo {signal}' {signal}; ")).collect();
    // The shell takes a signal when what it waits for ends, or at once in `wait`.
    let script = format!("{traps} echo ready; for i in 1 2 3 4 5 6 7 8; do sleep 60 & wait $!; kill $!; done; exit 9");
    for flags in ["", "--files", "--mask"] {
        let (mut child, mut out) = started(&mut launch(&directory, flags, &["sh", "-c", &script]));
        for signal in signals {
            // Until the shell waits again, the signal could be taken by its loop.
            thread::sleep(Duration::from_millis(50));
            kill(signal, child.id());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert_eq!(line.trim(), signal, "{flags}");
        }
        assert_eq!(child.wait().unwrap().code(), Some(9), "{flags}");
    }
}

#[test]
fn what_the_caller_ignores_stays_ignored() {
    let directory = home();
    let vault = crate::binary().display();
    for flags in ["--files", "--mask"] {
        let line =
            format!("trap '' HUP; exec {vault} run {flags} -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo alive'");
        let mut shell = Command::new("sh");
        assert_eq!(finish(shell.args(["-c", &line]).current_dir(directory.home.path()), b"").ok(), "alive\n");
    }
}

/// A terminal interrupts every process in its foreground: the command gets that once.
#[test]
fn an_interrupt_typed_on_a_terminal_is_not_doubled() {
    let directory = home();
    directory.write(
        "count.py",
        "import signal, time\ncount = 0\ndef more(*_):\n    global count\n    count += 1\nsignal.signal(signal.SIGINT, more)\n\
         print('ready', flush=True)\nend = time.monotonic() + 20\nwhile not count and time.monotonic() < end: time.sleep(0.05)\n\
         end = time.monotonic() + 0.5\nwhile time.monotonic() < end: time.sleep(0.05)\nprint('interrupts:', count, flush=True)\n",
    );
    // One in a session of its own gets it from nobody but `vault`.
    for launcher in ["", "setsid"] {
        let told = interrupted(&directory, &format!("{launcher} python3 count.py"));
        assert!(told.contains("interrupts: 1"), "{launcher}: {told}");
    }
}

/// What a command prints that is interrupted on a terminal when it is ready.
fn interrupted(directory: &Directory, line: &str) -> String {
    let line = format!("env --default-signal {} run --files -- {line}", crate::binary().display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(directory.home.path());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    out.read_line(&mut told).unwrap();
    assert_eq!(told.trim(), "ready");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    out.read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    told
}

/// A command in a process namespace of its own, where `vault` is the first process.
fn as_first(directory: &Directory, flags: &str, script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(crate::binary()).arg("run");
    unshare.args(flags.split_whitespace()).args(["--", "sh", "-c", script]).current_dir(directory.home.path());
    unshare
}

#[test]
fn the_first_process_of_a_container_reaps_and_passes_signals_on() {
    let directory = home();
    let memory = memory();
    // Twenty processes lose their parent and end; none of them stays.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sh -c 'sleep 0.1 &'; done; sleep 0.5; \
        for i in $(seq 100); do left=$(grep -l '^Name:.sleep\\|^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); \
        [ $left = 0 ] && break; sleep 0.2; done; echo parent $PPID; echo $left; exit 5";
    for flags in ["--files", "--mask"] {
        let told = finish(as_first(&directory, flags, script).env("XDG_RUNTIME_DIR", memory.path()), b"");
        assert_eq!((told.out.as_str(), told.code), ("parent 1\n0\n", 5), "{told:?}");
        assert!(left(memory.path()).is_empty());

        // What is left of the command's processes ends with it.
        let (start, script) = (Instant::now(), "trap 'exit 6' TERM; echo ready; sleep 60 & wait $!");
        let (mut child, _out) = started(as_first(&directory, flags, script).env("XDG_RUNTIME_DIR", memory.path()));
        let first = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        kill("TERM", first.trim().parse().unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(6));
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(left(memory.path()).is_empty());
    }
}

#[test]
fn what_is_printed_is_masked_byte_by_byte() {
    let directory = home();
    directory.write(
        "drip.py",
        "import os, sys\nfor name in ('DB_PASSWORD', 'API_TOKEN', 'TLS_KEY'):\n    for byte in ('<' + os.environ[name] + '>').encode():\n\
         \x20       os.write(int(sys.argv[1]), bytes([byte]))\n",
    );
    let masked = "<[DB_PASSWORD]><[api-token]><[tls/key]\n>";
    let told = run(&directory, "--mask", &["python3", "drip.py", "1"]);
    assert_eq!((told.out.as_str(), told.err.as_str()), (masked, ""));
    let told = run(&directory, "--mask", &["python3", "drip.py", "2"]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", masked));
    // One line of several is as secret as all, and a part of a value is not one.
    let told =
        shell(&directory, "--mask", "echo \"$TLS_KEY\" | sed -n 2p; echo 'correct horse'; printf 'tok-012345678'").ok();
    assert_eq!(told, "[tls/key]\ncorrect horse\ntok-012345678");
    // Without --mask, what is printed is the command's own business.
    assert_eq!(shell(&directory, "", "printf %s $API_TOKEN").ok(), TOKEN);
}

/// Each byte is taken before the next one comes, so that their order is known.
#[test]
fn a_value_that_goes_to_both_outputs_by_turns_is_masked() {
    let directory = home();
    directory.write(
        "turns.py",
        "import fcntl, os, struct, termios\ndef empty(fd):\n    return fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) == bytes(4)\n\
         for at, byte in enumerate(('<' + os.environ['API_TOKEN'] + '>').encode()):\n    fd = 1 + at % 2\n    os.write(fd, bytes([byte]))\n\
         \x20   while not empty(fd): pass\n",
    );
    let told = run(&directory, "--mask", &["python3", "turns.py"]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("<", "[api-token]>"));
}

#[test]
fn a_value_is_masked_in_the_forms_in_which_programs_print_it() {
    let directory = Directory::new();
    directory.write("vault.toml", "version = 1\n[secrets.URL]\npath = \"url\"\n[secrets.LINES]\npath = \"lines\"\n");
    directory.write("url", "postgres://u:p%40ssw0rd-long@h/d");
    directory.write("lines", "user\npass12\nabc\"d/e=f");
    directory.write(
        "print.py",
        "import json, os, urllib.parse as p\nurl, lines = os.environ['URL'], os.environ['LINES']\n\
         print(p.unquote(p.urlsplit(url).password))\nprint(p.urlsplit(url).password)\nprint(json.dumps({'x': lines}))\n\
         print(p.quote(lines))\nprint(lines.split()[1])\nprint(lines.replace(chr(10), chr(13) + chr(10)).split()[2])\n",
    );
    let told = run(&directory, "--mask", &["python3", "print.py"]).ok();
    assert_eq!(told, "[URL]\n[URL]\n{\"x\": \"[LINES]\"}\n[LINES]\n[LINES]\n[LINES]\n");
}

#[test]
fn values_that_cannot_be_masked_are_named() {
    let directory = home();
    directory.write("token", "12345");
    let told = shell(&directory, "--mask", "echo $API_TOKEN $DB_PASSWORD");
    assert_eq!(told.out, "12345 [DB_PASSWORD]\n");
    assert_eq!(told.err, "vault: secret api-token is shorter than 6 bytes and is not masked\n");
    directory.write("token", "x".repeat((1 << 20) + 1));
    let told = shell(&directory, "--mask --files", "touch started").fails(2);
    assert!(told.contains("secret api-token is longer than 1048576 bytes"), "{told}");
    assert!(!directory.path("started").exists());
}

#[test]
fn a_question_is_passed_on_before_it_is_answered() {
    let directory = home();
    let mut launched = launch(&directory, "--mask", &["sh", "-c", "printf 'name? '; read answer; echo \"$answer\""]);
    let mut child = launched.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut question = [0; 6];
    out.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"name? ");
    writeln!(child.stdin.as_mut().unwrap(), "x {TOKEN}").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "x [api-token]\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_command() {
    let directory = home();
    let ran = crate::unread(&mut launch(&directory, "--mask", &["sh", "-c", "yes; exit $?"]));
    assert_eq!(ran.code, 141, "{ran:?}");
}

/// A process that the command leaves behind may print on; who waits for that can be told not to.
#[test]
fn what_is_left_in_the_background_is_not_waited_for() {
    let directory = home();
    let script = "head -c 300000 /dev/zero | tr '\\0' x; sleep 60 & echo $! >pid; echo \"with $API_TOKEN\"; exit 4";
    let told = shell(&directory, "--mask", script);
    let pid = fs::read_to_string(directory.path("pid")).unwrap();
    let alive = Path::new("/proc").join(pid.trim()).exists();
    kill("KILL", pid.trim().parse().unwrap());
    assert!(alive, "the command was over before `vault` was");
    // All that it printed before it ended is there.
    assert_eq!((told.code, told.out), (4, format!("{}with [api-token]\n", "x".repeat(300_000))));
}

#[test]
fn no_failure_shows_a_value() {
    let directory = home();
    directory.write("db", b"marker-of-a-password\0\n");
    for flags in ["", "--files", "--mask", "--only DB_PASSWORD"] {
        let ran = run(&directory, flags, &["./nowhere"]);
        assert!(ran.code != 0 && !ran.err.contains("marker"), "{ran:?}");
    }
}
