use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use vault_core::check::{Severity, fits, judge};
use vault_core::{Config, EntryName, Generate, Manifest, SecretBytes, SecretName, SecretSpec, Timestamp, Vault};

fn spec(declaration: &str) -> SecretSpec {
    let text = format!("version = 1\n[secrets.S]\n{declaration}");
    let manifest = Manifest::parse(&text, Path::new("/etc/vault.toml"), None).unwrap();
    manifest.secrets().next().unwrap().1.clone()
}

fn codes(declaration: &str, value: &[u8]) -> Vec<&'static str> {
    judge(&SecretName::parse("S").unwrap(), &spec(declaration), value).iter().map(|finding| finding.code).collect()
}

#[test]
fn what_was_generated_is_in_order() {
    let mut found = Vec::new();
    for (form, declaration) in [
        ("hex:16", "type = 'hex'\nbytes = 16"),
        ("hex:32", "type = 'hex'\nbytes = 32"),
        ("hex:32", "min_length = 64"),
        ("base64:24", "type = 'base64'\nbytes = 24"),
        ("base64:32", "type = 'base64'\nbytes = 32"),
        ("base64url:33", "type = 'base64'\nbytes = 33"),
        ("text:16", "min_length = 16"),
        ("text:40", ""),
        ("fernet-key", "type = 'fernet-key'"),
    ] {
        let spec = spec(declaration);
        let form: Generate = form.parse().unwrap();
        for _ in 0..500 {
            let secret = form.secret().unwrap();
            let findings = judge(&SecretName::parse("S").unwrap(), &spec, secret.expose_secret());
            found.extend(findings.into_iter().map(|finding| (form, finding.code)));
        }
    }
    // One of ten thousand runs has one that begins like a reference or a stand-in: `ref+`, `your-`.
    assert!(found.len() <= 1, "{found:?}");
}

#[test]
fn dates_are_known_in_the_forms_that_scripts_print() {
    for date in [
        "2025-12-17",
        "20251217",
        "2025/12/17",
        "17.12.2025",
        "12/17/2025",
        "20251217_153000",
        "20251217153000",
        "2025-12-17T15:30:00Z",
        "2025-12-17 15:30",
        "2025-12-17T15:30:00+01:00",
        "1766000000",
    ] {
        assert_eq!(codes("", date.as_bytes()), ["date"], "{date}");
    }
    for other in ["2025-13-17", "92618374", "20251217abcd", "2025-12-17-q7Zk", "0123456780", "202512171", "17-12-25"] {
        assert_eq!(codes("", other.as_bytes()), [""; 0], "{other}");
    }
}

#[test]
fn passwords_in_urls_are_escaped() {
    for (url, expected) in [
        ("postgresql://u:p%40ss@h/db", None),
        ("postgresql://u:pä@h/db", None),
        ("postgresql://u:a:b@h/db", None),
        ("postgresql://u@h/db?x=a@b", None),
        ("postgresql://u:p@h/db?email=a@b", None),
        ("https://h:8080/@x", None),
        ("jdbc:postgresql://h/db", None),
        ("postgresql://u:p@ss@h/db", Some("url-password")),
        ("postgresql://u:p/ss@h/db", Some("url-password")),
        ("postgresql://u:p?ss@h/db", Some("url-password")),
        ("postgresql://u:p#ss@h/db", Some("url-password")),
        ("postgresql://u:p ss@h/db", Some("url-password")),
        ("postgresql://u:p%ss@h/db", Some("url-password")),
        ("postgresql://u:p[ss@h/db", Some("url-password")),
        ("postgresql://u:%70assword@h/db", Some("published")),
        ("postgresql://postgres:postgres@h/db", Some("published")),
        ("amqp://app:guest@h", Some("published")),
        ("postgresql://app:app@h/db", Some("published")),
        ("postgresql://u:$DB_PASSWORD@h/db", Some("unexpanded")),
        ("postgresql://u:your-password@h/db", Some("placeholder")),
        ("postgresql://u:YOUR_PASSWORD@h/db", Some("placeholder")),
        ("postgresql://u:secret@h/db", Some("placeholder")),
        ("postgresql://u:@h/db", None),
    ] {
        assert_eq!(codes("type = 'url'", url.as_bytes()), expected.into_iter().collect::<Vec<_>>(), "{url}");
    }
}

