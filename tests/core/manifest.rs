use std::path::Path;

use proptest::prelude::*;
use vault_core::{
    Error, Format, KeySource, KeyringKind, Kind, Manifest, Result, SecretKind, SecretName, StateLocation,
    StoreLocation, Timestamp, Trim,
};

const PATH: &str = "/etc/app/vault.toml";

#[test]
fn the_documented_example_is_read_completely() {
    let manifest = parse(EXAMPLE).unwrap();
    assert_eq!(manifest.path(), Path::new(PATH));
    assert_eq!(manifest.app(), Some("flowfile"));
    assert_eq!(manifest.nodes(), Some(3));
    assert_eq!(manifest.store().unwrap().location, StoreLocation::Sqlite("/etc/app/vault.db".into()));

    let main = manifest.keyring("main").unwrap();
    assert_eq!(main.kind, KeyringKind::Kek);
    assert_eq!(main.sources, [KeySource::File("/run/secrets/vault_kek_*".into())]);
    assert_eq!(main.state, Some(StateLocation::File("/etc/app/main.keyring.toml".into())));
    assert_eq!(main.min_generation, 7);

    let flowfile = manifest.keyring("flowfile").unwrap();
    assert_eq!(flowfile.kind, KeyringKind::Text);
    assert_eq!(flowfile.trim, Trim::Python);
    assert_eq!(flowfile.sources[0], KeySource::Secret(name("FLOWFILE_MASTER_KEY")));
    assert_eq!(flowfile.min_generation, 0);
    assert_eq!(manifest.keyrings().count(), 2);

    let secrets: Vec<_> = manifest.secrets().collect();
    assert_eq!(secrets.len(), 3);
    let (_, jwt) = secrets.iter().find(|(found, _)| **found == name("JWT_SECRET_KEY")).unwrap();
    assert_eq!(
        (jwt.kind, jwt.min_length, jwt.rotate_every, jwt.required),
        (SecretKind::Text, Some(32), Some(90), true)
    );
    assert_eq!(jwt.rotated, Timestamp::parse("2026-01-31T00:00:00Z"));
    let (_, hex) = secrets.iter().find(|(found, _)| **found == name("ENCRYPTION_KEY")).unwrap();
    assert_eq!((hex.kind, hex.bytes), (SecretKind::Hex, Some(32)));

    let column = manifest.column("flowfile.secrets").unwrap();
    assert_eq!(column.database, "/app/internal_storage/database/flowfile_catalog.db".into());
    assert_eq!((column.table.as_str(), column.value.as_str()), ("secrets", "encrypted_value"));
    assert_eq!((column.row.as_slice(), column.member.as_deref()), (["id".to_owned()].as_slice(), None));
    assert_eq!(column.reads, [Format::FlowfileV1, Format::FlowfileLegacyMaster]);
    assert_eq!(column.writes, Format::FlowfileV1);
    assert_eq!((column.keyring.as_str(), column.reads_keyring.as_deref()), ("flowfile", None));
    assert_eq!(column.context.columns(), ["name", "user_id"]);
    assert_eq!((column.filter.as_deref(), column.immutable, column.linked), (None, false, false));
    assert_eq!(manifest.columns().len(), 1);
}

#[test]
fn a_profile_changes_what_it_names() {
    let manifest = Manifest::parse(EXAMPLE, Path::new(PATH), Some("staging")).unwrap();
    let (_, jwt) = manifest.secrets().find(|(found, _)| **found == name("JWT_SECRET_KEY")).unwrap();
    assert_eq!((jwt.required, jwt.min_length), (false, Some(32)));

    let error = Manifest::parse(EXAMPLE, Path::new(PATH), Some("production")).unwrap_err();
    assert_eq!(error.to_string(), "/etc/app/vault.toml: no profile \"production\" is declared");
    let error = parse("version = 1\n[profiles.p.secrets.A]\ntype = \"x\"").unwrap_err();
    assert!(error.to_string().starts_with("/etc/app/vault.toml:3:8: unknown type; known are base64,"), "{error}");
}

