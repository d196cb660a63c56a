//! Names keep their case, two names never become one in silence, and what is delivered under
//! another spelling is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::store::home;
use crate::{Directory, Ran, command, finish};

const STORE: &str = "file:vault.store.toml";
const DIALECTS: [&str; 5] = ["dotenv-python", "dotenv-node", "node-env-file", "docker-env", "shell"];

/// A command with systemd's variable for a directory of credentials.
fn with_credentials(directory: &Directory, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = command(directory.home.path(), &words);
    finish(command.env("CREDENTIALS_DIRECTORY", directory.path("credentials")), b"")
}

#[test]
fn what_is_imported_is_delivered_and_exported_under_its_name() {
    let names = ["TF_VAR_db_password", "http_proxy", "NPM_CONFIG__auth", "UPPER"];
    let text: String = names.map(|name| format!("{name}='of {name}'\n")).concat();
    for declared in [false, true] {
        let directory = home(STORE);
        if declared {
            let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
            let declarations = names.map(|name| format!("[secrets.{name}]\n")).concat();
            directory.write("vault.toml", format!("{config}\n{declarations}"));
        }
        directory.write("a.env", &text);
        directory.vault("import a.env").ok();
        let script = names.map(|name| format!("echo \"${name}\"")).join(";");
        for flags in ["", "--mask"] {
            let only = names.join(",");
            let mut run = command(directory.home.path(), &["run", "--only", &only]);
            let told = finish(run.args(flags.split_whitespace()).args(["--", "sh", "-c", &script]), b"").ok();
            let expected =
                names.map(|name| if flags.is_empty() { format!("of {name}\n") } else { format!("[{name}]\n") });
            assert_eq!(told, expected.concat());
        }
        for dialect in DIALECTS {
            let out = directory.vault(&format!("export --format {dialect}")).ok();
            let mut found: Vec<_> = out.lines().filter_map(|line| line.split('=').next()).collect();
            found.iter_mut().for_each(|name| *name = name.trim_start_matches("export "));
            found.sort_unstable();
            let mut expected = names.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{dialect}");
        }
        for shape in ["json", "dir"] {
            directory.vault(&format!("export --format {shape} --out {shape}")).ok();
            // Into the same store, and nothing is there twice.
            directory.vault(&format!("import {shape} --format {shape}")).ok();
            assert_eq!(directory.vault("list").ok().lines().count(), names.len(), "{shape}");
        }
    }
}

#[test]
fn two_names_that_would_become_one_are_refused_by_every_writer() {
    let directory = home(STORE);
    for (name, value) in [("my-key", "third"), ("my.key", "fourth")] {
        directory.vault_with(&format!("set {name}"), value.as_bytes()).ok();
    }
    for dialect in DIALECTS {
        let told = directory.vault(&format!("export --format {dialect} --out {dialect}.env")).fails(2);
        assert!(told.contains("my-key") && told.contains("my.key") && told.contains("MY_KEY"), "{told}");
        assert!(!directory.path(&format!("{dialect}.env")).exists());
    }
    for flags in ["", "--files", "--mask"] {
        let told = directory.vault(&format!("run --only my-key,my.key {flags} -- touch started")).fails(2);
        assert!(told.contains("MY_KEY"), "{told}");
    }
    assert!(!directory.path("started").exists());

    // Two variables, and one file name.
    let directory = home(STORE);
    directory.write("a.env", "DUP=first\ndup=second\n");
    directory.vault("import a.env").ok();
    assert_eq!(directory.vault("export --format shell").ok(), "export DUP='first'\nexport dup='second'\n");
    directory.vault("export --format dir --out all").fails(2);
    let script = "cat $DUP_FILE $dup_FILE";
    let mut run = command(directory.home.path(), &["run", "--only", "DUP,dup", "--files", "--", "sh", "-c", script]);
    assert_eq!(finish(&mut run, b"").ok(), "firstsecond");

    let directory = Directory::new();
    directory.write("a.env", "DUP=first\ndup=second\n");
    let told = directory.vault("init --import a.env").fails(2);
    assert!(told.contains("dup and DUP"), "{told}");
    assert!(!directory.path("vault.toml").exists() && !directory.path("keys").exists());
}

