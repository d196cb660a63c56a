//! `seal`, `open` and `inspect`.

use crate::Directory;

const CONTEXT: &str = "--tenant 42 --name prod_db --purpose user-secret";

fn directory() -> Directory {
    let directory = Directory::new();
    directory.vault("key generate --out kek").ok();
    directory.vault("key generate --out other").ok();
    directory
}

#[test]
fn what_is_sealed_opens_byte_for_byte() {
    let directory = directory();
    for (secret, stored) in [
        (&b"s3cret"[..], &b"s3cret"[..]),
        (b"s3cret\n", b"s3cret"),
        (b"s3cret\r\n", b"s3cret"),
        (b" two\n\n", b" two\n"),
        ("naïve ✓".as_bytes(), "naïve ✓".as_bytes()),
    ] {
        let token = directory.vault_with(&format!("seal --key-file kek {CONTEXT}"), secret).ok();
        assert!(token.starts_with("vs1.k") && token.ends_with('\n'));
        let opened = directory.vault_with(&format!("open --key-file kek {CONTEXT}"), token.as_bytes());
        assert_eq!((opened.code, opened.out), (0, String::from_utf8_lossy(stored).into_owned()));
    }
    let raw = directory.vault_with(&format!("seal --raw --key-file kek {CONTEXT}"), b"s3cret\n").ok();
    assert_eq!(directory.vault_with(&format!("open --key-file kek {CONTEXT}"), raw.as_bytes()).ok(), "s3cret\n");
    let binary = directory.vault_with(&format!("seal --raw --key-file kek {CONTEXT}"), b"\xff\0\n").ok();
    let opened = directory.vault_with(&format!("open --key-file kek {CONTEXT}"), binary.as_bytes());
    assert_eq!((opened.code, opened.out.as_str()), (0, "\u{fffd}\0\n"));
    let large = vec![b'x'; 10 << 20];
    let token = directory.vault_with(&format!("seal --padded --key-file kek {CONTEXT}"), &large).ok();
    assert_eq!(
        directory.vault_with(&format!("open --key-file kek {CONTEXT}"), token.as_bytes()).ok().len(),
        large.len()
    );
    let too_large = vec![b'x'; (16 << 20) + 1];
    directory.vault_with(&format!("seal --key-file kek {CONTEXT}"), &too_large).fails(11);
}

/// A key file of random bytes whose last one is a line break would lose it.
#[test]
fn what_is_no_text_is_sealed_only_where_asked() {
    let directory = directory();
    let seal =
        |flags: &str, input: &[u8]| directory.vault_with(&format!("seal {flags} --key-file kek {CONTEXT}"), input);
    for input in [&b"\xff\xfe\n"[..], b"nul\0", b"latin \xe9"] {
        let told = seal("", input).fails(11);
        assert!(told.contains("not UTF-8") && told.contains("--raw"), "{told}");
        seal("--format fernet", input).fails(11);
        seal("--raw", input).ok();
    }
    let told = seal("--lines", b"one\n\xff\n").fails(11);
    assert!(told.contains("line 2"), "{told}");
    for (flags, input) in [("", &b""[..]), ("", b"\n"), ("--raw", b""), ("--lines", b"\n")] {
        let told = seal(flags, input).fails(11);
        assert!(told.contains("it is empty") && told.contains("--allow-empty"), "{told}");
        let token = seal(&format!("{flags} --allow-empty"), input).ok();
        assert_eq!(directory.vault_with(&format!("open --key-file kek {CONTEXT}"), token.as_bytes()).ok(), "");
    }
}

#[test]
fn tokens_are_objects_where_asked_and_secrets_never() {
    let directory = directory();
    let sealed = directory.vault_with(&format!("seal --json --key-file kek {CONTEXT}"), b"s3cret").ok();
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    let token = sealed["token"].as_str().unwrap();
    assert_eq!((sealed["schema_version"].as_u64(), sealed["kid"].as_str()), (Some(1), Some(&token[4..21])));
    assert_eq!(directory.vault_with(&format!("open --key-file kek {CONTEXT}"), token.as_bytes()).ok(), "s3cret");
    let seen = directory.vault_with("inspect --json", token.as_bytes()).ok();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!((&seen["token"], &seen["kid"]), (&sealed["token"], &sealed["kid"]));
    let lines = directory.vault_with(&format!("seal --json --lines --key-file kek {CONTEXT}"), b"one\ntwo").ok();
    assert_eq!(lines.lines().count(), 2);
    let legacy = directory.vault_with("seal --json --format fernet --key-file kek", b"s3cret").ok();
    let legacy: serde_json::Value = serde_json::from_str(&legacy).unwrap();
    assert!(legacy["kid"].as_str().unwrap().starts_with('f'));
    directory.vault_with(&format!("open --json --key-file kek {CONTEXT}"), token.as_bytes()).fails(2);
    directory.vault("key generate --json").fails(2);
    directory.vault_with(&format!("seal --seal-with kaaaaaaaaaaaaaaaa {CONTEXT}"), b"x").fails(2);
}

