use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vault_core::{Error, Kind, Manifest, Note, Preset, Resolver, SecretName, Source, read_file};

#[test]
fn the_first_source_in_order_wins() {
    let world = World::new("[secrets.TOKEN]\npath = 'declared'");
    let (declared, named) = (world.file("declared", "1"), world.file("named", "2"));
    let credential = world.file("credentials/token", "3");
    let mount = world.file("mounts/token", "4");
    let credentials = ("CREDENTIALS_DIRECTORY", world.at("credentials").display().to_string());
    let named_by = ("TOKEN_FILE", named.display().to_string());
    let itself = ("TOKEN", "5".to_owned());

    let with_file = [credentials.clone(), named_by];
    let with_value = [credentials, itself];
    world.expect(&with_file, "1", &Source::Declared(declared), true);
    world.expect(&with_file, "2", &Source::Named { path: named, variable: "TOKEN_FILE".to_owned() }, false);
    world.expect(&with_value, "3", &Source::Credential(credential.clone()), false);
    fs::remove_file(credential).unwrap();
    world.expect(&with_value, "4", &Source::Mount(mount.clone()), false);
    fs::remove_file(mount).unwrap();
    world.expect(&with_value, "5", &Source::Variable("TOKEN".to_owned()), false);
}

#[test]
fn sources_say_where_they_are() {
    for (source, expected) in [
        (Source::Mount("/run/secrets/x".into()), "file /run/secrets/x"),
        (Source::Credential("/c/x".into()), "file /c/x"),
        (Source::Declared("/d/x".into()), "file /d/x"),
        (Source::Named { path: "/n/x".into(), variable: "X_FILE".to_owned() }, "file /n/x, named by X_FILE"),
        (Source::Variable("X".to_owned()), "environment X"),
        (Source::EnvironmentFile("/e/.env".into()), "environment file /e/.env"),
        (Source::Default, "`default` in vault.toml"),
        (Source::Composed { parts: Vec::new() }, "composed of no secret"),
    ] {
        assert_eq!(source.to_string(), expected);
    }
}

#[test]
fn what_exists_and_cannot_be_read_is_never_passed_over() {
    let world = World::new("");
    let resolver = world.resolver(&[("TOKEN", "value".to_owned())]);
    let mount = world.at("mounts/token");
    let kind = || resolver.text(&name("TOKEN")).unwrap_err().kind();

    symlink("nowhere", &mount).unwrap();
    assert_eq!(kind(), Kind::Io, "a link that leads nowhere");
    fs::remove_file(&mount).unwrap();
    symlink(world.file("outside", "x"), &mount).unwrap();
    assert_eq!(kind(), Kind::Io, "a link out of the directory");
    fs::remove_file(&mount).unwrap();
    fs::create_dir(&mount).unwrap();
    assert_eq!(kind(), Kind::Io, "a directory, as Docker makes for a file that is missing");
    fs::remove_dir(&mount).unwrap();
    make_pipe(&mount);
    assert_eq!(kind(), Kind::Io, "a pipe, which would block");
    fs::remove_file(&mount).unwrap();
    fs::File::create(&mount).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_eq!(kind(), Kind::TooLarge);
    fs::remove_file(&mount).unwrap();
    assert_eq!(resolver.text(&name("TOKEN")).unwrap().value.expose_secret(), b"value");
}

#[test]
fn named_files_must_be_there() {
    let world = World::new("[secrets.TOKEN]\npath = 'declared'");
    world.file("mounts/token", "mounted");
    let named = [("OTHER_FILE", world.at("none").display().to_string())];
    let error = world.resolver(&named).text(&name("OTHER")).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    let error = world.declared(&[]).text(&name("TOKEN")).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.to_string().contains("declared"), "{error}");
}