#[test]
fn items_of_the_os_keyring_have_a_service_and_an_account() {
    let text = "version = 1\n[keyring.main]\nsources = ['keyring:app/main/2']\n[secrets.A]\nkeyring = 'app/a'\n\
        [profiles.p.secrets.A]\npath = '/a'";
    let manifest = parse(text).unwrap();
    let [KeySource::OsKeyring(item)] = manifest.keyring("main").unwrap().sources.as_slice() else { panic!() };
    assert_eq!((item.service.as_str(), item.account.as_str()), ("app", "main/2"));
    assert_eq!(item.to_string(), "OS keyring app/main/2");
    let (_, secret) = manifest.secrets().next().unwrap();
    assert_eq!(secret.keyring.as_ref().unwrap().account, "a");
    // A profile that says how the secret is found replaces that.
    let manifest = Manifest::parse(text, Path::new(PATH), Some("p")).unwrap();
    let (_, secret) = manifest.secrets().next().unwrap();
    assert_eq!((secret.keyring.is_none(), secret.path.is_some()), (true, true));
}

#[test]
fn columns_find_their_keyrings() {
    let manifest =
        parse(&column("reads = ['flowfile-v1', 'plaintext']\nwrites = 'vs1'\nreads_keyring = 'text'")).unwrap();
    let column = manifest.column("c").unwrap();
    assert_eq!(
        column.reads,
        [Format::Vs1, Format::FlowfileV1, Format::Plaintext],
        "tokens are read where they are written"
    );
    assert_eq!(column.keyring, "main");
    assert_eq!(manifest.keyring_for(column, Format::Vs1).unwrap().name, "main");
    assert_eq!(manifest.keyring_for(column, Format::Fernet).unwrap().name, "text");
    assert_eq!(manifest.keyring_for(column, Format::Plaintext).unwrap_err().kind(), Kind::Config);

    let text = self::column(
        "reads = ['flowfile-v1', 'vs1']\nwrites = 'flowfile-v1'\nkeyring = 'text'\nreads_keyring = 'other'",
    );
    let manifest = parse(&text).unwrap();
    let column = manifest.column("c").unwrap();
    assert_eq!(manifest.keyring_for(column, Format::Vs1).unwrap().name, "other");
    assert_eq!(manifest.keyring_for(column, Format::FlowfileV1).unwrap().name, "text");
    assert_eq!(manifest.keyring("text").unwrap().trim, Trim::Python);
    assert_eq!(manifest.keyring("main").unwrap().trim, Trim::LineBreak);

    assert_eq!(manifest.column("d").unwrap_err().to_string(), "column d not found");
    let error = manifest.keyring("d").unwrap_err();
    assert_eq!(error.to_string(), "/etc/app/vault.toml: no [keyring.d] is declared; declared are: main, other, text");
}