#[test]
fn lines_are_sealed_one_by_one() {
    let directory = directory();
    let tokens = directory.vault_with(&format!("seal --lines --key-file kek {CONTEXT}"), b"one\ntwo\nthree").ok();
    assert_eq!(tokens.lines().count(), 3);
    assert_eq!(
        directory.vault_with(&format!("open --lines --key-file kek {CONTEXT}"), tokens.as_bytes()).ok(),
        "one\ntwo\nthree\n"
    );
    let second_wrong =
        tokens.lines().enumerate().map(|(at, line)| if at == 1 { "vs1.x\n".to_owned() } else { format!("{line}\n") });
    let ran = directory
        .vault_with(&format!("open --lines --key-file kek {CONTEXT}"), second_wrong.collect::<String>().as_bytes());
    assert_eq!((ran.code, ran.out.as_str()), (11, "one\n"));
    assert!(ran.err.starts_with("vault: error: line 2: "), "{}", ran.err);
}

#[test]
fn failures_have_their_own_exit_status() {
    let directory = directory();
    let token = directory.vault_with(&format!("seal --key-file kek {CONTEXT}"), b"s3cret").ok();
    let open = |arguments: &str, input: &str| directory.vault_with(&format!("open {arguments}"), input.as_bytes()).code;
    assert_eq!(open(&format!("--key-file other {CONTEXT}"), &token), 20);
    assert_eq!(open("--key-file kek --tenant 43", &token), 11);
    assert_eq!(open(&format!("--key-file kek {CONTEXT}"), "rubbish"), 11);
    assert_eq!(open("--key-file kek", &token), 2, "no context by accident");
    assert_eq!(open(&format!("--key-file nowhere {CONTEXT}"), &token), 18);
    assert_eq!(open(CONTEXT, &token), 6, "no configuration");
    directory.write("weak", [0xab; 32]);
    assert_eq!(directory.vault_with(&format!("seal --key-file weak {CONTEXT}"), b"x").code, 12);
    directory.write("quoted", "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"");
    assert_eq!(directory.vault_with(&format!("seal --key-file quoted {CONTEXT}"), b"x").code, 20);
    directory.write("huge", vec![b'x'; 100_000]);
    assert_eq!(directory.vault_with(&format!("seal --key-file huge {CONTEXT}"), b"x").code, 11);
    assert_eq!(directory.vault("seal --no-such-flag").code, 2);
    assert_eq!(directory.vault("").code, 2);
    assert_eq!(directory.vault("--help").code, 0);
}

#[test]
fn several_keys_open_and_one_is_chosen_to_seal() {
    let directory = directory();
    let under_other = directory.vault_with(&format!("seal --key-file other {CONTEXT}"), b"s3cret").ok();
    let both = "--key-file kek --key-file other";
    assert_eq!(directory.vault_with(&format!("open {both} {CONTEXT}"), under_other.as_bytes()).ok(), "s3cret");
    directory.vault_with(&format!("seal {both} {CONTEXT}"), b"x").fails(2);
    let kid = &under_other[4..21];
    let chosen = directory.vault_with(&format!("seal {both} --seal-with {kid} {CONTEXT}"), b"x").ok();
    assert_eq!(&chosen[4..21], kid);
    directory.vault_with(&format!("seal {both} --seal-with kaaaaaaaaaaaaaaaa {CONTEXT}"), b"x").fails(20);
}

#[test]
fn every_legacy_format_is_written_and_read() {
    let directory = directory();
    for format in [
        "fernet",
        "flowfile-v1",
        "flowfile-legacy-user",
        "flowfile-legacy-master",
        "flowfile-store",
        "face-column",
        "face-json",
        "face-json-double",
        "social-v1",
        "social-gcm16",
    ] {
        let secret = r#"{"a":"b"}"#;
        let value =
            directory.vault_with(&format!("seal --format {format} --tenant 7 --key-file kek"), secret.as_bytes()).ok();
        let opened =
            directory.vault_with(&format!("open --format {format} --tenant 7 --key-file kek"), value.as_bytes()).ok();
        assert_eq!(opened, secret, "{format}");
        directory
            .vault_with(&format!("open --format {format} --tenant 7 --key-file other"), value.as_bytes())
            .fails(11);
        let seen = directory.vault_with("inspect", value.as_bytes()).ok();
        assert!(
            seen.contains(if format.starts_with("social") || format == "flowfile-v1" {
                format
            } else {
                "fernet (one of "
            }),
            "{seen}"
        );
    }
    directory.vault_with("seal --format social-cbc-legacy --key-file kek", b"x").fails(12);
    directory.vault_with("seal --format plaintext --key-file kek", b"x").fails(2);
    let legacy = directory.vault_with("inspect", b"5e8ba1257faac29c9ee0ca77ab8c7093").ok();
    assert!(legacy.contains("unauthenticated"), "{legacy}");
}

#[test]
fn inspect_needs_no_key() {
    let directory = directory();
    let token = directory.vault_with(&format!("seal --padded --key-file kek {CONTEXT}"), b"s3cret").ok();
    let seen = directory.vault_with("inspect --json", token.as_bytes()).ok();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!((seen["schema_version"].as_u64(), seen["kid"].as_str()), (Some(1), Some(&token[4..21])));
    assert_eq!((seen["padded"].as_bool(), seen["payload"].as_u64()), (Some(true), Some(32)));
    directory.vault_with("inspect", b"no token").fails(11);
}

/// A reader that goes away is no error, and ends what has nothing else to do.
#[test]
fn a_closed_pipe_is_no_error() {
    let directory = directory();
    let line = format!("yes s3cret | {} seal --lines --key-file kek {CONTEXT} | head -1", crate::binary().display());
    let ran = crate::finish(
        std::process::Command::new("bash").args(["-o", "pipefail", "-c", &line]).current_dir(directory.home.path()),
        b"",
    );
    assert_eq!((ran.out.lines().count(), ran.err.as_str()), (1, ""), "{ran:?}");
}