#[test]
fn what_a_shell_should_have_replaced_is_not_random() {
    for text in ["$(openssl rand -hex 32)", "x$(date)y", "`id`", "${SECRET_KEY}", "${A_B:-x}", "a${DB}b"] {
        assert_eq!(codes("", text.as_bytes()), ["unexpanded"], "{text}");
    }
    for text in ["a$(b", "$(7x)", "pa`ss`word1", "$x{y}z", "${", "100$(%)"] {
        assert_eq!(codes("", text.as_bytes()), [""; 0], "{text}");
    }
}

#[test]
fn what_stands_for_a_secret_is_none() {
    for (code, texts) in [
        ("unexpanded", &["$POSTGRES_PASSWORD", "$(</run/secrets/x)", "$(< key.txt)", "$$(openssl rand -hex 32)"][..]),
        (
            "placeholder",
            &[
                "[REDACTED]",
                "REDACTED",
                "***",
                "dummy",
                "ENTER_YOUR_KEY_HERE",
                "add-your-key-here",
                "__SECRET__",
                "@@SECRET@@",
                "%DB_PASSWORD%",
                "#{TOKEN}#",
                "your secret here",
                "yourpassword",
                "sk-xxxxxxxxxxxxxxxx",
                "insert_key_here",
                "TO BE REPLACED",
                "[object Object]",
                "xxxxxx",
            ],
        ),
        ("published", &["123456", "Password1", "postgres", "letmein", "changeit", "supersecret"]),
        ("reference", &["/run/secrets/s", "op://vault/item/field", "ENC[AES256_GCM,data:q7Zk]", "ref+awsssm://x"]),
        ("message", &["cat: /run/secrets/x: No such file or directory", "sh: 1: openssl: not found"]),
        ("assignment", &["S=q7Zk-2mmT", "export S=q7Zk-2mmT", "s = q7Zk-2mmT"]),
        ("quoted", &["“q7Zk-2mmT”", "„q7Zk-2mmT“", "‘q7Zk-2mmT’", "«q7Zk-2mmT»"]),
        ("invisible-character", &["q7Zk\u{200b}-2mmT", "q7Zk\u{a0}2mmT", "q7Zk\u{7}2mmT"]),
        ("escaped-line-break", &["q7Zk-2mmT\\n"]),
    ] {
        for text in texts {
            assert_eq!(codes("", text.as_bytes()), [code], "{text}");
        }
    }
    for text in ["$A", "$q7Zk2mmT", "[q7,Zk]", "R=q7Zk-2mmT", "SS=q7", "a\nb\tc\r\nd", "op:/x", "x-_q"] {
        assert_eq!(codes("", text.as_bytes()), [""; 0], "{text}");
    }
}

#[test]
fn a_key_that_signs_tokens_is_as_long_as_its_hash() {
    let codes = |name: &str, declaration: &str, value: &str| -> Vec<&str> {
        let found = judge(&SecretName::parse(name).unwrap(), &spec(declaration), value.as_bytes());
        found.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes("JWT_SECRET", "", "q7Zk-2mmT"), ["short-jwt-secret"]);
    assert_eq!(codes("app/jwt-signing-key", "", "q7Zk-2mmT"), ["short-jwt-secret"]);
    assert_eq!(codes("JWT_SECRET", "", "q7Zk-2mmTq7Zk-2mmUq7Zk-2mmVq7Zk-2"), [""; 0]);
    assert_eq!(codes("JWT_SECRET", "min_length = 8", "q7Zk-2mmT"), [""; 0]);
    assert_eq!(codes("JWT_ISSUER", "", "q7Zk-2mmT"), [""; 0]);
    assert_eq!(codes("DB_PASSWORD", "", "q7Zk-2m"), ["short-secret"]);
    assert_eq!(codes("DB_PASSWORD", "", "q7Zk-2mm"), [""; 0]);
    assert_eq!(codes("DB_PASSWORD", "min_length = 4", "q7Zk"), [""; 0]);
    assert_eq!(codes("DB_PORT", "", "q7Zk"), [""; 0]);
}

