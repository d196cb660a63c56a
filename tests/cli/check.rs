//! Declared secrets as the applications' guides have them made, with every mistake that is known,
//! and the same without one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::store::{STORES, home};
use crate::{Directory, Ran, finish};

/// Where a secret of the tree is.
enum At {
    /// A mounted file with these bytes.
    Mount(Vec<u8>),
    /// A variable.
    Variable(String),
    /// A variable and another one that names a file.
    Both(String),
    /// `NAME_FILE` names what is not there.
    Named(&'static str),
    /// A line of `.env`.
    Line(String),
    /// The store, and a mounted file with other bytes.
    StoreAnd(Vec<u8>),
    /// The store.
    Store(String),
    /// A file that a command of the tree's script made, which is declared by its path.
    Made,
    Nowhere,
}

use At::{Both, Line, Made, Mount, Named, Nowhere, Store, StoreAnd, Variable};

fn mount(text: &str) -> At {
    Mount(text.as_bytes().to_vec())
}

fn variable(text: &str) -> At {
    Variable(text.to_owned())
}

/// A secret: what is declared of it, where it is, and the codes of what is wrong with it.
type Case = (&'static str, &'static str, At, &'static [&'static str]);

/// A directory with a vault and these secrets.
struct Tree {
    directory: Directory,
    variables: BTreeMap<String, String>,
}

impl Tree {
    fn new(script: &str, cases: &[Case]) -> Self {
        let directory = home(STORES[1]);
        shell(&directory, script);
        fs::create_dir(directory.path("mounts")).unwrap();
        let mut variables = BTreeMap::new();
        let mounts = directory.path("mounts");
        variables.insert("CREDENTIALS_DIRECTORY".to_owned(), mounts.to_str().unwrap().to_owned());
        let (mut declared, mut lines) = (String::new(), String::new());
        let store = |name: &str, value: &[u8]| {
            directory.vault_with(&format!("set {name}"), value).ok();
        };
        for (name, declaration, at, _) in cases {
            declared += &format!("[secrets.{name}]\n{declaration}\n");
            let file = mounts.join(name.to_lowercase());
            match at {
                Mount(content) => fs::write(file, content).unwrap(),
                Variable(value) => drop(variables.insert((*name).to_owned(), value.clone())),
                Both(value) => {
                    fs::write(directory.path("both"), value).unwrap();
                    variables.insert((*name).to_owned(), value.clone());
                    variables.insert(format!("{name}_FILE"), directory.path("both").to_str().unwrap().to_owned());
                }
                Named(path) => drop(variables.insert(format!("{name}_FILE"), (*path).to_owned())),
                Line(line) => lines += &format!("{line}\n"),
                StoreAnd(content) => {
                    store(name, b"kept-in-the-store-7Gq2");
                    fs::write(file, content).unwrap();
                }
                Store(value) => store(name, value.as_bytes()),
                Made | Nowhere => {}
            }
        }
        let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
        directory.write("vault.toml", format!("{config}\n{declared}"));
        if !lines.is_empty() {
            directory.write(".env", lines);
        }
        Self { directory, variables }
    }

    fn vault(&self, line: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        finish(crate::command(self.directory.home.path(), &words).envs(&self.variables), b"")
    }

    /// The codes of what was found, by secret.
    fn found(&self) -> BTreeMap<String, Vec<String>> {
        let told: Value = serde_json::from_str(&self.vault("check --json").out).unwrap();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for finding in told["findings"].as_array().unwrap() {
            assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
            let name = finding["name"].as_str().unwrap().to_owned();
            found.entry(name).or_default().push(finding["code"].as_str().unwrap().to_owned());
        }
        found.values_mut().for_each(|codes| codes.sort_unstable());
        found
    }
}