#[test]
fn a_file_of_small_letters_is_a_secret_of_capitals_and_that_is_told() {
    let directory = home(STORE);
    fs::create_dir_all(directory.path("in/a")).unwrap();
    directory.write("in/a/b", "one");
    directory.write("in/Mixed_case", "two");
    let told = directory.vault("import in");
    assert!(told.err.contains("in/a/b is secret A/B") && !told.err.contains("Mixed"), "{told:?}");
    assert_eq!(directory.vault("list").ok(), "A/B\nMixed_case\n");

    let directory = home(STORE);
    directory.vault_with("set a/b", b"one").ok();
    directory.vault("export --format dir --out all").ok();
    assert_eq!(directory.vault("import all").ok(), "0 secrets set, 1 unchanged\n");
}

#[test]
fn a_delivered_file_is_found_as_its_name_is_spelled() {
    let directory = home(STORE);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", format!("{config}\n[secrets.DB_PASSWORD]\n"));
    directory.vault_with("set DB_PASSWORD", b"an older value").ok();
    fs::create_dir(directory.path("credentials")).unwrap();

    directory.write("credentials/DB_PASSWORD", "delivered");
    assert_eq!(with_credentials(&directory, "get DB_PASSWORD").ok(), "delivered");
    directory.write("credentials/db_password", "delivered");
    assert_eq!(with_credentials(&directory, "get DB_PASSWORD").ok(), "delivered");

    // Two of them that differ: nobody can know which is meant.
    directory.write("credentials/db_password", "another");
    for line in ["get DB_PASSWORD", "get DB_PASSWORD --explain", "run -- true"] {
        let told = with_credentials(&directory, line).fails(16);
        assert!(told.contains("credentials/DB_PASSWORD has another content"), "{told}");
    }
    for (line, code) in [("check", 14), ("doctor", 21)] {
        let told = with_credentials(&directory, line);
        assert_eq!(told.code, code);
        assert!(told.out.contains("credentials/DB_PASSWORD has another content"), "{told:?}");
    }
    fs::remove_file(directory.path("credentials/DB_PASSWORD")).unwrap();
    fs::remove_file(directory.path("credentials/db_password")).unwrap();

    for other in ["Db_Password", "db-password", "DB.PASSWORD"] {
        // Alone, it would be passed over for an older value.
        let path = format!("credentials/{other}");
        directory.write(&path, "delivered");
        for line in ["get DB_PASSWORD", "get DB_PASSWORD --explain", "run -- true"] {
            let told = with_credentials(&directory, line).fails(16);
            assert!(told.contains(&path) && told.contains("in another spelling"), "{told}");
        }
        for (line, code) in [("check", 14), ("doctor", 21)] {
            let told = with_credentials(&directory, line);
            assert_eq!(told.code, code);
            assert!(told.out.contains(&path), "{told:?}");
        }
        // Beside the one that is read, it is told.
        directory.write("credentials/db_password", "read");
        let told = with_credentials(&directory, "get DB_PASSWORD");
        assert!(told.out == "read" && told.err.contains(&path), "{told:?}");
        for line in ["get DB_PASSWORD --explain", "check", "doctor"] {
            let told = with_credentials(&directory, line);
            assert!(told.out.contains(&path), "{line}: {told:?}");
        }
        fs::remove_file(directory.path("credentials/db_password")).unwrap();
        fs::remove_file(directory.path(&path)).unwrap();
    }
}

