//! How many secrets a second each store sets and gets, and how that grows with what it holds.
//! Beside it, in the same run, what no store can do without: flushing a file of the same size to
//! disk, and reading one.
//!
//! `cargo bench -p vault-core --features sqlite --bench stores`. Figures are medians.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for people")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use vault_core::{
    EntryName, FileStore, Keyring, MasterKey, NewEntry, STORE_ENTRY, Sealer, SecretName, SqliteStore, Store, Version,
};

const ROUNDS: usize = 31;

fn main() {
    let keyring = Keyring::single(MasterKey::generate().unwrap());
    let sealer = Sealer::new(keyring.clone());
    println!("{:<8}{:>10}{:>14}{:>14}{:>16}{:>16}", "store", "secrets", "set/s", "get/s", "set : flush", "get : read");
    for count in [10, 100, 1_000, 10_000] {
        let directory = tempfile::tempdir().unwrap();
        let stores: [(&str, Box<dyn Store>); 2] = [
            ("file", Box::new(FileStore::new(directory.path().join("file"), keyring.clone()))),
            ("sqlite", Box::new(SqliteStore::new(directory.path().join("sqlite"), keyring.clone()))),
        ];
        for (name, store) in stores {
            fill(&*store, &sealer, count);
            let size = usize::try_from(fs::metadata(directory.path().join(name)).unwrap().len()).unwrap();
            let one = entry(count / 2);
            let token = sealer.seal(&one.context(STORE_ENTRY), b"another value of some length, as they are").unwrap();
            let new = NewEntry { name: &one, purpose: STORE_ENTRY, token: &token };
            let mut set = Vec::new();
            let mut get = Vec::new();
            let mut flush = Vec::new();
            let mut read = Vec::new();
            let beside = directory.path().join("beside");
            for _ in 0..ROUNDS {
                set.push(seconds(|| drop(store.put(&[new]).unwrap())));
                get.push(seconds(|| {
                    let entry = store.get(&one, Version::Current).unwrap().unwrap();
                    drop(sealer.open(&entry.context(), &entry.token).unwrap());
                }));
                let length = if name == "file" { size } else { 4_096 };
                flush.push(seconds(|| flushed(&beside, length)));
                read.push(seconds(|| drop(fs::read(&beside).unwrap())));
            }
            let (set, get, flush, read) = (median(set), median(get), median(flush), median(read));
            println!(
                "{name:<8}{count:>10}{:>14.0}{:>14.0}{:>16.2}{:>16.2}",
                1.0 / set,
                1.0 / get,
                set / flush,
                get / read
            );
        }
    }
}

fn fill(store: &dyn Store, sealer: &Sealer, count: usize) {
    store.create().unwrap();
    let names: Vec<_> = (0..count).map(entry).collect();
    let value = b"a value of some length, as passwords are";
    let tokens: Vec<_> = names.iter().map(|name| sealer.seal(&name.context(STORE_ENTRY), value).unwrap()).collect();
    let new: Vec<_> =
        names.iter().zip(&tokens).map(|(name, token)| NewEntry { name, purpose: STORE_ENTRY, token }).collect();
    store.put(&new).unwrap();
}

fn entry(number: usize) -> EntryName {
    EntryName::new(SecretName::parse(&format!("SECRET_{number:05}")).unwrap())
}

/// Writes a file and has it on disk.
fn flushed(path: &Path, length: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![0x5a; length]).unwrap();
    file.sync_all().unwrap();
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