#[test]
fn contexts_have_extra_pairs_and_may_be_empty_on_purpose() {
    let text = |context: &str| COLUMN.replace("context = {}", context) + "reads = ['vs1']\nwrites = 'vs1'";
    let manifest = parse(&text("context = { purpose = 'p', extra = { region = '{r}' }, extra.zone = '{z}' }"));
    assert!(manifest.is_err(), "an inline table is closed");
    let manifest = parse(&text("context = { purpose = 'p', extra = { region = '{r}', zone = '{z}' } }")).unwrap();
    assert_eq!(manifest.column("c").unwrap().context.columns(), ["r", "z"]);
    assert!(parse(&text("context = {}")).unwrap().column("c").unwrap().context.is_empty());
    let error = parse(&text("")).unwrap_err();
    assert!(error.to_string().ends_with("\"context\" is missing"), "{error}");
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    let formats = "face-column, face-json, face-json-double, fernet, flowfile-legacy-master, flowfile-legacy-user, flowfile-store, \
                   flowfile-v1, plaintext, social-cbc-legacy, social-gcm16, social-v1, vs1";
    let at = |rest: &str, place: &str, reason: &str| (column(rest), place.to_owned(), reason.to_owned());
    let top =
        |text: &str, place: &str, reason: &str| (format!("version = 1\n{text}"), place.to_owned(), reason.to_owned());
    let keyring = |text: &str, place: &str, reason: &str| top(&format!("[keyring.main]\n{text}"), place, reason);
    let good = column("reads = ['vs1']\nwrites = 'vs1'");
    let cases = [
        ("version = 2".to_owned(), ":1:11".to_owned(), "this release reads `version = 1` only".to_owned()),
        ("app = 1".to_owned(), ":1:1".to_owned(), "unknown field \"app\"; did you mean".to_owned()),
        ("[vault]".to_owned(), ":1:1".to_owned(), "\"version\" is missing".to_owned()),
        top("[vault]\nnodes = 0", ":3:9", "`nodes` counts the processes that hold keys"),
        top("[vault]\npreset = 'python'", ":3:10", "unknown preset; known are docker-library, face, flowfile-core"),
        top("[secrets.A]\npreset = 'python'", ":3:10", "unknown preset; known are docker-library, face, flowfile-core"),
        top("[vault]\nstack = 'a/b'", ":3:9", "a stack's name is at most 64 letters"),
        top(
            "[keyring.main]\nsources = ['secret:A']\n[secrets.A]\ndefault = 'x'",
            ":4:10",
            "a keyring takes its key from this secret, and a key has no `default`",
        ),
        top("[vault]\nnodes = 'three'", ":3:9", "the value is of another type than this field has"),
        top("[store]\nurl = 'secret:DATABASE URL'", ":3:7", "a secret's name is"),
        top("[store]\nurl = 'postgresql://u:p@h/d'", ":3:7", "a password does not belong here"),
        top("[store]\nurl = 'postgresql://u@h/d?require_auth=x'", ":3:7", "require_auth is not kept here"),
        top("[store]\nurl = 'sqlite://'", ":3:7", "it is a database in memory"),
        top("[store]\nurl = 'x'", ":3:7", "it is none of"),
        keyring("sources = []", ":3:11", "no source is given"),
        keyring(
            "sources = ['x']",
            ":3:12",
            "a source is \"file:PATH\", \"secret:NAME\" or \"keyring:SERVICE/ACCOUNT\"",
        ),
        keyring("sources = ['keyring:x']", ":3:12", "an item of the OS keyring is SERVICE/ACCOUNT"),
        keyring("sources = ['keyring:/x']", ":3:12", "an item of the OS keyring is SERVICE/ACCOUNT"),
        keyring("sources = ['keyring:x/']", ":3:12", "an item of the OS keyring is SERVICE/ACCOUNT"),
        keyring("sources = ['file:']", ":3:12", "the path is empty"),
        keyring("sources = ['file:/a*/b']", ":3:12", "only the file name of a source may have * or ?"),
        keyring("sources = ['secret:a b']", ":3:12", "a secret's name is letters"),
        keyring("kind = 'x'\nsources = ['file:a']", ":3:8", "the kinds are \"kek\" and \"text\""),
        keyring("kind = 'text'\nsources = ['file:a']", ":3:8", "[keyring.main] seals tokens and is of kind \"kek\""),
        keyring(
            "sources = ['file:a']\nrequire_backup = true",
            ":4:18",
            "verified backups of keys are not supported by this build",
        ),
        keyring(
            "sources = ['file:a']\nstate = 'store'",
            ":4:9",
            "states are in the database of a [store], and none is declared",
        ),
        keyring("sources = ['file:a']\nmin_generation = -1", ":4:18", "the value is outside of what this field takes"),
        keyring(
            "sources = ['file:a']\nmin_generations = 1",
            ":4:1",
            "unknown field \"min_generations\"; did you mean \"min_generation\"?",
        ),
        top("[keyring.'a b']\nsources = ['file:a']", ":2:10", "a keyring's name is"),
        top(
            "[keyring.a]\nsources = ['file:a']\nstate = 's'\n[keyring.b]\nsources = ['file:b']\nstate = './s'",
            ":7:9",
            "another keyring has the same state file",
        ),
        top("[secrets.'a b']", ":2:10", "a secret's name is letters"),
        top("[secrets.'a.b']\n[secrets.A_B]", ":2:10", "another secret has the same environment variable"),
        top("[secrets.A]\n[secrets.A_FILE]", ":3:10", "another secret has the same environment variable"),
        top("[secrets.A]\npath = 'a'\ncomposed = 'b'", ":3:8", "`path` and `composed` exclude each other"),
        top("[secrets.A]\nkey_of = 'none'", ":3:10", "no [keyring] of this name is declared"),
        top("[secrets.A]\nkey_of = 'a'\npath = 'b'", ":3:10", "`key_of` and `path` exclude each other"),
        top("[secrets.A]\nkey_of = 'a'\ncomposed = 'b'", ":3:10", "`key_of` and `composed` exclude each other"),
        top("[secrets.A]\nkey_of = 'a'\ndefault = 'b'", ":3:10", "`key_of` and `default` exclude each other"),
        top("[secrets.A]\nkey_of = 'a'\nkeyring = 'b/c'", ":3:10", "`key_of` and `keyring` exclude each other"),
        top(
            "[keyring.a]\nsources = ['secret:A']\n[secrets.A]\nkey_of = 'a'",
            ":5:10",
            "a keyring takes its key from this secret, which cannot",
        ),
        top("[secrets.A]\n[secrets.A]", ":3:10", "this table or field is written a second time"),
        top("[secrets.A]\nkeyring = 'a'", ":3:11", "an item of the OS keyring is SERVICE/ACCOUNT"),
        top("[secrets.A]\npath = 'a'\nkeyring = 'a/b'", ":4:11", "`keyring` is never asked beside `path`"),
        top("[secrets.A]\nsource = 'file:a'", ":3:10", "the only `source` is \"env\""),
        top("[secrets.A]\nrotate_every = '3 months'", ":3:16", "it is not a number of days or weeks"),
        top("[secrets.A]\nrotated = 07:32:00", ":3:11", "it is not a date like 2026-01-31"),
        top("[secrets.A]\ncomposed = '{B}'\n[secrets.B]\ncomposed = 'x{A}'", ":3:12", "it is composed of itself"),
        top("[secrets.A]\ncomposed = '{B'", ":3:12", "a brace is not closed"),
        at("reads = []\nwrites = 'vs1'", ":17:9", "`reads` lists no format"),
        at("reads = ['vs2']\nwrites = 'vs1'", ":17:10", &format!("unknown format; known are {formats}")),
        at(
            "reads = ['plaintext', 'vs1']\nwrites = 'vs1'",
            ":17:23",
            "\"plaintext\" fits every value, so it is the last of `reads`",
        ),
        at("reads = ['vs1', 'vs1']\nwrites = 'vs1'", ":17:17", "the format is listed twice"),
        at("reads = ['plaintext']\nwrites = 'plaintext'", ":18:10", "\"plaintext\" is read only"),
        at(
            "reads = ['social-cbc-legacy']\nwrites = 'social-cbc-legacy'",
            ":18:10",
            "\"social-cbc-legacy\" is read only",
        ),
        at("reads = ['fernet']\nwrites = 'social-v1'\nkeyring = 'text'", ":18:10", "what is written must be read too"),
        at("reads = ['fernet']\nwrites = 'fernet'", ":18:10", "`keyring` is missing"),
        at(
            "reads = ['fernet']\nwrites = 'fernet'\nkeyring = 'main'",
            ":19:11",
            "`keyring` must name a keyring of kind \"text\"",
        ),
        at(
            "reads = ['vs1']\nwrites = 'vs1'\nkeyring = 'text'",
            ":19:11",
            "`keyring` must name a keyring of kind \"kek\"",
        ),
        at("reads = ['vs1']\nwrites = 'vs1'\nkeyring = 'none'", ":19:11", "no [keyring] of this name is declared"),
        at(
            "reads = ['vs1']\nwrites = 'vs1'\nreads_keyring = 'none'",
            ":19:17",
            "no [keyring] of this name is declared",
        ),
        at(
            "reads = ['vs1']\nwrites = 'vs1'\nreads_keyring = 'other'",
            ":19:17",
            "`reads_keyring` is of the same kind as `keyring`",
        ),
        at("reads = ['fernet']\nwrites = 'vs1'", ":17:10", "a legacy format needs a keyring of kind \"text\""),
        at(
            "reads = ['fernet', 'social-v1']\nwrites = 'fernet'\nkeyring = 'text'",
            ":17:9",
            "its formats trim key texts differently than others of the same keyring",
        ),
        at(
            "reads = ['vs1']\nwrites = 'vs1'\nmember = 'a\"b'",
            ":19:10",
            "a member's name is not empty and has no quote",
        ),
        at(
            "reads = ['vs1']\nwrites = 'vs1'\nfiltre = ''",
            ":19:1",
            "unknown field \"filtre\"; did you mean \"filter\"?",
        ),
        (good.replace("row = ['id']", "row = ['id', 'v']"), ":14:14".to_owned(), "it is named twice".to_owned()),
        (good.replace("row = ['id']", "row = []"), ":14:7".to_owned(), "`row` names no column".to_owned()),
        (good.replace("{}", "{ tenant = '{' }"), ":16:22".to_owned(), "a brace is not closed".to_owned()),
        (
            good.replace("{}", "{ tenant = '{v}' }"),
            ":16:11".to_owned(),
            "the context is made of the value itself".to_owned(),
        ),
        (
            good.replace("{}", "{ owner = 'x' }"),
            ":16:13".to_owned(),
            "unknown field \"owner\"; did you mean".to_owned(),
        ),
        (good.replace("sqlite:", "mysql:"), ":12:12".to_owned(), "it is none of \"sqlite:PATH\"".to_owned()),
        (good.replace("name = 'c'", "name = 'a b'"), ":11:8".to_owned(), "a column's name is".to_owned()),
        (
            format!("{good}\n{}", &good[good.find("[[column]]").unwrap()..]),
            ":20:8".to_owned(),
            "another column has the same name".to_owned(),
        ),
    ];
    for (text, place, reason) in cases {
        let Err(error) = parse(&text) else { panic!("accepted:\n{text}") };
        let expected = format!("{PATH}{place}: {reason}");
        assert!(error.to_string().starts_with(&expected), "{text}\nexpected {expected}\ngot      {error}");
        assert_eq!(error.kind(), Kind::Config);
    }
}

