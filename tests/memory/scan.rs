//! Looks for secrets in the memory of another process.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// The kinds of memory that a process writes to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Class {
    /// What the allocator has from the break.
    Heap,
    /// Anonymous mappings: large blocks, arenas and stacks of threads.
    Anonymous,
    /// The main thread's stack.
    Stack,
    /// Static variables of the program and its libraries.
    Static,
}

/// Bytes of each part of a secret that are searched for.
const LENGTH: usize = 14;

/// Parts of secrets, with the names of what they are parts of.
///
/// Of every 16 bytes the middle 14 are searched for. The allocator writes its links over the first
/// 16 bytes of a freed block, so of a key of 32 bytes the second part is what stays.
pub(crate) struct Needles {
    names: Vec<String>,
    parts: HashMap<[u8; LENGTH], usize>,
    /// One bit for each value of a part's first three bytes.
    filter: Vec<u64>,
}

impl Needles {
    pub(crate) fn new() -> Self {
        Self { names: Vec::new(), parts: HashMap::new(), filter: vec![0; 1 << 18] }
    }

    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{name} is too short to be found for certain");
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        for start in (1..secret.len() - LENGTH).step_by(16).chain([secret.len() - LENGTH - 1]) {
            let part: [u8; LENGTH] = secret[start..start + LENGTH].try_into().unwrap();
            self.parts.entry(part).or_insert(index);
            let bit = prefix(&part);
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Where parts of secrets are, by the name of the secret.
    fn find(&self, memory: &[u8], mut found: impl FnMut(&str)) {
        for window in memory.windows(LENGTH) {
            let bit = prefix(window);
            if self.filter[bit / 64] >> (bit % 64) & 1 == 1
                && let Some(index) = self.parts.get(window)
            {
                found(&self.names[*index]);
            }
        }
    }

    /// The names of the secrets that a file holds.
    pub(crate) fn in_bytes(&self, bytes: &[u8]) -> BTreeMap<String, usize> {
        let mut hits = BTreeMap::new();
        self.find(bytes, |name| *hits.entry(name.to_owned()).or_default() += 1);
        hits
    }

    /// Everything that a process can write to.
    pub(crate) fn in_process(&self, process: u32) -> io::Result<Scan> {
        let memory = File::open(format!("/proc/{process}/mem"))?;
        let mut scan = Scan::default();
        for (class, start, end) in regions(&fs::read_to_string(format!("/proc/{process}/maps"))?) {
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            memory.read_exact_at(&mut bytes, start)?;
            scan.regions += 1;
            scan.bytes += bytes.len();
            self.find(&bytes, |name| *scan.hits.entry((class, name.to_owned())).or_default() += 1);
        }
        Ok(scan)
    }
}

/// What a scan saw.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) regions: usize,
    pub(crate) bytes: usize,
    pub(crate) hits: BTreeMap<(Class, String), usize>,
}

impl Scan {
    pub(crate) fn total(&self) -> usize {
        self.hits.values().sum()
    }
}

fn prefix(part: &[u8]) -> usize {
    usize::from(part[0]) << 16 | usize::from(part[1]) << 8 | usize::from(part[2])
}

/// The writable private regions of a `maps` file.
fn regions(maps: &str) -> impl Iterator<Item = (Class, u64, u64)> + '_ {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (range, access) = (fields.next()?, fields.next()?);
        if !access.starts_with("rw") || !access.ends_with('p') {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let class = match fields.nth(3).unwrap_or_default() {
            "[heap]" => Class::Heap,
            "[stack]" => Class::Stack,
            name if name.is_empty() || name.starts_with("[anon") => Class::Anonymous,
            name if name.starts_with('[') => return None,
            _ => Class::Static,
        };
        Some((class, u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    })
}