#[test]
fn names_of_users_and_hosts_may_be_common() {
    for name in ["POSTGRES_USER", "admin_username", "POSTGRES_DB", "DB_HOST"] {
        assert!(judge(&SecretName::parse(name).unwrap(), &spec(""), b"postgres").is_empty(), "{name}");
    }
    assert_eq!(codes("type = 'int'", b"1234"), [""; 0]);
    assert_eq!(codes("", b"postgres"), ["published"]);
}

#[test]
fn keys_in_pem_are_whole_and_what_is_declared() {
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKIb4exXpSsn1NyR2TLQ0D1sFTbPzVOQmz3Ti0L6pW8V\n-----END PRIVATE KEY-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let (own, open) = ("type = 'pem-private-key'", "type = 'pem-public-key'");
    for (declaration, text, expected) in [
        (own, private.to_owned(), None),
        (own, private.replace('\n', "\r\n"), None),
        (own, format!("{parameters}{private}"), None),
        (own, format!("{public}{private}"), None),
        (own, private.replace("MC4C", "MC8C"), Some("wrong-type")),
        (own, private.replace("VwBC", "Vw!C"), Some("wrong-type")),
        (own, private.replace("KIb4exXp", ""), Some("wrong-type")),
        (own, format!("{private}-----BEGIN PRIVATE KEY-----\nMC4C"), Some("wrong-type")),
        (own, parameters.to_owned(), Some("wrong-type")),
        (own, public.to_owned(), Some("wrong-type")),
        (open, public.to_owned(), None),
        (open, private.to_owned(), Some("private-key")),
        (open, format!("{public}{private}"), Some("private-key")),
    ] {
        assert_eq!(codes(declaration, text.as_bytes()), expected.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

/// A rule that compares a value with itself would take hours for the longest.
#[test]
fn the_longest_values_are_judged() {
    for (declaration, unit) in
        [("", "ab"), ("", "$("), ("", "${a"), ("type = 'url'", "x://a%"), ("type = 'base64'", "AAAA")]
    {
        let text = unit.repeat((4 << 20) / unit.len());
        codes(declaration, text.as_bytes());
    }
}

/// Whoever reads that source alone fails, and an operator would not know why.
#[test]
fn a_source_behind_the_winner_that_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    std::fs::create_dir_all(at("mounts/a")).unwrap();
    std::fs::create_dir(at("credentials")).unwrap();
    std::fs::write(at("credentials/a"), "q7Zk-2mmT").unwrap();
    std::fs::write(at("vault.toml"), "version = 1\n[secrets.A]\n").unwrap();
    let variables = BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), at("credentials").into())]);
    let vault = Vault::load(Config::with_profile(at("vault.toml"), None).unwrap()).unwrap();
    let vault = vault.with_environment(variables, at("mounts"));
    let found = vault.check(&SecretName::parse("A").unwrap(), Timestamp::now()).unwrap();
    let found: Vec<_> = found.iter().map(|finding| (finding.code, finding.severity, finding.what.as_str())).collect();
    let [("unreadable", Severity::Warning, what)] = found[..] else { panic!("{found:?}") };
    assert!(what.starts_with(&format!("file {} wins", at("credentials/a").display())), "{what}");
    assert!(what.contains(&at("mounts/a").display().to_string()), "{what}");
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(value in prop::collection::vec(any::<u8>(), 0..80), kind in 0..9_usize) {
        let types = ["text", "url", "int", "hex", "base64", "fernet-key", "pem-private-key", "pem-public-key", "binary"];
        let lengths = ["bytes = 32\nmin_length = 3", "min_length = 3", ""];
        let lengths = lengths[match types[kind] { "url" | "int" | "fernet-key" => 1, "pem-private-key" | "pem-public-key" => 2, _ => 0 }];
        let declaration = format!("type = '{}'\n{lengths}", types[kind]);
        codes(&declaration, &value);
        prop_assert!(fits(&spec(&declaration), &value).is_none_or(|found| !found.remedy.is_empty()));
    }

    #[test]
    fn no_text_makes_it_panic(value in "(\\$\\(|\\$\\{|`|://|@|%|-----BEGIN |-----|\"|[a-z0-9 é\n]){0,12}", kind in 0..8_usize) {
        let types = ["text", "url", "int", "hex", "base64", "fernet-key", "pem-private-key", "pem-public-key"];
        codes(&format!("type = '{}'", types[kind]), value.as_bytes());
    }
}