#[test]
fn a_variable_is_found_as_its_name_is_spelled_or_in_capitals() {
    let directory = Directory::new();
    directory.write("vault.toml", "version = 1\n[secrets.db_password]\n");
    let get = |variables: &[(&str, &str)]| {
        let mut command = command(directory.home.path(), &["get", "db_password"]);
        finish(command.envs(variables.iter().copied()), b"")
    };
    assert_eq!(get(&[("db_password", "own")]).ok(), "own");
    assert_eq!(get(&[("DB_PASSWORD", "capitals")]).ok(), "capitals");
    let both = get(&[("db_password", "own"), ("DB_PASSWORD", "capitals")]);
    assert!(both.out == "own" && both.err.contains("environment DB_PASSWORD"), "{both:?}");
    directory.write("file", "of a file");
    assert_eq!(get(&[("DB_PASSWORD_FILE", "file")]).ok(), "of a file");
    assert_eq!(get(&[("db_password_FILE", "file")]).ok(), "of a file");
    get(&[("db_password", "own"), ("DB_PASSWORD_FILE", "file")]).fails(16);
    let absent = get(&[]).fails(10);
    assert!(absent.contains("environment db_password or DB_PASSWORD"), "{absent}");
}

#[test]
fn a_key_of_openssh_keeps_its_last_line_break() {
    let directory = home(STORE);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.path("id"));
    finish(&mut keygen, b"").ok();
    let key = fs::read_to_string(directory.path("id")).unwrap();
    assert!(key.ends_with("-----\n"));
    directory.vault("set FROM_FILE --from-file id").ok();
    directory.vault_with("set FROM_INPUT", key.as_bytes()).ok();
    fs::create_dir(directory.path("in")).unwrap();
    directory.write("in/from_directory", &key);
    directory.vault("import in").ok();
    let token = directory.vault_with("seal --key-file keys/vault_kek_1 --no-context", key.as_bytes()).ok();
    let opened = directory.vault_with("open --key-file keys/vault_kek_1 --no-context", token.as_bytes()).ok();
    assert_eq!(opened, key);
    directory.vault("export --format dir --out out").ok();
    for name in ["FROM_FILE", "FROM_INPUT", "FROM_DIRECTORY"] {
        assert_eq!(directory.vault(&format!("get {name}")).ok(), key, "{name}");
        assert_eq!(fs::read_to_string(directory.path("out").join(name.to_lowercase())).unwrap(), key, "{name}");
        let script = format!("ssh-keygen -y -P '' -f \"${name}_FILE\"");
        let mut run = command(directory.home.path(), &["run", "--only", name, "--files", "--", "sh", "-c", &script]);
        assert!(finish(&mut run, b"").ok().starts_with("ssh-ed25519 "), "{name}");
    }
    // A file that nobody imported is read by the same rule.
    let mut get = command(directory.home.path(), &["get", "MOUNTED"]);
    assert_eq!(finish(get.env("MOUNTED_FILE", "id"), b"").ok(), key);
}

