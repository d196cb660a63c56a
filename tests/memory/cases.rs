//! What a process under test does with secrets. Everything that it is told or tells is public; its
//! secrets come from files.

use std::fs;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use vault_core::legacy::{self, LegacyKey};
use vault_core::{
    Config, Context, EntryName, Error, Format, Found, Keyring, KeyringState, MasterKey, Sealer, SecretBytes,
    SecretName, TextKey, Token, Trim, Vault, Version, WrappedKey, read_file,
};

/// What a case must leave behind.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Leaves {
    Nothing,
    /// A control, which shows that the scan finds what stays in such memory.
    Secrets(crate::scan::Class),
}

pub(crate) type Case = (&'static str, Leaves, fn(&Files));

pub(crate) const CASES: &[Case] = {
    use crate::scan::Class;
    &[
        ("control: a freed block", Leaves::Secrets(Class::Heap), control_heap),
        ("control: a freed block of a thread", Leaves::Secrets(Class::Anonymous), control_arena),
        ("control: an array on the stack", Leaves::Secrets(Class::Stack), control_stack),
        ("control: a static variable", Leaves::Secrets(Class::Static), control_static),
        ("master key, three forms", Leaves::Nothing, parse),
        ("master key, refused", Leaves::Nothing, refused),
        ("master key, generated", Leaves::Nothing, generate),
        ("keyring of two keys", Leaves::Nothing, keyring),
        ("sealer, 64 bytes", Leaves::Nothing, |files| sealer(files, "plain-64")),
        ("sealer, 1 KiB", Leaves::Nothing, |files| sealer(files, "plain-1k")),
        ("sealer, 1 MiB", Leaves::Nothing, |files| sealer(files, "plain-1m")),
        ("sealer, failing to open", Leaves::Nothing, failing),
        ("keys wrapped in keys", Leaves::Nothing, wrapped_keys),
        ("vault", Leaves::Nothing, vault),
        ("store in a file", Leaves::Nothing, store),
        ("a thread that has ended", Leaves::Nothing, threads),
        ("face-column", Leaves::Nothing, |files| profile(files, Format::FaceColumn)),
        ("face-json", Leaves::Nothing, |files| profile(files, Format::FaceJson)),
        ("face-json-double", Leaves::Nothing, |files| profile(files, Format::FaceJsonDouble)),
        ("fernet", Leaves::Nothing, |files| profile(files, Format::Fernet)),
        ("flowfile-legacy-master", Leaves::Nothing, |files| profile(files, Format::FlowfileLegacyMaster)),
        ("flowfile-legacy-user", Leaves::Nothing, |files| profile(files, Format::FlowfileLegacyUser)),
        ("flowfile-store", Leaves::Nothing, |files| profile(files, Format::FlowfileStore)),
        ("flowfile-v1", Leaves::Nothing, |files| profile(files, Format::FlowfileV1)),
        ("social-cbc-legacy", Leaves::Nothing, |files| profile(files, Format::SocialCbcLegacy)),
        ("social-gcm16", Leaves::Nothing, |files| profile(files, Format::SocialGcm16)),
        ("social-v1", Leaves::Nothing, |files| profile(files, Format::SocialV1)),
    ]
};

/// The user whose keys the formats of Flowfile derive.
pub(crate) const USER: u64 = 5;

/// The directory of the files that a case reads.
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    fn secret(&self, name: &str) -> SecretBytes {
        read_file(&self.0.join(name), 2 << 20).unwrap()
    }

    fn key(&self, name: &str) -> MasterKey {
        MasterKey::parse(self.secret(name).expose_secret()).unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn state(&self) -> KeyringState {
        KeyringState::parse(&self.text("main.keyring.toml"), Path::new("state")).unwrap()
    }
}

/// Runs a case and stays, to be scanned, until the parent has seen enough.
pub(crate) fn run(name: &str, directory: &str) {
    let files = Files(directory.into());
    let (_, _, case) = CASES.iter().find(|(known, ..)| *known == name).unwrap();
    case(&files);
    pause("dropped");
}

/// Holds a key and a plaintext until it is killed.
pub(crate) fn hold(directory: &str) {
    let files = Files(directory.into());
    let sealer = Sealer::new(Keyring::single(files.key("kek_1")));
    let plaintext = files.secret("plain-json");
    alive();
    black_box((sealer, plaintext));
}

/// Tells the parent something and waits for it.
pub(crate) fn pause(what: &str) {
    println!("{what}");
    assert_eq!(io::stdin().read(&mut [0]).unwrap(), 1, "the parent is gone");
}

/// Everything is in use: what will be wiped is still there.
fn alive() {
    pause("alive");
}

fn token(sealer: &str, token: &impl core::fmt::Display) {
    println!("token {sealer} {token}");
}

fn context() -> Context {
    Context::new("user-secret").tenant("42").name("prod_db")
}

#[inline(never)]
fn control_heap(files: &Files) {
    let secret = files.secret("key.raw");
    drop(black_box(secret.expose_secret().to_vec()));
    alive();
}

#[inline(never)]
fn control_arena(files: &Files) {
    thread::scope(|scope| scope.spawn(|| drop(black_box(files.secret("key.raw").expose_secret().repeat(100)))).join())
        .unwrap();
    alive();
}

#[inline(never)]
fn control_stack(files: &Files) {
    #[inline(never)]
    fn fill(secret: &SecretBytes) {
        let mut array = [0_u8; 4_096];
        for chunk in array.chunks_exact_mut(32) {
            chunk.copy_from_slice(secret.expose_secret());
        }
        black_box(&mut array);
    }
    let secret = files.secret("key.raw");
    alive();
    fill(&secret);
}

#[inline(never)]
fn control_static(files: &Files) {
    static PLACE: Mutex<[u8; 32]> = Mutex::new([1; 32]);
    PLACE.lock().unwrap().copy_from_slice(files.secret("key.raw").expose_secret());
    alive();
}

#[inline(never)]
fn parse(files: &Files) {
    let keys = ["kek_1", "key.raw", "key.hex"].map(|name| files.key(name));
    alive();
    drop(keys);
}

#[inline(never)]
fn refused(files: &Files) {
    let weak = files.secret("weak");
    let published = MasterKey::parse(weak.expose_secret()).unwrap_err();
    let spoiled = files.secret("key.spoiled");
    MasterKey::parse(spoiled.expose_secret()).unwrap_err();
    alive();
    black_box(published);
}

#[inline(never)]
fn generate(files: &Files) {
    let sealer = Sealer::new(Keyring::single(files.key("kek_1")));
    let key = MasterKey::generate().unwrap();
    println!("generated kek_1 {}", sealer.wrap_key(&key, None).unwrap());
    alive();
}

#[inline(never)]
fn keyring(files: &Files) {
    let found = ["kek_1", "kek_2"].map(|name| Found { key: files.key(name), place: name.to_owned() });
    let keyring = Keyring::load(found.into(), Some(files.state()), 1).unwrap();
    let clone = keyring.clone();
    drop(keyring);
    alive();
    drop(clone);
}

#[inline(never)]
fn sealer(files: &Files, plaintext: &str) {
    let found = ["kek_1", "kek_2"].map(|name| Found { key: files.key(name), place: name.to_owned() });
    let sealer = Sealer::new(Keyring::load(found.into(), Some(files.state()), 1).unwrap());
    let other = Sealer::new(Keyring::single(files.key("kek_2")));
    let plaintext = files.secret(plaintext);
    for sealer in [&sealer, &sealer.clone().with_padding()] {
        let mine = sealer.seal(&context(), plaintext.expose_secret()).unwrap();
        let opened = sealer.open(&context(), &mine).unwrap();
        assert_eq!(opened.len(), plaintext.len());
        sealer.verify(&mine).unwrap();
        token("kek_1", &mine);
        let others = other.seal(&context(), plaintext.expose_secret()).unwrap();
        token("kek_2", &others);
        let moved = sealer.rewrap(&others).unwrap();
        assert_eq!(sealer.open(&context(), &moved).unwrap().len(), plaintext.len());
        token("kek_1", &moved);
    }
    alive();
}

#[inline(never)]
fn failing(files: &Files) {
    let sealer = Sealer::new(Keyring::single(files.key("kek_1")));
    let sealed = sealer.with_padding();
    let good = sealed.seal(&context(), files.secret("plain-1k").expose_secret()).unwrap();
    token("kek_1", &good);
    let elsewhere = sealed.open(&Context::new("user-secret").tenant("43"), &good).unwrap_err();
    assert!(matches!(elsewhere, Error::ContextMismatch));
    let text = good.to_string();
    for at in [30, 100, 200, text.len() - 2] {
        let digit = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        let altered = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        let altered: Token = altered.parse().unwrap();
        assert!(matches!(sealed.open(&context(), &altered).unwrap_err(), Error::Corrupt { .. }));
        sealed.verify(&altered).unwrap_err();
        sealed.rewrap(&altered).unwrap_err();
    }
    alive();
}

#[inline(never)]
fn wrapped_keys(files: &Files) {
    let found = ["kek_1", "kek_2"].map(|name| Found { key: files.key(name), place: name.to_owned() });
    let sealer = Sealer::new(Keyring::load(found.into(), Some(files.state()), 1).unwrap());
    let other = Sealer::new(Keyring::single(files.key("kek_2")));
    let third = files.key("third");
    let wrapped: WrappedKey = other.wrap_key(&third, None).unwrap();
    let moved = sealer.rewrap_key(&wrapped).unwrap();
    let third = sealer.unwrap_key(&moved, None).unwrap();
    let sealed = Sealer::new(Keyring::single(third)).seal(&context(), files.secret("plain-64").expose_secret());
    token("third", &sealed.unwrap());
    sealer.unwrap_key(&moved, Some("42")).unwrap_err();
    alive();
}

#[inline(never)]
fn vault(files: &Files) {
    let vault = Vault::load(Config::from_file(files.0.join("vault.toml")).unwrap()).unwrap();
    let secret = vault.secret("PASSWORD").unwrap().value;
    let sealed = vault.seal(&context(), secret.expose_secret()).unwrap();
    token("kek_1", &sealed);
    assert_eq!(vault.open(&context(), &sealed).unwrap().len(), secret.len());
    vault.refresh().unwrap();
    alive();
}

/// What is put into a store, replaced and read back.
#[inline(never)]
fn store(files: &Files) {
    let vault = Vault::load(Config::from_file(files.0.join("store.toml")).unwrap()).unwrap();
    let _ = fs::remove_file(files.0.join("store"));
    vault.store().unwrap().create().unwrap();
    let name = EntryName::new(SecretName::parse("STORED").unwrap());
    for plain in ["plain-64", "plain-1k", "password"] {
        vault.set(&[(name.clone(), files.secret(plain))], None).unwrap();
    }
    assert_eq!(vault.secret("STORED").unwrap().value.len(), files.secret("password").len());
    vault.stored(&name, Version::Number(1)).unwrap();
    vault.refresh().unwrap();
    alive();
}

#[inline(never)]
fn profile(files: &Files, format: Format) {
    let text = TextKey::parse(files.secret("text_1").expose_secret(), Trim::Python).unwrap();
    let key = LegacyKey::new(text);
    let user = USER.to_string();
    let plaintext = files.secret("plain-json");
    let value = if format.writable() {
        legacy::seal(format, &key, Some(&user), plaintext.expose_secret()).unwrap()
    } else {
        files.text("social-legacy")
    };
    let opened = legacy::open(format, &key, Some(&user), value.as_bytes()).unwrap();
    assert_eq!(opened.len(), plaintext.len());
    let wrong = value.replace(['a', 'A'], "b");
    legacy::open(format, &key, Some(&user), wrong.as_bytes()).unwrap_err();
    alive();
}

#[inline(never)]
fn threads(files: &Files) {
    let sealer = Sealer::new(Keyring::single(files.key("kek_1")));
    let text = LegacyKey::new(TextKey::parse(files.secret("text_1").expose_secret(), Trim::Python).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mine = sealer.seal(&context(), files.secret("plain-64").expose_secret()).unwrap();
            sealer.open(&context(), &mine).unwrap();
            token("kek_1", &mine);
            legacy::seal(Format::FlowfileV1, &text, Some("5"), files.secret("plain-json").expose_secret()).unwrap();
        });
    });
    alive();
}