fn shell(directory: &Directory, script: &str) {
    let ran =
        finish(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(directory.home.path()), b"");
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// What a command prints.
fn printed(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of the guides of Flowfile and the face-recognition API, as they stand there.
const GUIDES: &str = r#"
mkdir -p secrets
openssl rand -base64 32 > master_key.txt
chmod 600 master_key.txt
openssl rand -hex 32 > secrets/secret_key.txt
openssl rand -hex 32 > secrets/jwt_private_key.pem  # Actually need PEM format
openssl rand -hex 32 > secrets/db_encryption_key.txt
echo "strong-postgres-password" > secrets/db_password.txt
echo "strong-redis-password" > secrets/redis_password.txt
date +%Y-%m-%d > secrets/ip_hash_salt.txt
echo "AWS_ACCESS_KEY_ID" > secrets/aws_access_key_id.txt
echo "AWS_SECRET_ACCESS_KEY" > secrets/aws_secret_access_key.txt
"#;

fn traps() -> Vec<Case> {
    let fernet = printed("openssl rand -base64 32");
    let fernet = fernet.trim_end();
    let hex = printed("openssl rand -hex 32");
    let hex = hex.trim_end();
    let private = printed("openssl genpkey -algorithm ed25519");
    let public = printed("openssl genpkey -algorithm ed25519 | openssl pkey -pubout");
    let with_bom = format!("\u{feff}{fernet}\n");
    let mut cases: Vec<Case> = vec![
        // The guide of the face-recognition API.
        ("SECRET_KEY", "type = 'hex'\nbytes = 32\npath = 'secrets/secret_key.txt'", Made, &[]),
        ("JWT_PRIVATE_KEY", "type = 'pem-private-key'\npath = 'secrets/jwt_private_key.pem'", Made, &["pem-is-hex"]),
        ("DB_ENCRYPTION_KEY", "min_length = 32\npath = 'secrets/db_encryption_key.txt'", Made, &[]),
        ("DB_PASSWORD", "path = 'secrets/db_password.txt'", Made, &["published"]),
        ("REDIS_PASSWORD", "path = 'secrets/redis_password.txt'", Made, &["published"]),
        ("IP_HASH_SALT", "path = 'secrets/ip_hash_salt.txt'", Made, &["date"]),
        ("AWS_ACCESS_KEY_ID", "path = 'secrets/aws_access_key_id.txt'", Made, &["placeholder"]),
        ("AWS_SECRET_ACCESS_KEY", "path = 'secrets/aws_secret_access_key.txt'", Made, &["placeholder"]),
        ("FACE_KEY_RAILWAY", "type = 'hex'\nbytes = 32", mount(&printed("openssl rand -hex 16")), &["half-key"]),
        ("FACE_DEVELOPMENT", "", mount("dev-encryption-key-32-chars-long!"), &["published"]),
        ("FACE_JWT", "", mount("jwt-secret-key-for-development-only\n"), &["published"]),
        ("FACE_SECRET", "", mount("dev-secret-key"), &["published"]),
        ("FACE_DB", "", mount("password"), &["published"]),
        ("FACE_ESCAPED", "type = 'pem-private-key'", mount(&private.replace('\n', "\\n")), &["escaped-line-breaks"]),
        ("FACE_CUT", "type = 'pem-private-key'", mount(&private[..70]), &["wrong-type"]),
        ("FACE_SWAPPED", "type = 'pem-private-key'", mount(&public), &["wrong-type"]),
        ("FACE_OPEN", "type = 'pem-public-key'", mount(&private), &["private-key"]),
        // Flowfile.
        ("MASTER_FILE", "type = 'fernet-key'\npath = 'master_key.txt'", Made, &[]),
        (
            "FLOWFILE_MASTER_KEY",
            "type = 'fernet-key'",
            Variable(format!("\"{fernet}\"")),
            &["from-environment", "quoted"],
        ),
        ("MASTER_SINGLE", "type = 'fernet-key'", Mount(format!("'{fernet}'\n").into()), &["quoted"]),
        ("MASTER_SPACE", "type = 'fernet-key'", Mount(format!("  {fernet}  \n").into()), &["surrounding-space"]),
        ("MASTER_QUOTED_SPACE", "type = 'fernet-key'", Mount(format!("\" {fernet} \"").into()), &["quoted"]),
        ("MASTER_MARK", "type = 'fernet-key'", mount(&with_bom), &["byte-order-mark"]),
        ("MASTER_UTF16", "type = 'fernet-key'", Mount(vec![0xff, 0xfe, b'a', 0]), &["byte-order-mark"]),
        ("MASTER_COMMENT", "type = 'fernet-key'", Mount(format!("{fernet} # prod").into()), &["wrong-type"]),
        ("MASTER_UNPADDED", "type = 'fernet-key'", mount(fernet.trim_end_matches('=')), &["wrong-type"]),
        ("MASTER_HEX", "type = 'fernet-key'", mount(hex), &["wrong-type"]),
        ("MASTER_31", "type = 'fernet-key'", mount(&printed("openssl rand -base64 31")), &["wrong-type"]),
        ("MASTER_CI", "type = 'fernet-key'", mount("github-actions-test-master-key-1767859200"), &["wrong-type"]),
        ("MASTER_BLANK", "type = 'fernet-key'", mount(" \n\n"), &["empty"]),
        ("MASTER_ZERO", "type = 'fernet-key'", mount("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), &["weak"]),
        ("MASTER_TEST", "type = 'fernet-key'", mount("06t640eu3AG2FmglZS0n0zrEdqadoT7lYDwgSmKyxE4="), &["published"]),
        ("MASTER_E2E", "type = 'fernet-key'", mount("MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="), &["published"]),
        ("JWT_SECRET_KEY", "min_length = 32", mount("your-secure-jwt-secret-key-at-least-32-chars"), &["placeholder"]),
        ("JWT_COMPOSE", "", mount("flowfile-dev-secret-change-in-production\n"), &["published"]),
        ("INTERNAL_TOKEN", "", mount("flowfile-dev-internal-token-change-in-production"), &["published"]),
        ("ADMIN_PASSWORD", "", mount("YourSecurePassword123!"), &["published"]),
        ("ADMIN_DEFAULT", "", variable("changeme"), &["from-environment", "published"]),
        // FingerFlow.
        (
            "FF_ENV",
            "",
            Line("FF_ENV=$(openssl rand -hex 32)".to_owned()),
            &["env-file-ambiguous", "missing", "unexpanded"],
        ),
        ("FF_SECRET", "", mount("$(openssl rand -hex 32)\n"), &["unexpanded"]),
        ("FF_BACKTICKS", "", mount("`openssl rand -hex 32`"), &["unexpanded"]),
        ("FF_INNER", "type = 'url'", mount("postgresql://ff:${POSTGRES_PASSWORD}@postgres:5432/ff"), &["unexpanded"]),
        ("FF_EMPTY", "", variable(""), &["missing"]),
        ("FF_CODE", "", mount("dev-secret-key-change-in-production"), &["published"]),
        ("FF_COMPOSE", "", mount("change-me-in-production"), &["published"]),
        ("FF_PASTE", "", mount("<PASTE_GENERATED_PASSWORD_HERE>"), &["placeholder"]),
        ("FF_CHANGE", "", mount("CHANGE_ME_generate_with_openssl\n"), &["placeholder"]),
        ("FF_CLIENT", "", mount("your-actual-client-secret"), &["placeholder"]),
        ("FF_PORT", "type = 'int'", mount("587\n\n"), &["surrounding-space"]),
        ("FF_PORT_NAME", "type = 'int'", mount("smtp"), &["wrong-type"]),
        ("FF_URL", "type = 'url'", mount("postgresql://ff:p@ss/w#rd@postgres:5432/ff"), &["url-password"]),
        ("FF_URL_SLASH", "type = 'url'", mount("postgresql://ff:pa/ss@postgres:5432/ff"), &["url-password"]),
        ("FF_URL_PERCENT", "type = 'url'", mount("postgresql://ff:100%sure@postgres:5432/ff"), &["url-password"]),
        (
            "FF_URL_PUBLIC",
            "type = 'url'",
            mount("postgresql://ff:fingerflow_prod_password@postgres/ff"),
            &["published"],
        ),
        ("FF_URL_NONE", "type = 'url'", mount("postgres:5432/ff"), &["wrong-type"]),
        (
            "FF_AMBIGUOUS",
            "source = 'env'",
            Line(format!("FF_AMBIGUOUS='{hex}' # rotated")),
            &["env-file-ambiguous", "missing"],
        ),
        // Raqeem.
        ("BETTER_AUTH_SECRET", "", mount(""), &["empty-better-auth"]),
        ("APP_BETTER_AUTH_SECRET", "", mount("\n"), &["empty-better-auth"]),
        ("RQ_BUILT_IN", "", mount("better-auth-secret-123456789"), &["published"]),
        ("RQ_LOCAL", "", mount("local_better_auth_secret_min_32_chars_random\n"), &["published"]),
        ("RQ_LOCAL_DB", "", mount("local_password_123"), &["published"]),
        ("RQ_GUIDE", "", mount("xK9mP2nQ7vL4zR8wE5tY1cA6sD3fG0hJ\n"), &["published"]),
        ("RQ_GUIDE_AUTH", "", mount("aB4cD8eF2gH6iJ0kL5mN9oP3qR7sT1uV\n"), &["published"]),
        (
            "RQ_GUIDE_URL",
            "type = 'url'",
            mount("postgresql://raqeem_prod:xK9mP2nQ7vL4zR8wE5tY1cA6sD3fG0hJ@postgres:5432/r"),
            &["published"],
        ),
        ("POSTGRES_PASSWORD", "", Both(hex.to_owned()), &["set-twice"]),
        ("RQ_MISSING_FILE", "", Named("/nowhere/database_url"), &["unreadable"]),
        ("RQ_DIRECTORY", "", Named("."), &["unreadable"]),
        ("RQ_BINARY", "", Mount(vec![0xc3, 0x28, 0xa0]), &["not-text"]),
        ("RQ_NUL", "", Mount(b"a\0b".to_vec()), &["nul"]),
        // social-publisher.
        ("ENCRYPTION_KEY", "", mount("default-encryption-key-change-in-production"), &["published"]),
        ("SP_JWT", "min_length = 32", mount("dev-insecure-secret"), &["published"]),
        ("SP_SHORT", "min_length = 32", mount("kT6!q9zR"), &["too-short"]),
        ("SP_32", "type = 'base64'\nbytes = 32", mount(&printed("openssl rand -base64 24")), &["wrong-length"]),
        ("SP_WRAPPED", "type = 'base64'\nbytes = 64", mount(&printed("openssl rand -base64 64")), &["line-break"]),
        ("SP_HEX", "type = 'hex'\nbytes = 32", mount(fernet), &["wrong-type"]),
        ("SP_ODD", "type = 'hex'", mount(&hex[1..]), &["wrong-type"]),
        ("SP_REPEATED", "", mount("abc123abc123abc123"), &["weak"]),
        ("SP_STORED", "", StoreAnd(b"mounted-since-Xw81\n".to_vec()), &["shadows"]),
        ("SP_JAVASCRIPT", "", mount("undefined"), &["placeholder"]),
        ("SP_OLD", "rotate_every = '90d'\nrotated = 2020-01-31", mount(hex), &["overdue"]),
        ("SP_UNKNOWN", "rotate_every = '90d'", mount(hex), &["rotation-unknown"]),
        ("SP_DEFAULT", "default = 'dev-insecure-secret'", Nowhere, &["default-used", "published"]),
        ("SP_NOWHERE", "", Nowhere, &["missing"]),
        ("SP_OPTIONAL", "required = false", Nowhere, &[]),
    ];
    // Names that are in `.env` and mounted too.
    cases.push(("TWICE_SAME", "", mount("same-value-9Jk2"), &["also-in-env-file"]));
    cases.push(("TWICE_OTHER", "", mount("one-value-9Jk2"), &["also-in-env-file"]));
    cases.push((
        "LINES",
        "required = false",
        Line("TWICE_SAME=same-value-9Jk2\nTWICE_OTHER=other-value-4Lm8".to_owned()),
        &[],
    ));
    cases
}

#[test]
fn every_mistake_is_found_and_nothing_else() {
    let cases = traps();
    let tree = Tree::new(GUIDES, &cases);
    let found = tree.found();
    let mut table = String::new();
    let (mut produced, mut expected, mut equal) = (0, 0, true);
    for (name, _, _, codes) in &cases {
        let of = found.get(*name).map(Vec::as_slice).unwrap_or_default();
        let fits = of == *codes;
        (produced, expected, equal) = (produced + of.len(), expected + codes.len(), equal && fits);
        table += &format!("{} {name:<24} {:<44} {}\n", if fits { "  " } else { "!!" }, codes.join(" "), of.join(" "));
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{table}{} secrets, findings produced / expected: {produced} / {expected}", cases.len()).unwrap();
    assert!(equal && found.values().map(Vec::len).sum::<usize>() == produced, "{table}");
    assert_eq!(tree.vault("check").code, 14);
}

#[test]
fn no_finding_shows_a_value() {
    let cases = traps();
    let tree = Tree::new(GUIDES, &cases);
    let mut told = String::new();
    for line in ["check", "check --json", "check --strict", "doctor", "doctor --json"] {
        let ran = tree.vault(line);
        told += &format!("{}{}", ran.out, ran.err);
    }
    let mut values: Vec<String> = cases
        .iter()
        .filter_map(|(_, _, at, _)| match at {
            Mount(bytes) | StoreAnd(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Variable(value) | Both(value) | Store(value) => Some(value.clone()),
            Line(line) => line.split_once('=').map(|(_, value)| value.to_owned()),
            Made | Named(_) | Nowhere => None,
        })
        .collect();
    for file in fs::read_dir(tree.directory.path("secrets")).unwrap() {
        values.push(fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let mut looked_for = 0;
    for value in values.iter().map(|value| value.trim().trim_matches(['"', '\''])) {
        // The guides write two names where secrets belong; one default and one command are words of
        // the findings.
        let words = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "password", "`openssl rand -hex 32`"];
        if value.len() < 8 || words.contains(&value) {
            continue;
        }
        looked_for += 1;
        let longest = value.split_whitespace().max_by_key(|word| word.len()).unwrap();
        for part in [value, if longest.len() < 12 { value } else { longest }] {
            assert!(!told.contains(part), "{part}");
        }
    }
    assert!(looked_for > 60, "{looked_for}");
}

/// A `.env` that lies there and cannot be read keeps nothing else from being told.
#[test]
fn an_environment_file_in_disorder_is_a_finding() {
    let directory = home(STORES[0]);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", format!("{config}\n[secrets.NOWHERE]\n"));
    directory.write(".env", b"X=\xff\n");
    let told = directory.vault("check");
    assert!(
        told.code == 14 && told.out.contains("[env-file-unreadable]") && told.out.contains("[missing]"),
        "{told:?}"
    );
    fs::remove_file(directory.path(".env")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", directory.path(".env")).unwrap();
    let told = directory.vault("check");
    assert!(
        told.code == 14 && told.out.contains("[env-file-unreadable]") && told.out.contains("[missing]"),
        "{told:?}"
    );
    directory.vault("check --env-file .env").fails(18);
}

/// A marker inside every kind of mistake.
#[test]
fn no_finding_shows_a_part_of_a_value() {
    const MARKER: &str = "Canary4Zq";
    let shapes = [
        "M",
        "\"M\"",
        " M ",
        "\u{feff}M",
        "$(echo M)",
        "`echo M`",
        "${M}",
        "CHANGE_ME_M",
        "your-M",
        "<M>",
        "M\n\nM",
        "x://u:M@h",
        "x://u:M/M@h",
        "x://M:changeme@h",
        "2026-01-31 M",
        "-----BEGIN M-----",
        "-----BEGIN PRIVATE KEY-----\nM",
        "M\0",
        "MMMM",
        "https://M",
        "NAME=M",
    ];
    let directory = home(STORES[0]);
    fs::create_dir(directory.path("mounts")).unwrap();
    let mut config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let mut lines = String::new();
    let types = ["text", "url", "int", "hex", "base64", "fernet-key", "pem-private-key", "pem-public-key", "binary"];
    for (number, shape) in shapes.iter().enumerate() {
        let value = shape.replace('M', MARKER).replace("CHANGE_CanaryE_", "CHANGE_ME_");
        for kind in types {
            let name = format!("S{number}_{}", kind.replace('-', "_")).to_uppercase();
            let lengths = match kind {
                "url" | "int" | "fernet-key" => "min_length = 400\n",
                "pem-private-key" | "pem-public-key" => "",
                _ => "min_length = 400\nbytes = 500\n",
            };
            config += &format!("[secrets.{name}]\ntype = '{kind}'\n{lengths}");
            fs::write(directory.path(&format!("mounts/{}", name.to_lowercase())), &value).unwrap();
            lines += &format!("{name}={value}other\n");
        }
    }
    directory.write("vault.toml", config);
    directory.write(".env", lines.replace('\0', ""));
    let mounts = directory.path("mounts");
    let mut found = 0;
    for words in [&["check"][..], &["check", "--json"], &["check", "--strict", "--env-file", ".env"]] {
        let mut command = crate::command(directory.home.path(), words);
        let ran = finish(command.env("CREDENTIALS_DIRECTORY", &mounts), b"");
        assert!(ran.code == 14 && !ran.out.contains(MARKER) && !ran.err.contains(MARKER), "{}{}", ran.out, ran.err);
        found = ran.out.lines().filter(|line| line.starts_with("failure")).count().max(found);
    }
    assert!(found >= shapes.len() * types.len(), "{found}");
}

#[test]
fn what_is_in_order_has_no_findings() {
    let pem = |command: &str| mount(&printed(command));
    let password = printed("openssl rand -base64 32");
    let encoded = password.trim_end().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let cases: Vec<Case> = vec![
        ("HEX", "type = 'hex'\nbytes = 32", mount(&printed("openssl rand -hex 32")), &[]),
        ("HEX_16", "type = 'hex'\nbytes = 16", mount(&printed("openssl rand -hex 16")), &[]),
        ("HEX_UPPER", "type = 'hex'", mount(&printed("openssl rand -hex 32").to_uppercase()), &[]),
        ("BASE64", "type = 'base64'\nbytes = 32", mount(&password), &[]),
        ("BASE64_URL", "type = 'base64'", mount(&password.replace('+', "-").replace('/', "_")), &[]),
        ("BASE64_BARE", "type = 'base64'\nbytes = 32", mount(password.trim_end().trim_end_matches('=')), &[]),
        ("FERNET", "type = 'fernet-key'", mount(&printed("openssl rand -base64 32")), &[]),
        ("TEXT", "min_length = 32", mount(&printed("openssl rand -hex 32 | tr -d '\\n'")), &[]),
        ("TEXT_CRLF", "", mount("correct-Horse7battery\r\n"), &[]),
        ("TEXT_SIGNS", "", mount("-n a$b`c$(d'e\"f#g%h\\i{j}&k"), &[]),
        ("TEXT_UNICODE", "", mount("pä$$wörter\u{1f511}-9Kx"), &[]),
        ("TEXT_JSON", "", mount("{\n  \"type\": \"service_account\",\n  \"project_id\": \"p1\"\n}\n"), &[]),
        ("TEXT_DIGITS", "", mount("83650192"), &[]),
        ("USER_NAME", "", mount("raqeem_prod"), &[]),
        ("CLIENT_ID", "", mount("1018-abc7.apps.googleusercontent.com"), &[]),
        ("INT", "type = 'int'", mount("587\n"), &[]),
        ("INT_NEGATIVE", "type = 'int'", mount("-1"), &[]),
        ("INT_DATE", "type = 'int'", mount("20260131"), &[]),
        (
            "URL",
            "type = 'url'",
            Mount(format!("postgresql://ff:{encoded}@postgres:5432/ff?sslmode=require\n").into()),
            &[],
        ),
        ("URL_PLAIN", "type = 'url'", mount("https://xkcd8.supabase.co/@me?mail=a@b"), &[]),
        ("URL_REDIS", "type = 'url'", mount("redis://:s3cr-Et_9!$&'()*+,;=@[::1]:6379/0"), &[]),
        ("URL_SQLITE", "type = 'url'", mount("sqlite:///var/lib/app.db"), &[]),
        (
            "PKCS8",
            "type = 'pem-private-key'",
            pem("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null"),
            &[],
        ),
        ("PKCS1", "type = 'pem-private-key'", pem("openssl genrsa -traditional 2048 2>/dev/null"), &[]),
        ("EC", "type = 'pem-private-key'", pem("openssl ecparam -name prime256v1 -genkey -noout"), &[]),
        ("ED25519", "type = 'pem-private-key'", pem("openssl genpkey -algorithm ed25519"), &[]),
        ("LOCKED", "type = 'pem-private-key'", pem("openssl genrsa -aes256 -passout pass:x 2048 2>/dev/null"), &[]),
        (
            "LOCKED_OLD",
            "type = 'pem-private-key'",
            pem("openssl genrsa -traditional -aes256 -passout pass:x 2048 2>/dev/null"),
            &[],
        ),
        (
            "PEM_CRLF",
            "type = 'pem-private-key'",
            mount(&printed("openssl genpkey -algorithm ed25519").replace('\n', "\r\n")),
            &[],
        ),
        ("PUBLIC", "type = 'pem-public-key'", pem("openssl genpkey -algorithm ed25519 | openssl pkey -pubout"), &[]),
        (
            "PUBLIC_RSA",
            "type = 'pem-public-key'",
            pem("openssl genrsa 2048 2>/dev/null | openssl rsa -RSAPublicKey_out 2>/dev/null"),
            &[],
        ),
        ("BINARY", "type = 'binary'\nbytes = 5", Mount(vec![0, 0xff, b'"', b' ', b'\n']), &[]),
        ("BETTER_AUTH_SECRET", "min_length = 32", mount(&printed("openssl rand -base64 32")), &[]),
        ("FROM_ENVIRONMENT", "source = 'env'", variable("q7Zk-2mmT"), &[]),
        ("KEPT", "rotate_every = '90d'", Store("in-the-store-5Rt9".to_owned()), &[]),
        ("KEPT_SAME", "", StoreAnd(b"kept-in-the-store-7Gq2\n".to_vec()), &[]),
        ("ROTATED", "rotate_every = '5000w'\nrotated = 2026-01-31", mount("m2Lp-90vBq"), &[]),
        ("OPTIONAL", "required = false", Nowhere, &[]),
    ];
    let tree = Tree::new("echo 'OTHER=plain' > .env", &cases);
    let ran = tree.vault("check --strict");
    let count = ran.out.lines().filter(|line| !line.starts_with("0 failures")).count() / 2;
    writeln!(io::stdout(), "{} secrets in order, {count} findings", cases.len()).unwrap();
    assert_eq!(ran.ok(), "0 failures, 0 warnings, 0 notes\n");
}

#[test]
fn warnings_count_where_that_is_asked_for() {
    let tree = Tree::new("", &[("A", "", variable("q7Zk-2mmT"), &[]), ("B", "", mount("changeme"), &[])]);
    tree.vault("check --only A").ok();
    assert_eq!(tree.vault("check --only A --strict").code, 14);
    assert_eq!(tree.vault("check --only B").code, 14);
    assert_eq!(tree.vault("check --only A,B").code, 14);
    tree.vault("check --only C").fails(10);
    tree.vault("check --env-file nowhere").fails(18);
    let told: Value = serde_json::from_str(&tree.vault("check --json").out).unwrap();
    assert_eq!((&told["failures"], &told["warnings"], &told["schema_version"]), (&1.into(), &1.into(), &1.into()));
}

#[test]
fn what_does_not_fit_its_declaration_is_not_set() {
    let directory = home(STORES[0]);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let declared = "[secrets.KEY]\ntype = 'hex'\nbytes = 32\n[secrets.LONG]\nmin_length = 20\n[secrets.PEM]\ntype = 'pem-private-key'\n";
    directory.write("vault.toml", format!("{config}\n{declared}"));
    for (line, value, words) in [
        ("set KEY", "Canary0123456789", "no hex digits"),
        ("set KEY -n", "Canary0123456789", "no hex digits"),
        ("set KEY", "0123456789abcdef0123456789abcdef", "32 bytes are 64 digits"),
        ("set LONG", "Canary", "at least 20 are declared"),
        ("set PEM", "0123456789abcdef", "PEM is declared"),
    ] {
        let error = directory.vault_with(line, value.as_bytes()).fails(11);
        assert!(error.contains(words) && error.contains("hint: ") && !error.contains(value), "{error}");
    }
    assert_eq!(directory.vault("list").ok(), "");
    directory.vault("set KEY --generate").ok();
    directory.vault("set LONG --generate").ok();
    directory.vault_with("set PEM", printed("openssl genpkey -algorithm ed25519").as_bytes()).ok();
    directory.vault_with("set UNDECLARED", b"anything").ok();
}

#[test]
fn the_doctor_looks_at_the_files_of_secrets() {
    let tree = Tree::new("", &[("TOKEN", "", mount("q7Zk-2mmT\n"), &[])]);
    let file = tree.directory.path("mounts/token");
    let set = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let codes = |line: &str| -> (i32, Vec<String>) {
        let ran = tree.vault(line);
        let told: Value = serde_json::from_str(&ran.out).unwrap();
        let codes = told["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "information");
        (ran.code, codes.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect())
    };
    set(&file, 0o400);
    assert_eq!(codes("doctor --json"), (0, vec![]));
    set(&file, 0o444);
    assert_eq!(codes("doctor --json"), (0, vec!["read-by-others".to_owned()]));
    assert_eq!(codes("doctor --json --require-private-files"), (21, vec!["read-by-others".to_owned()]));
    set(&file, 0o622);
    assert_eq!(codes("doctor --json"), (21, vec!["written-by-all".to_owned()]));
    set(&file, 0o400);
    set(&tree.directory.path("mounts"), 0o775);
    assert_eq!(codes("doctor --json"), (0, vec!["directory-of-group".to_owned()]));
    set(&tree.directory.path("mounts"), 0o755);
    // A directory further up, in which the one with the file can be replaced.
    set(tree.directory.home.path(), 0o777);
    tree.vault("doctor --json").fails(23);
    assert_eq!(codes("doctor --config vault.toml --json"), (21, vec!["directory-of-all".to_owned()]));
    set(tree.directory.home.path(), 0o700);
    let told: Value = serde_json::from_str(&tree.vault("doctor --json").out).unwrap();
    let notes: Vec<_> = told["findings"].as_array().unwrap().iter().map(|finding| finding["code"].clone()).collect();
    assert!(notes.contains(&"memory-not-locked".into()), "{notes:?}");
}

/// A container whose user is not the owner of a file with mode 0600.
#[test]
fn the_doctor_says_why_a_file_cannot_be_read() {
    use std::os::unix::process::CommandExt;

    let tree = Tree::new("", &[("TOKEN", "", mount("q7Zk-2mmT\n"), &[])]);
    let copy = tree.directory.path("vault-copy");
    crate::copy_binary(&copy);
    shell(&tree.directory, "chmod -R a+rX . && chmod 600 mounts/token");
    let mut command = Command::new(copy);
    command.arg("doctor").current_dir(tree.directory.home.path()).env_clear().envs(&tree.variables);
    if printed("id -u").trim() == "0" {
        command.uid(65_534).gid(65_534);
    } else {
        shell(&tree.directory, "chmod 000 mounts/token");
    }
    let ran = finish(&mut command, b"");
    let words = ["mounts/token: it belongs to user", "and this is user", "`chown`", "`user:`", "[io]"];
    assert!(ran.code == 21 && words.iter().all(|words| ran.out.contains(words)), "{ran:?}");
}

#[test]
fn the_schema_in_the_documents_is_the_one_that_is_printed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vault.schema.json");
    let printed: Value = serde_json::from_str(&Directory::new().vault("schema").ok()).unwrap();
    let committed: Value = serde_json::from_str(&fs::read_to_string(file).unwrap_or_default()).unwrap_or_default();
    assert!(printed == committed, "run: cargo run -p vault-cli -- schema > docs/vault.schema.json");
}