#[test]
fn the_configuration_of_a_stranger_is_used_only_where_it_is_named() {
    let directory = Directory::new();
    let outer = directory.path("shared");
    fs::create_dir_all(directory.path("shared/own")).unwrap();
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(directory.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let owner = |name: &str, user: Option<u32>| std::os::unix::fs::chown(directory.path(name), user, None).unwrap();
    mode("", 0o755);
    mode("shared", 0o755);
    mode("shared/own", 0o700);
    directory
        .write("shared/vault.toml", "version = 1\n[vault]\napp = \"shop\"\n[secrets.A]\ndefault = \"of the file\"\n");
    let inner = directory.path("shared/own");
    let get = |arguments: &[&str]| finish(command(&inner, &["get", "A"]).args(arguments), b"");
    assert_eq!(get(&[]).ok(), "of the file");

    let named = outer.join("vault.toml").display().to_string();
    let refused = |why: &str| {
        let told = get(&[]).fails(23);
        assert!(told.contains("vault.toml was found and not named") && told.contains(why), "{told}");
        assert!(told.contains(&format!("--config {named}")), "{told}");
        let mut run = command(&inner, &["run", "--", "touch", "started"]);
        finish(&mut run, b"").fails(23);
        assert!(!inner.join("started").exists());
        assert_eq!(get(&["--config", &named]).ok(), "of the file");
        let mut by_variable = command(&inner, &["get", "A"]);
        assert_eq!(finish(by_variable.env("VAULT_CORE_CONFIG", &named), b"").ok(), "of the file");
    };
    owner("shared/vault.toml", Some(65_534));
    refused("belongs to user 65534");
    owner("shared/vault.toml", Some(0));
    for open in [0o1777, 0o777, 0o757] {
        mode("shared", open);
        refused("other users can put files into");
    }
    mode("shared", 0o755);
    mode("shared/vault.toml", 0o666);
    refused("other users can change");
    mode("shared/vault.toml", 0o644);
    owner("shared", Some(65_534));
    refused("belongs to user 65534");
    owner("shared", Some(0));
    assert_eq!(get(&[]).ok(), "of the file");

    let told = finish(&mut command(&inner, &["--which-config"]), b"").ok();
    assert_eq!(told, format!("{named}\napplication shop\n"));
}

#[test]
fn a_declaration_alone_decides_about_no_code() {
    let directory = Directory::new();
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "NODE_OPTIONS", "PYTHONPATH", "PERL5OPT", "GLIBC_TUNABLES"] {
        directory.write("vault.toml", format!("version = 1\n[secrets.{name}]\ndefault = \"/bin:/usr/bin\"\n"));
        let told = directory.vault("run -- touch started").fails(23);
        assert!(told.contains(name) && told.contains("--only"), "{told}");
        assert!(!directory.path("started").exists());
    }
    directory.write("vault.toml", "version = 1\n[secrets.PATH]\ndefault = \"/bin:/usr/bin\"\n");
    directory.vault("run --only PATH -- touch started").ok();
    assert!(directory.path("started").exists());
}

#[test]
fn a_question_says_which_configuration_it_is_about() {
    let directory = home(STORE);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", config.replace("[vault]", "[vault]\napp = \"shop\""));
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{} set A", crate::binary().display()), "/dev/null"]);
    let told = finish(script.current_dir(directory.home.path()), b"a value\na value\n").ok();
    let about = format!(
        "vault: {}, application shop, file:{}:",
        directory.path("vault.toml").display(),
        directory.path("vault.store.toml").display()
    );
    assert!(told.find(&about).unwrap() < told.find("value of A").unwrap(), "{told}");
    assert_eq!(directory.vault("get A").ok(), "a value");
}

#[test]
fn a_closed_standard_output_is_no_success() {
    let directory = home(STORE);
    directory.vault_with("set A", b"a value").ok();
    let closed = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("printf x | \"$vault\" {line} >&-")]).env("vault", crate::binary());
        finish(shell.current_dir(directory.home.path()), b"")
    };
    for line in ["get A", "export --format json", "seal --key-file keys/vault_kek_1 --no-context", "list"] {
        let told = closed(line).fails(18);
        assert!(told.contains("standard output is closed"), "{line}: {told}");
    }
    // What is done besides is done.
    closed("set B").ok();
    assert_eq!(directory.vault("get B").ok(), "x");
    closed("export --format json --out all.json").ok();
    let mut null = Command::new("sh");
    null.args(["-c", "\"$vault\" get A >/dev/null"]).env("vault", crate::binary());
    finish(null.current_dir(directory.home.path()), b"").ok();
}