#[test]
fn without_a_main_keyring_tokens_have_no_key() {
    let text = column("reads = ['vs1']\nwrites = 'vs1'").replace("[keyring.main]", "[keyring.third]");
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(error, "/etc/app/vault.toml:18:10: [keyring.main] is not declared, and no other `keyring` is named");
    assert!(parse(&(text + "\nkeyring = 'other'")).is_ok());
}

#[test]
fn a_new_key_goes_where_a_source_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vault.toml");
    let spec = |sources: &str| {
        let text = format!("version = 1\n[keyring.main]\nsources = [{sources}]");
        Manifest::parse(&text, &path, None).unwrap().keyring("main").unwrap().clone()
    };
    let at = |name: &str| directory.path().join(name);

    let pattern = spec("'file:vault_kek_*'");
    assert_eq!(
        pattern.destination(Path::new("/tmp/vault_kek_b"), "x").unwrap(),
        at("vault_kek_b"),
        "under its own name"
    );
    assert_eq!(pattern.destination(Path::new("/tmp/new.key"), "2026-02").unwrap(), at("vault_kek_2026-02"));
    assert_eq!(spec("'file:*'").destination(Path::new("/tmp/.new"), "x").unwrap(), at("x"));

    let both = spec("'file:one', 'file:kek_*'");
    assert_eq!(both.destination(Path::new("k"), "x").unwrap(), at("kek_x"), "patterns come first");

    let named = spec("'file:one'");
    assert_eq!(named.destination(Path::new("k"), "x").unwrap(), at("one"));
    std::os::unix::fs::symlink("nowhere", at("one")).unwrap();
    for full in [&named, &spec("'secret:NAME'"), &spec("'file:kek_?'"), &spec("'file:.kek_*'")] {
        let error = full.destination(Path::new("k"), "x").unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(text.contains("add one with a pattern"), "{text}");
        assert!(text.starts_with(&format!("{}: ", path.display())), "the file that declares it: {text}");
    }
    let error = pattern.destination(Path::new("k"), "../x").unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "a new key stays in the source's directory");
}