/// Passwords of password managers, without quotes, which nobody can tell from quotes around it. One in
/// thousands looks like something that a template left.
#[test]
fn random_passwords_are_in_order() {
    let passwords = string_regex("[A-Za-z0-9!#$%&()*+,./:;<=>?@\\[\\]^_{|}~-]{12,40}").unwrap();
    let mut runner = TestRunner::deterministic();
    let told = (0..20_000).filter(|_| {
        let password = passwords.new_tree(&mut runner).unwrap().current();
        !codes("", password.as_bytes()).is_empty()
    });
    let told = told.count();
    assert!(told <= 8, "{told}");
}

#[test]
fn the_store_knows_when_a_secret_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("vault.toml");
    std::fs::write(directory.path().join("kek"), vault_core::MasterKey::generate().unwrap().text().expose_secret())
        .unwrap();
    std::fs::write(
        &config,
        "version = 1\n[keyring.main]\nsources = [\"file:kek\"]\n[store]\nurl = \"file:store\"\n\
         [secrets.A]\nrotate_every = \"90d\"\n[secrets.B]\nrotate_every = \"90d\"\nrotated = 2026-01-31\nsource = \"env\"\n",
    )
    .unwrap();
    let variables = BTreeMap::from([("B".to_owned(), "q7Zk-2mmT".into())]);
    let vault = Vault::load(Config::with_profile(&config, None).unwrap()).unwrap();
    let vault = vault.with_environment(variables, directory.path().join("none"));
    vault.store().unwrap().create().unwrap();
    let name = |name: &str| SecretName::parse(name).unwrap();
    vault.set(&[(EntryName::new(name("A")), SecretBytes::copy_of(b"q7Zk-2mmT"))], None).unwrap();
    let at = |secret: &str, time: u64| -> Vec<&str> {
        let found = vault.check(&name(secret), Timestamp(time)).unwrap();
        found.iter().map(|finding| finding.code).collect()
    };
    let now = Timestamp::now().0;
    assert_eq!(at("A", now + 89 * 86_400), [""; 0]);
    assert_eq!(at("A", now + 91 * 86_400), ["overdue"]);
    let rotated = Timestamp::parse("2026-01-31T00:00:00Z").unwrap().0;
    assert_eq!(at("B", rotated + 89 * 86_400), [""; 0]);
    assert_eq!(at("B", rotated + 90 * 86_400), ["overdue"]);
    assert_eq!(at("B", rotated - 86_401), ["rotated-in-future"]);
    assert_eq!(at("B", rotated - 86_000), [""; 0]);
    let other = vault.set(&[(EntryName::new(name("a")), SecretBytes::copy_of(b"x"))], None).unwrap_err();
    assert!(other.to_string().ends_with("secret a is declared as A; use that name"), "{other}");
    assert!(vault.check(&name("C"), Timestamp(now)).is_err());
    assert!(Severity::Failure < Severity::Warning && Severity::Warning < Severity::Information);
}