/// An application that is handed its key gets the one in force.
#[test]
fn the_key_of_a_keyring_is_a_secret_and_follows_a_promotion() {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[vault]\nnodes = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
         [keyring.app]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"app.keyring.toml\"\n\
         [secrets.APP_KEY]\nkey_of = \"app\"\n[secrets.MAIN_KEY]\nkey_of = \"main\"\n\
         [secrets.CONFIG]\ncomposed = \"key={APP_KEY}\"\n",
    );
    directory.vault("key generate --out kek_1").ok();
    directory.vault("key generate --out text_1").ok();
    let text = |name: &str| fs::read_to_string(directory.path(name)).unwrap().trim_end().to_owned();
    let given = |key: &str, main: &str| {
        assert_eq!(directory.vault("get APP_KEY").ok(), key);
        assert_eq!(directory.vault("get CONFIG").ok(), format!("key={key}"));
        let script = ["run", "--", "sh", "-c", "printf '%s %s' \"$APP_KEY\" \"$MAIN_KEY\""];
        assert_eq!(finish(&mut command(directory.home.path(), &script), b"").ok(), format!("{key} {main}"));
        let script = ["run", "--files", "--", "sh", "-c", "cat $APP_KEY_FILE"];
        assert_eq!(finish(&mut command(directory.home.path(), &script), b"").ok(), key);
        let explained = directory.vault("get APP_KEY --explain").ok();
        assert!(explained.contains("keyring app, primary key"), "{explained}");
    };
    given(&text("text_1"), &text("kek_1"));
    // One that waits is not in force.
    directory.vault("key generate --out next").ok();
    let old = text("text_1");
    directory.vault("key add next --keyring app --label 2").ok();
    given(&old, &text("kek_1"));
    let told: serde_json::Value = serde_json::from_str(&directory.vault("key list --keyring app --json").ok()).unwrap();
    let keys = told["keys"].as_array().unwrap();
    let waiting = keys.iter().find(|key| key["state"] == "active").unwrap();
    directory.vault(&format!("key promote {} --keyring app --yes", waiting["kid"].as_str().unwrap())).ok();
    let new = fs::read_to_string(waiting["place"].as_str().unwrap()).unwrap().trim_end().to_owned();
    assert_ne!(new, old);
    given(&new, &text("kek_1"));
    assert_eq!(directory.vault("check").code, 0);
    // Declared as the key of a keyring, it is found nowhere else, and what says otherwise is told.
    let mut check = command(directory.home.path(), &["check"]);
    let told = finish(check.env("APP_KEY", &old), b"");
    assert!(told.code == 14 && told.out.contains("keyring app"), "{told:?}");
}

/// Only what opens the store is kept from it.
#[test]
fn the_url_of_a_column_may_be_in_the_store_and_what_opens_the_store_may_not() {
    let directory = home(STORE);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let column = "[[column]]\nname = \"c\"\ndatabase = \"secret:DATABASE_URL\"\ntable = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\n\
        reads = [\"vs1\"]\nwrites = \"vs1\"\ncontext = {}\n\
        [secrets.DATABASE_URL]\ntype = \"url\"\ncomposed = \"postgresql://u:{DB_PASSWORD}@127.0.0.1:1/d\"\n[secrets.DB_PASSWORD]\n";
    directory.write("vault.toml", format!("{config}\n{column}"));
    directory.vault_with("set DB_PASSWORD", b"of the store").ok();
    assert_eq!(directory.vault("get DATABASE_URL").ok(), "postgresql://u:of%20the%20store@127.0.0.1:1/d");
    assert_eq!(directory.vault("get DB_PASSWORD").ok(), "of the store");
    // Nobody answers there, which is as far as the URL leads.
    let told = directory.vault("status");
    assert!(format!("{}{}", told.out, told.err).contains("connect to postgresql://u@127.0.0.1:1/d"), "{told:?}");

    let sources = config.replace("\"file:keys/vault_kek_*\"", "\"file:keys/vault_kek_*\", \"secret:KEK\"");
    directory.write("vault.toml", format!("{sources}\n[secrets.KEK]\ncomposed = \"{{PART}}\"\n"));
    for name in ["KEK", "PART"] {
        let told = directory.vault(&format!("get {name}"));
        assert!(told.code != 0 && told.err.contains("not in the store, which needs it to be opened"), "{told:?}");
    }
}