/// Who puts the secret itself into `NAME_FILE` finds it in no message.
#[test]
fn what_is_no_path_is_not_shown() {
    let world = World::new("");
    for value in ["Canary4Zq", "postgresql://u:Canary4Zq@h/db", "/-----BEGIN\nCanary4Zq", "Canary/4Zq+Canary4Zq="] {
        let variables = [("TOKEN_FILE", value.to_owned())];
        for preset in [Preset::Strict, Preset::Raqeem, Preset::DockerLibrary] {
            let error = world.resolver(&variables).with_preset(preset).text(&name("TOKEN")).unwrap_err();
            let told = format!("{error} {error:?} {:?}", error.hint());
            assert!(!told.contains("anary") && told.contains("TOKEN_FILE"), "{told}");
            assert_eq!(error.kind(), Kind::Io);
        }
        let passed = world.resolver(&variables).with_preset(Preset::SocialPublisher).text(&name("TOKEN")).unwrap_err();
        assert!(passed.kind() == Kind::NotFound && !format!("{passed:?}").contains("anary"), "{passed:?}");
    }
    for path in ["/none/x", "./none", "../none"] {
        let error = world.resolver(&[("TOKEN_FILE", path.to_owned())]).text(&name("TOKEN")).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn a_declaration_is_not_passed_by_in_another_spelling() {
    let world = World::new("[secrets.DB_PASSWORD]\npath = 'declared'\n[secrets.WHOLE]\ncomposed = '{db_password}'");
    world.file("declared", "right");
    let resolver = world.declared(&[("DB_PASSWORD", "wrong".to_owned())]);
    assert_eq!(resolver.secret(&name("DB_PASSWORD")).unwrap().value.expose_secret(), b"right");
    for other in ["db_password", "db-password", "db/password", "WHOLE"] {
        for error in [resolver.secret(&name(other)).unwrap_err(), resolver.raw(&name(other)).unwrap_err()] {
            assert_eq!(error.kind(), Kind::Config, "{other}");
            assert!(error.to_string().ends_with("is declared as DB_PASSWORD; use that name"), "{error}");
        }
    }
}

#[test]
fn links_under_the_directory_are_followed() {
    let world = World::new("");
    world.file("mounts/..2026/token", "new");
    symlink("..2026", world.at("mounts/..data")).unwrap();
    symlink("..data/token", world.at("mounts/token")).unwrap();
    let resolver = world.resolver(&[]);
    assert_eq!(resolver.text(&name("TOKEN")).unwrap().value.expose_secret(), b"new");
}

#[test]
fn a_file_that_others_own_is_told_with_its_remedy() {
    let world = World::new("");
    let mount = world.file("mounts/token", "x");
    fs::set_permissions(&mount, fs::Permissions::from_mode(0o000)).unwrap();
    match world.resolver(&[("TOKEN", "value".to_owned())]).text(&name("TOKEN")) {
        // Root reads everything.
        Ok(resolved) => {
            assert_eq!(fs::read(&mount).unwrap(), b"x");
            assert_eq!(resolved.source, Source::Mount(mount));
        }
        Err(error) => {
            let text = error.to_string();
            for part in [
                mount.display().to_string().as_str(),
                "belongs to user",
                "mode 0000",
                "this is user",
                "change its owner or mode",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}

#[test]
fn a_variable_and_its_file_exclude_each_other() {
    let world = World::new("");
    let both = [("TOKEN", "marker".to_owned()), ("TOKEN_FILE", world.file("named", "x").display().to_string())];
    let error = world.resolver(&both).text(&name("TOKEN")).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::Config, "environment TOKEN: TOKEN_FILE is set too; unset one of them")
    );

    let [token, file] = both;
    for empty in [[("TOKEN", String::new()), file], [token, ("TOKEN_FILE", String::new())]] {
        assert!(world.resolver(&empty).text(&name("TOKEN")).is_ok(), "an empty variable counts as unset");
    }
}

#[test]
fn what_is_missing_is_told_with_where_it_was_looked_for() {
    let world = World::new("");
    let error = world.resolver(&[("APP_TOKEN", String::new())]).text(&name("app/Token")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let mount = world.at("mounts/app/token");
    let expected = format!(
        "secret app/Token (looked for environment APP_TOKEN_FILE, file {}, environment APP_TOKEN) not found",
        mount.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn text_loses_exactly_one_line_break() {
    let world = World::new("");
    for (content, expected) in [
        ("x", "x"),
        ("x\n", "x"),
        ("x\r\n", "x"),
        ("x\n\n", "x\n"),
        ("x\r", "x\r"),
        (" x ", " x "),
        ("\u{feff}x\n", "\u{feff}x"),
        ("\n\n", "\n"),
    ] {
        world.file("mounts/token", content);
        let resolver = world.resolver(&[("OTHER", content.to_owned())]);
        for name in [name("TOKEN"), name("OTHER")] {
            assert_eq!(resolver.text(&name).unwrap().value.expose_secret(), expected.as_bytes());
            assert_eq!(resolver.raw(&name).unwrap().value.expose_secret(), content.as_bytes());
        }
    }
}

#[test]
fn pem_and_binary_lose_nothing() {
    let world = World::new("[secrets.KEY]\ntype = 'pem-private-key'\n[secrets.BLOB]\ntype = 'binary'\n[secrets.TOKEN]");
    for file in ["key", "blob", "token", "other"] {
        world.file(&format!("mounts/{file}"), "x\n");
    }
    let resolver = world.declared(&[]);
    for (secret, expected) in [("KEY", "x\n"), ("BLOB", "x\n"), ("TOKEN", "x"), ("OTHER", "x")] {
        assert_eq!(resolver.secret(&name(secret)).unwrap().value.expose_secret(), expected.as_bytes(), "{secret}");
    }
}

#[test]
fn empty_and_broken_texts_are_refused() {
    let world = World::new("");
    let token = world.at("mounts/token");
    for (content, reason) in [
        (&b""[..], "it is empty"),
        (b"\n", "it is empty"),
        (b"\r\n", "it is empty"),
        (b"marker\0", "it holds a NUL byte"),
        (b"marker\xff", "it is not UTF-8"),
    ] {
        fs::write(&token, content).unwrap();
        let error = world.resolver(&[]).text(&name("TOKEN")).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().starts_with(&format!("file {}: {reason}", token.display())), "{error}");
        assert_silent(&error);
    }
    fs::write(&token, "").unwrap();
    assert_eq!(world.resolver(&[]).raw(&name("TOKEN")).unwrap_err().kind(), Kind::Config);

    let variables = BTreeMap::from([("OTHER".to_owned(), OsString::from_vec(b"marker\xff".to_vec()))]);
    let error =
        Resolver::from_environment().with_environment(variables, world.at("mounts")).text(&name("OTHER")).unwrap_err();
    assert_eq!(error.to_string(), "environment OTHER: it is not UTF-8, and is declared as text");
}

#[test]
fn a_url_is_composed_of_encoded_parts() {
    let world = World::new(
        "[secrets.URL]\ntype = 'url'\ncomposed = 'x://{USER}:{PASSWORD}@host/{{a}}'\n\
         [secrets.LINE]\ncomposed = '{USER} {PASSWORD}'",
    );
    let password = world.file("mounts/password", "p@ss w0rd/%é-._~\n");
    let resolver = world.declared(&[("USER", "me".to_owned()), ("URL", "shadowed".to_owned())]);
    let url = resolver.secret(&name("URL")).unwrap();
    assert_eq!(
        String::from_utf8(url.value.expose_secret().to_vec()).unwrap(),
        "x://me:p%40ss%20w0rd%2F%25%C3%A9-._~@host/{a}"
    );
    let parts =
        vec![(name("USER"), Source::Variable("USER".to_owned())), (name("PASSWORD"), Source::Mount(password.clone()))];
    assert_eq!(url.source, Source::Composed { parts });
    let told = format!("composed of USER (environment USER), PASSWORD (file {})", password.display());
    assert_eq!(url.source.to_string(), told);
    let line = resolver.secret(&name("LINE")).unwrap();
    assert_eq!(line.value.expose_secret(), "me p@ss w0rd/%é-._~".as_bytes(), "what is no URL is not encoded");

    let error = world.declared(&[]).secret(&name("URL")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = error.to_string();
    assert!(text.starts_with("secret USER (looked for") && text.ends_with("a part of secret URL, not found"), "{text}");
}

/// A part of a part, and a part that cannot be read.
#[test]
fn parts_follow_the_rules_of_their_own() {
    let world = World::new(
        "[secrets.A]\ncomposed = '<{B}>'\n[secrets.B]\ncomposed = '[{C}{D}]'\n[secrets.C]\npath = 'c'\n[secrets.D]\ndefault = 'd'\n\
         [secrets.EMPTY]\nrequired = false\n[secrets.E]\ncomposed = '{EMPTY}'\nrequired = false",
    );
    let file = world.file("c", "c\n\n");
    let found = world.declared(&[]).secret(&name("A")).unwrap();
    assert_eq!(found.value.expose_secret(), b"<[c\nd]>");
    assert_eq!(found.notes, [Note::Default], "{:?}", found.notes);
    let expected = format!("composed of B (composed of C (file {}), D (`default` in vault.toml))", file.display());
    assert_eq!(found.source.to_string(), expected);
    fs::write(&file, "").unwrap();
    let error = world.declared(&[]).secret(&name("A")).unwrap_err();
    assert_eq!(error.to_string(), format!("file {}: it is empty; write the secret into it", file.display()));
    fs::File::create(&file).unwrap().set_len((16 << 20) - 1).unwrap();
    assert!(world.declared(&[]).secret(&name("A")).is_err(), "NUL bytes");
    fs::write(&file, vec![b'x'; (16 << 20) - 1]).unwrap();
    let error = world.declared(&[]).secret(&name("A")).unwrap_err();
    assert_eq!(error.to_string(), "composed secret B is longer than 16777216 bytes");
    let error = world.declared(&[]).optional(&name("E")).unwrap_err();
    assert!(error.to_string().contains("a part of secret E"), "half of what is composed is no absence: {error}");
}

#[test]
fn a_default_is_told_and_optional_secrets_may_be_absent() {
    let world = World::new(
        "[secrets.A]\ndefault = 'stated'\n[secrets.B]\nrequired = false\n[secrets.C]\n[secrets.D]\ndefault = ''",
    );
    let resolver = world.declared(&[]);
    let found = resolver.secret(&name("A")).unwrap();
    assert_eq!((found.value.expose_secret(), found.source), (&b"stated"[..], Source::Default));
    assert_eq!(found.notes, [Note::Default]);
    assert_eq!(world.declared(&[("A", "x".to_owned())]).secret(&name("A")).unwrap().notes, []);

    assert!(resolver.optional(&name("B")).unwrap().is_none());
    assert_eq!(resolver.secret(&name("B")).unwrap_err().kind(), Kind::NotFound);
    for required in ["C", "UNDECLARED"] {
        assert_eq!(resolver.optional(&name(required)).unwrap_err().kind(), Kind::NotFound, "{required}");
    }
    assert_eq!(resolver.secret(&name("D")).unwrap_err().kind(), Kind::Config, "an empty default is no secret");
    assert!(!resolver.required(&name("B")) && resolver.required(&name("C")) && resolver.required(&name("NEW")));

    world.file("mounts/b", "\n");
    let empty = resolver.optional(&name("B")).unwrap().unwrap();
    assert!(empty.value.is_empty() && empty.notes == [Note::Empty], "nobody requires that it is not");
    fs::remove_file(world.at("mounts/b")).unwrap();
    fs::create_dir(world.at("mounts/b")).unwrap();
    assert_eq!(resolver.optional(&name("B")).unwrap_err().kind(), Kind::Io, "what cannot be read is not absent");
}

#[test]
fn a_stack_prefixes_the_names_of_its_secrets() {
    let world = World::new("[vault]\nstack = 'raqeem_production'");
    world.file("mounts/raqeem_production_token", "prefixed");
    let value = |variables: &[(&str, String)]| {
        String::from_utf8(world.declared(variables).text(&name("TOKEN")).unwrap().value.expose_secret().to_vec())
            .unwrap()
    };
    assert_eq!(value(&[("TOKEN", "variable".to_owned())]), "prefixed");
    world.file("mounts/token", "plain");
    assert_eq!(value(&[]), "plain", "a name as it is mounted comes first");
    let error = world.declared(&[]).text(&name("OTHER")).unwrap_err().to_string();
    assert!(error.contains("/raqeem_production_other, environment OTHER)"), "{error}");
}

#[test]
fn every_read_sees_what_is_mounted_by_then() {
    let world = World::new("");
    world.file("mounts/..1/token", "old");
    world.file("mounts/..2/token", "new");
    symlink("..1", world.at("mounts/..data")).unwrap();
    symlink("..data/token", world.at("mounts/token")).unwrap();
    let resolver = world.resolver(&[]);
    assert_eq!(resolver.text(&name("TOKEN")).unwrap().value.expose_secret(), b"old");
    // As the kubelet does it.
    symlink("..2", world.at("mounts/..tmp")).unwrap();
    fs::rename(world.at("mounts/..tmp"), world.at("mounts/..data")).unwrap();
    fs::remove_dir_all(world.at("mounts/..1")).unwrap();
    assert_eq!(resolver.text(&name("TOKEN")).unwrap().value.expose_secret(), b"new");
}

#[test]
fn what_is_no_file_says_what_it_is() {
    let world = World::new("");
    let told = |path: &Path| {
        let file = [("TOKEN_FILE", path.display().to_string())];
        world.resolver(&file).text(&name("TOKEN")).unwrap_err().to_string()
    };
    let pipe = world.at("pipe");
    make_pipe(&pipe);
    let long = world.at("long");
    fs::File::create(&long).unwrap().set_len((16 << 20) + 1).unwrap();
    for (path, reason) in [
        (world.at("mounts"), "it is a directory and not a regular file"),
        (pipe, "it is a pipe and not a regular file"),
        (PathBuf::from("/dev/zero"), "it is a device and not a regular file"),
        (long, "is longer than 16777216 bytes"),
        (world.at("none"), "No such file"),
    ] {
        let text = told(&path);
        assert!(text.contains(reason) && text.contains(&path.display().to_string()), "{text}");
    }
    let variables = BTreeMap::from([("TOKEN".to_owned(), OsString::from("x".repeat((16 << 20) + 1)))]);
    let resolver = Resolver::from_environment().with_environment(variables, world.at("mounts"));
    assert_eq!(
        resolver.text(&name("TOKEN")).unwrap_err().to_string(),
        "environment TOKEN is longer than 16777216 bytes"
    );
}

#[test]
fn a_secret_has_a_preset_of_its_own() {
    let world = World::new(
        "[vault]\npreset = 'raqeem'\n[secrets.A]\n[secrets.B]\npreset = 'strict'\n[profiles.p.secrets.B]\npreset = 'raqeem'",
    );
    for file in ["a", "b"] {
        world.file(file, " x \n");
    }
    let variables =
        ["A", "B"].map(|name| (format!("{name}_FILE"), world.at(&name.to_lowercase()).display().to_string()));
    let variables = variables.each_ref().map(|(name, path)| (name.as_str(), path.clone()));
    let value = |resolver: &Resolver, secret: &str| {
        let variables = variables.iter().map(|(name, path)| ((*name).to_owned(), OsString::from(path))).collect();
        let resolver = resolver.clone().with_environment(variables, world.at("mounts"));
        String::from_utf8(resolver.secret(&name(secret)).unwrap().value.expose_secret().to_vec()).unwrap()
    };
    let declared = world.declared(&[]);
    assert_eq!((value(&declared, "A").as_str(), value(&declared, "B").as_str()), ("x", " x "));
    let profile = Resolver::new(&Manifest::load(&world.at("vault.toml"), Some("p")).unwrap());
    assert_eq!(value(&profile, "B"), "x");
    assert_eq!(value(&declared.with_preset(Preset::Strict), "A"), " x ");
}

/// The official images: either of the two, all trailing line feeds go, and an empty file is empty.
#[test]
fn docker_library_reads_as_its_entry_points_do() {
    let world = World::new("[vault]\npreset = 'docker-library'");
    world.file("mounts/x", "never asked");
    let read = |variables: &[(&str, String)]| world.declared(variables).secret(&name("X"));
    let file = |content: &str| [("X_FILE", world.file("f", content).display().to_string())];
    for (content, expected) in [("a\n\n", "a"), (" a\r\n", " a\r"), ("a\0b\n", "ab"), ("\n", "")] {
        let found = read(&file(content)).unwrap();
        assert_eq!(found.value.expose_secret(), expected.as_bytes());
        assert_eq!(found.notes.as_slice() == [Note::Empty], expected.is_empty());
    }
    assert_eq!(read(&[("X", " a\n".to_owned())]).unwrap().value.expose_secret(), b" a\n");
    let [named] = file("a");
    let error = read(&[("X", "marker".to_owned()), named]).unwrap_err();
    assert_eq!(error.to_string(), "both X and X_FILE are set (but are exclusive)");
    assert_eq!(error.kind(), Kind::Config);
    assert_silent(&error);
    assert_eq!(read(&[("X_FILE", "/nowhere/x".to_owned())]).unwrap_err().kind(), Kind::Io);
    assert_eq!(read(&[]).unwrap_err().kind(), Kind::NotFound);
}

/// Flowfile's two services disagree about files and about what they strip.
#[test]
fn flowfile_finds_its_key_by_its_own_rules() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let world = World::new("");
    let read = |preset: Preset, variables: &[(&str, String)]| {
        world.resolver(variables).with_preset(preset).secret(&name("FLOWFILE_MASTER_KEY"))
    };
    let mount = world.at("mounts/flowfile_master_key");
    let both = [Preset::FlowfileCore, Preset::FlowfileWorker];
    for preset in both {
        assert_eq!(read(preset, &[]).unwrap_err().kind(), Kind::NotFound, "{preset}");
        fs::write(&mount, format!("\u{85} {key}\r\n\n")).unwrap();
        assert_eq!(read(preset, &[]).unwrap().value.expose_secret(), key.as_bytes());
        let variable = [("FLOWFILE_MASTER_KEY", key.replace('A', "B"))];
        let found = read(preset, &variable).unwrap();
        assert_eq!(found.source, Source::Variable("FLOWFILE_MASTER_KEY".to_owned()));
        let blank = [("FLOWFILE_MASTER_KEY", " \n".to_owned())];
        let error = read(preset, &blank).unwrap_err().to_string();
        assert_eq!(error, "FLOWFILE_MASTER_KEY is not a valid Fernet key", "it looks no further");
        fs::write(&mount, "").unwrap();
        assert_eq!(read(preset, &[]).unwrap_err().kind(), Kind::Config);
        fs::remove_file(&mount).unwrap();
    }
    fs::write(&mount, "no key").unwrap();
    let error = read(Preset::FlowfileCore, &[]).unwrap_err();
    assert_eq!(error.to_string(), "Failed to read master key from Docker secret");
    assert!(error.hint().unwrap().contains(&mount.display().to_string()), "{:?}", error.hint());
    fs::remove_file(&mount).unwrap();
    fs::create_dir(&mount).unwrap();
    assert_eq!(both.map(|preset| read(preset, &[]).unwrap_err().kind()), [Kind::NotFound, Kind::Io], "a directory");
}

/// Without a reader, nothing takes the place of what is declared to be in the OS keyring.
#[test]
fn an_os_keyring_that_nobody_reads_is_an_error() {
    let world = World::new(
        "[secrets.TOKEN]\nkeyring = 'app/token'\nrequired = false\n[keyring.main]\nsources = ['keyring:app/main', 'file:kek']",
    );
    world.file("kek", "x");
    let manifest = world.manifest();
    let resolver = world.declared(&[]);
    let keys = resolver.key_contents(manifest.keyring("main").unwrap()).unwrap_err();
    for (error, item) in [(resolver.secret(&name("TOKEN")).unwrap_err(), "token"), (keys, "main")] {
        assert_eq!(error.kind(), Kind::Config);
        let expected = format!("this build reads no OS keyring, and OS keyring app/{item} is a source;");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // It is the last source, and is not asked for what another has.
    let resolved = world.declared(&[("TOKEN", "x".to_owned())]).secret(&name("TOKEN")).unwrap();
    assert_eq!(resolved.source, Source::Variable("TOKEN".to_owned()));
}

#[test]
fn the_process_environment_is_read() {
    // Cargo sets it for every test.
    let resolved = Resolver::from_environment().text(&name("CARGO_PKG_NAME")).unwrap();
    assert_eq!(resolved.value.expose_secret(), b"vault-core");
    assert_eq!(resolved.source, Source::Variable("CARGO_PKG_NAME".to_owned()));
}

#[test]
fn a_keyring_finds_all_that_its_sources_have() {
    let sources =
        "'secret:MASTER_KEY', 'secret:MISSING', 'file:one', 'file:none', 'file:keys/kek_*', 'file:nowhere/kek_*'";
    let world = World::new(&format!("[keyring.main]\nsources = [{sources}]"));
    let mounted = world.file("mounts/master_key", "a\n");
    let one = world.file("one", "b\r\n");
    let (first, second) = (world.file("keys/kek_1", "c"), world.file("keys/kek_2", ""));
    world.file("keys/.kek_3", "hidden");
    world.file("keys/other", "other");
    let manifest = world.manifest();
    let spec = manifest.keyring("main").unwrap();

    let contents = |resolver: &Resolver| -> Vec<(String, Vec<u8>)> {
        resolver
            .key_contents(spec)
            .unwrap()
            .into_iter()
            .map(|(place, content)| (place, content.expose_secret().to_vec()))
            .collect()
    };
    let file = |path: &Path, content: &str| (path.display().to_string(), content.as_bytes().to_vec());
    let rest = [file(&one, "b\r\n"), file(&first, "c"), file(&second, "")];
    let mut expected = vec![file(&mounted, "a\n")];
    expected.extend(rest.clone());
    assert_eq!(
        contents(&world.declared(&[])),
        expected,
        "nothing is trimmed, and an empty file is left to the keyring"
    );

    fs::remove_file(mounted).unwrap();
    let mut expected = vec![("environment MASTER_KEY".to_owned(), b"d".to_vec())];
    expected.extend(rest);
    assert_eq!(contents(&world.declared(&[("MASTER_KEY", "d".to_owned())])), expected);
}

/// A key text is the application's, and found as it finds it; a master key is ours.
#[test]
fn key_texts_follow_a_preset_and_master_keys_do_not() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let world = World::new(
        "[vault]\npreset = 'flowfile-core'\n[keyring.main]\nsources = ['secret:FLOWFILE_MASTER_KEY']\n\
         [keyring.text]\nkind = 'text'\nsources = ['secret:FLOWFILE_MASTER_KEY']",
    );
    let (mounted, quoted) = (world.file("mounts/flowfile_master_key", "mounted"), format!("'{key}'\n"));
    let contents = |variables: &[(&str, String)]| {
        ["main", "text"].map(|keyring| {
            let found = world.declared(variables).key_contents(world.manifest().keyring(keyring).unwrap());
            found.map(|found| String::from_utf8(found[0].1.expose_secret().to_vec()).unwrap())
        })
    };
    let [main, text] = contents(&[("FLOWFILE_MASTER_KEY", quoted.clone())]);
    assert_eq!((main.unwrap().as_str(), text.unwrap().as_str()), ("mounted", key));
    let [main, text] = contents(&[]);
    assert_eq!(main.unwrap(), "mounted");
    assert_eq!(text.unwrap_err().to_string(), "Failed to read master key from Docker secret");
    fs::remove_file(mounted).unwrap();
    let none = world.declared(&[]).key_contents(world.manifest().keyring("text").unwrap()).unwrap();
    assert!(none.is_empty(), "a source that has nothing is passed over");
}

#[test]
fn a_keyring_passes_over_nothing_that_it_cannot_read() {
    let world = World::new("[keyring.main]\nsources = ['file:keys/kek_*']\n[keyring.named]\nsources = ['file:one']");
    let manifest = world.manifest();
    let kind = |keyring: &str| world.resolver(&[]).key_contents(manifest.keyring(keyring).unwrap()).unwrap_err().kind();
    fs::create_dir_all(world.at("keys/kek_1")).unwrap();
    assert_eq!(kind("main"), Kind::Io, "a directory");
    fs::remove_dir(world.at("keys/kek_1")).unwrap();
    symlink("nowhere", world.at("keys/kek_1")).unwrap();
    assert_eq!(kind("main"), Kind::Io, "a link that leads nowhere");
    fs::write(world.at("one"), vec![b'x'; (64 << 10) + 1]).unwrap();
    assert_eq!(kind("named"), Kind::TooLarge);
}

#[test]
fn files_are_read_whole_or_not_at_all() {
    let world = World::new("");
    let file = world.file("f", "12345");
    assert_eq!(read_file(&file, 5).unwrap().expose_secret(), b"12345");
    assert_eq!(read_file(&file, 4).unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(read_file(&world.at("none"), 5).unwrap_err().kind(), Kind::Io);
    assert_eq!(read_file(&world.at("mounts"), 5).unwrap_err().kind(), Kind::Io);
}

/// A directory with a `vault.toml`, and `mounts` in place of `/run/secrets`.
struct World(TempDir);

impl World {
    fn new(toml: &str) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir(world.at("mounts")).unwrap();
        fs::write(world.at("vault.toml"), format!("version = 1\n{toml}")).unwrap();
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(path)
    }

    fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn manifest(&self) -> Manifest {
        Manifest::load(&self.at("vault.toml"), None).unwrap()
    }

    fn resolver(&self, variables: &[(&str, String)]) -> Resolver {
        self.given(Resolver::from_environment(), variables)
    }

    fn declared(&self, variables: &[(&str, String)]) -> Resolver {
        self.given(Resolver::new(&self.manifest()), variables)
    }

    fn given(&self, resolver: Resolver, variables: &[(&str, String)]) -> Resolver {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        resolver.with_environment(variables, self.at("mounts"))
    }

    fn expect(&self, variables: &[(&str, String)], value: &str, source: &Source, declared: bool) {
        let resolver = if declared { self.declared(variables) } else { self.resolver(variables) };
        let resolved = resolver.text(&name("TOKEN")).unwrap();
        assert_eq!(resolved.value.expose_secret(), value.as_bytes());
        assert_eq!(resolved.source, *source);
    }
}

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn assert_silent(error: &Error) {
    let told = format!("{error} {error:?} {:?}", error.hint());
    assert!(!told.contains("marker"), "{told}");
}

fn name(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}