#[test]
fn files_are_loaded_up_to_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vault.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let manifest = Manifest::load(&path, None).unwrap();
    assert_eq!(
        manifest.keyring("main").unwrap().state,
        Some(StateLocation::File(path.canonicalize().unwrap().with_file_name("main.keyring.toml")))
    );

    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(Manifest::load(&path, None).unwrap_err().kind(), Kind::TooLarge);
    std::fs::write(&path, b"version = 1 # \xff").unwrap();
    assert_eq!(Manifest::load(&path, None).unwrap_err().kind(), Kind::Config);
    assert_eq!(Manifest::load(&directory.path().join("none"), None).unwrap_err().kind(), Kind::Io);
}

#[test]
fn a_length_is_declared_only_where_it_is_compared() {
    let told = |kind: &str, length: &str| {
        let text = format!("version = 1\n[secrets.X]\ntype = \"{kind}\"\n{length}\n");
        parse(&text).err().map(|error| error.to_string())
    };
    for kind in SecretKind::ALL {
        let name = kind.as_str();
        let has_bytes = ["base64", "binary", "hex", "text"].contains(&name);
        assert_eq!(told(name, "bytes = 32").is_none(), has_bytes, "{name}");
        assert_eq!(told(name, "min_length = 32").is_none(), !name.starts_with("pem-"), "{name}");
    }
    let place = format!("{PATH}:4:9: `bytes` says nothing of the type url; leave it out");
    assert_eq!(told("url", "bytes = 32"), Some(place));
}

