//! Seal, open and rewrap beside what they cannot do without: two raw AES-256-GCM operations of
//! ring with fresh keys, in the same run. Fernet through its crate beside it.
//!
//! `cargo bench -p vault-core --bench envelope`. Machines are noisy: short rounds of all subjects take
//! turns in one thread, the figures are medians, and the first of each pair is the processor time of the
//! thread; the time on the clock stands behind it.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for people")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use vault_core::{Change, Config, Context, Followed, MasterKey, Token, Vault};

const ROUNDS: usize = 301;
const CALLS: u32 = 200;

/// What is measured, and its nanoseconds a call: of the processor and on the clock.
type Subject<'a> = (Box<dyn FnMut() + 'a>, Vec<[f64; 2]>);

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, key: &MasterKey| std::fs::write(path(name), key.text().expose_secret()).unwrap();
    std::fs::write(path("vault.toml"), "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"s.toml\"\n")
        .unwrap();
    write("kek_1", &MasterKey::generate().unwrap());
    let config = || Config::from_file(path("vault.toml")).unwrap();
    let old = Vault::load(config()).unwrap();
    let second = MasterKey::generate().unwrap();
    write("new", &second);
    Vault::key_add(&config(), "main", &path("new"), None, None).unwrap();
    let vault = Vault::load(config()).unwrap();
    let loaded = Followed::by_the_word_of_an_operator_who_looked(&vault, "main", Some(second.kid())).unwrap();
    vault.key_change("main", &Change::Promote(second.kid(), loaded), None).unwrap();
    let new = Vault::load(config()).unwrap();
    let fernet = fernet::Fernet::new(&fernet::Fernet::generate_key()).unwrap();
    let context = Context::new("user-secret").tenant("42").name("prod_db");

    println!(
        "{:<6}{:>16}{:>16}{:>16}{:>16}{:>16}{:>16}",
        "bytes", "two GCM, ns", "seal", "open", "rewrap", "Fernet enc", "Fernet dec"
    );
    for size in [64, 1_024] {
        let secret = vec![0x5a; size];
        let token = old.seal(&context, &secret).unwrap().to_string();
        let (sealer_old, sealer_new) = (&old.sealer().unwrap(), &new.sealer().unwrap());
        let sealed = fernet.encrypt(&secret);
        let mut keys = fresh_keys();
        let mut subjects: Vec<Subject<'_>> = vec![
            (Box::new(|| two_raw_operations(&mut keys, &secret)), Vec::new()),
            (Box::new(|| drop(black_box(sealer_old.seal(&context, &secret).unwrap().text()))), Vec::new()),
            (
                Box::new(|| drop(black_box(sealer_old.open(&context, &token.parse::<Token>().unwrap()).unwrap()))),
                Vec::new(),
            ),
            (
                Box::new(|| drop(black_box(sealer_new.rewrap(&token.parse::<Token>().unwrap()).unwrap().text()))),
                Vec::new(),
            ),
            (Box::new(|| drop(black_box(fernet.encrypt(&secret)))), Vec::new()),
            (Box::new(|| drop(black_box(fernet.decrypt(&sealed).unwrap()))), Vec::new()),
        ];
        for _ in 0..ROUNDS {
            for (work, times) in &mut subjects {
                let (started, processor) = (Instant::now(), processor_time());
                for _ in 0..CALLS {
                    work();
                }
                let taken = [processor_time() - processor, started.elapsed().as_secs_f64()];
                times.push(taken.map(|seconds| seconds * 1e9 / f64::from(CALLS)));
            }
        }
        let [floor, others @ ..] = &*subjects.into_iter().map(|(_, times)| median(&times)).collect::<Vec<_>>() else {
            return;
        };
        print!("{size:<6}{:>16}", format!("{:.0} {:.0}", floor[0], floor[1]));
        for [processor, clock] in others {
            print!("{:>16}", format!("{:.2}x {:.2}x", processor / floor[0], clock / floor[1]));
        }
        println!();
    }
}

/// Of each kind of time the median.
fn median(times: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|kind| {
        let mut times: Vec<f64> = times.iter().map(|time| time[kind]).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// What this thread has had of a processor, in seconds.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap().as_secs_f64()
}

/// Two keys, each used once.
fn two_raw_operations(keys: &mut [[u8; 32]; 2], secret: &[u8]) {
    for key in keys {
        // Another key each time, without paying for randomness.
        key[0] = key[0].wrapping_add(1);
        key[17] = key[17].wrapping_add(3);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let mut data = secret.to_vec();
        let tag =
            cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut data).unwrap();
        let _ = black_box((data, tag));
    }
}

fn fresh_keys() -> [[u8; 32]; 2] {
    let mut keys = [[0; 32]; 2];
    for key in &mut keys {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), key).unwrap();
    }
    keys
}