#[test]
fn debug_shows_no_default() {
    let text = format!("version = 1\n[secrets.A]\ndefault = '{MARKER}'\n[secrets.B]\ncomposed = 'x://u:{MARKER}@h'");
    assert!(!format!("{:?}", parse(&text).unwrap()).contains(MARKER));
}

#[test]
fn no_error_repeats_a_value() {
    // The value of each field of the example in turn, in every kind of writing.
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut refused = 0;
    for at in 0..lines.len() {
        let Some((field, _)) = lines[at].split_once('=') else { continue };
        for value in [
            format!("\"{MARKER}\""),
            format!("\"x`{MARKER}`, expected one of `{MARKER}`\""),
            format!("\"a`b`{MARKER}\""),
            format!("\"file:{MARKER}/*/x\""),
            format!("\"postgresql://u:{MARKER}@h\""),
            format!("[\"{MARKER}\"]"),
            format!("[\"secret:{MARKER} \"]"),
            format!("{{ tenant = \"{{{MARKER}\" }}"),
            format!("{{ \"{MARKER} x\" = 1 }}"),
            format!("\"{MARKER}"),
            format!("\"\\{MARKER}\""),
            MARKER.to_owned(),
            format!("1{MARKER}"),
        ] {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[at] = format!("{field}= {value}");
            if let Err(error) = parse(&changed.join("\n")) {
                refused += 1;
                assert_silent(&error, &changed[at]);
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_or_talk(before in "(?s).{0,60}", after in "(?s).{0,60}", cut in 0..EXAMPLE.len()) {
        let cut = (0..=cut).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap();
        let (start, end) = EXAMPLE.split_at(cut);
        for text in [format!("{before}\"{MARKER}\"{after}"), format!("{start}{before} {MARKER} {after}{end}")] {
            if let Err(error) = parse(&text) {
                assert_silent(&error, &text);
            }
        }
    }

    #[test]
    fn no_value_makes_the_parser_panic_or_talk(value in "(?s).{0,20}", line in 0..80_usize) {
        let lines: Vec<&str> = EXAMPLE.lines().collect();
        let at = line % lines.len();
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        if let Some((field, _)) = lines[at].split_once('=') {
            let value = format!("{value}{MARKER}{value}").replace(['"', '\\'], "`").replace(|c: char| c.is_control(), " ");
            changed[at] = format!("{field}= \"{value}\"");
        }
        if let Err(error) = parse(&changed.join("\n")) {
            assert_silent(&error, &changed[at]);
        }
    }
}

fn assert_silent(error: &Error, text: &str) {
    let told = format!("{error} {error:?} {:?}", error.hint());
    assert!(!told.contains(MARKER), "{text}\n{told}");
}

fn parse(text: &str) -> Result<Manifest> {
    Manifest::parse(text, Path::new(PATH), None)
}

fn name(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

/// A column with its last fields.
fn column(rest: &str) -> String {
    format!("{COLUMN}{rest}")
}

const COLUMN: &str = "version = 1
[keyring.main]
sources = ['file:main']
[keyring.other]
sources = ['file:other']
[keyring.text]
kind = 'text'
sources = ['file:text']

[[column]]
name = 'c'
database = 'sqlite:app.db'
table = 't'
row = ['id']
value = 'v'
context = {}
";

const MARKER: &str = "MarkerOfAValue";

pub(crate) const EXAMPLE: &str = r#"version = 1

[vault]
app = "flowfile"
preset = "strict"
nodes = 3

[keyring.main]                        # 32-byte master keys; seals vs1
sources = ["file:/run/secrets/vault_kek_*"]          # a glob; ids are computed, names do not matter
state = "main.keyring.toml"           # absent: exactly one key may be loaded, and it is primary
min_generation = 7
require_backup = false

[keyring.flowfile]                    # key texts of a legacy format
kind = "text"
sources = ["secret:FLOWFILE_MASTER_KEY", "file:/run/secrets/flowfile_master_key_*"]
state = "flowfile.keyring.toml"

[store]
url = "sqlite:vault.db"

[secrets.JWT_SECRET_KEY]
type = "text"                         # text url int hex base64 fernet-key pem-private-key pem-public-key binary
min_length = 32
rotate_every = "90d"                  # counted from the store's version, or from `rotated = 2026-01-31`
rotated = 2026-01-31
required = true                       # the default

[secrets.ENCRYPTION_KEY]
type = "hex"
bytes = 32

[secrets.DATABASE_URL]
type = "url"
composed = "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgres:5432/app"   # parts are percent-encoded

[profiles.staging.secrets.JWT_SECRET_KEY]   # --profile staging
required = false

[[column]]
name = "flowfile.secrets"
database = "sqlite:/app/internal_storage/database/flowfile_catalog.db"
table = "secrets"
row = ["id"]                          # what identifies a row
value = "encrypted_value"             # `member = "refresh_token"` names a member of a JSON column
reads = ["flowfile-v1", "flowfile-legacy-master"]    # in this order, after a check of the syntax
writes = "flowfile-v1"                # "vs1" once every reader links the library
keyring = "flowfile"                  # of `writes`; `reads_keyring` where reading needs another
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret" }
filter = ""                           # SQL condition
immutable = false                     # true: rows may never be updated; their old key stays
linked = false                        # true: every process that reads the column uses this library
"#;
