//! Secrets in what a command prints, replaced by their names.

use core::cmp::Reverse;
use std::io::{self, Read};

use aho_corasick::{AhoCorasick, MatchKind};
use vault_core::{Error, SecretBytes};

use crate::failure::Failure;
use crate::output::Output;

use super::Delivered;

/// What is looked for, and what is printed instead.
pub(super) struct Mask {
    automaton: AhoCorasick,
    patterns: Vec<Pattern>,
}

/// What may be the beginning of a secret.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// How much of it is a part of what was replaced already.
    done: usize,
    /// Which pattern was replaced last.
    last: Option<usize>,
}

struct Pattern {
    bytes: SecretBytes,
    label: String,
}

impl Mask {
    pub(super) fn new(secrets: &[Delivered], output: &mut Output) -> Result<Self, Failure> {
        let mut patterns = Vec::new();
        for secret in secrets {
            let value = without_line_breaks(secret.value.expose_secret());
            if value.len() > LONGEST {
                let message = format!("secret {} is longer than {LONGEST} bytes, too long for --mask", secret.name);
                return Err(Failure::usage(message).with_hint("--only leaves it out"));
            }
            if value.len() < SHORTEST {
                let name = &secret.name;
                output.note(&format!("secret {name} is shorter than {SHORTEST} bytes and is not masked"));
                continue;
            }
            let label = format!("[{}]", secret.name);
            let lines = value.split(|byte| *byte == b'\n').map(without_line_breaks);
            let lines = lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with(PEM_FRAME));
            patterns.extend(
                [value]
                    .into_iter()
                    .chain(lines)
                    .map(|bytes| Pattern { bytes: SecretBytes::copy_of(bytes), label: label.clone() }),
            );
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.bytes.expose_secret()))
            .map_err(|_| Error::TooLarge { what: "all secrets together, for --mask", limit: i32::MAX as usize })?;
        Ok(Self { automaton, patterns })
    }

    /// Copies until the end of `from`, or until nobody takes it any more: then the command finds
    /// out when it prints again.
    pub(super) fn copy(&self, mut from: impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) {
        let (mut read, mut held) = (vec![0; READ], Held::default());
        loop {
            let got = match from.read(&mut read) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            held.bytes.extend_from_slice(read.get(..got).unwrap_or_default());
            let printed = self.pass(&mut held, got == 0);
            if to(&printed).is_err() || got == 0 {
                return;
            }
        }
    }

    /// Takes from `held` all that no later byte can make part of a secret. What several secrets
    /// cover together is replaced as a whole.
    fn pass(&self, held: &mut Held, at_end: bool) -> Vec<u8> {
        let text = held.bytes.as_slice();
        // What begins before that is not the beginning of anything longer.
        let open = if at_end { text.len() } else { self.open(text) };
        let mut found: Vec<_> = self.automaton.find_overlapping_iter(text).filter(|m| m.start() < open).collect();
        found.sort_unstable_by_key(|m| (m.start(), Reverse(m.end())));
        let (mut printed, mut done, mut last) = (Vec::with_capacity(text.len()), held.done, held.last);
        for m in found {
            let Some(pattern) = self.patterns.get(m.pattern().as_usize()) else { continue };
            if m.end() <= done {
                continue;
            }
            let overlaps = m.start() < done;
            printed.extend_from_slice(text.get(done..m.start()).unwrap_or_default());
            let same = last.and_then(|last| self.patterns.get(last)).is_some_and(|last| last.label == pattern.label);
            if !(overlaps && same) {
                printed.extend_from_slice(pattern.label.as_bytes());
            }
            (done, last) = (m.end(), Some(m.pattern().as_usize()));
        }
        printed.extend_from_slice(text.get(done..open).unwrap_or_default());
        let bytes = text.get(open..).unwrap_or_default().to_vec();
        *held = Held { bytes, done: done.saturating_sub(open), last };
        printed
    }

    /// Where the longest beginning of a secret stands that reaches to the end and is not yet all of
    /// it.
    fn open(&self, text: &[u8]) -> usize {
        let longest = self.patterns.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(0);
        let from = (text.len() + 1).saturating_sub(longest);
        let begins = |at: &usize| {
            let tail = text.get(*at..).unwrap_or_default();
            self.patterns
                .iter()
                .any(|pattern| pattern.bytes.len() > tail.len() && pattern.bytes.expose_secret().starts_with(tail))
        };
        (from..text.len()).find(begins).unwrap_or(text.len())
    }
}

fn without_line_breaks(mut bytes: &[u8]) -> &[u8] {
    while let Some(shorter) = bytes.strip_suffix(b"\n").or_else(|| bytes.strip_suffix(b"\r")) {
        bytes = shorter;
    }
    bytes
}

/// Shorter values would be found where they are not meant.
const SHORTEST: usize = 6;
/// The same for one of several lines.
const SHORTEST_LINE: usize = 8;
/// What finds a value takes many times its length of memory.
const LONGEST: usize = 1 << 20;
/// The first and the last line of PEM are not secret.
const PEM_FRAME: &[u8] = b"-----";

const READ: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(patterns: &[(&str, &str)]) -> Mask {
        let patterns: Vec<Pattern> = patterns
            .iter()
            .map(|(label, bytes)| Pattern {
                bytes: SecretBytes::copy_of(bytes.as_bytes()),
                label: format!("[{label}]"),
            })
            .collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.bytes.expose_secret()))
            .unwrap();
        Mask { automaton, patterns }
    }

    /// A reader that gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    #[test]
    fn values_are_masked_however_they_are_split() {
        let mask = mask(&[("A", "secret"), ("LONG", "secret-and-more"), ("B", "and-more!"), ("AA", "aaaaaa")]);
        for (text, expected) in [
            ("a secret.", "a [A]."),
            ("secretsecret", "[A][A]"),
            ("secret-and-more!", "[LONG][B]"),
            ("no-secret-and-more!?", "no-[LONG][B]?"),
            ("secret-and-mor", "[A]-and-mor"),
            ("secret-and-more", "[LONG]"),
            ("and-more!secre", "[B]secre"),
            ("aaaaaaaaaaaaab", "[AA]b"),
            ("ssecret sec", "s[A] sec"),
            ("", ""),
        ] {
            for size in 1..=text.len().max(1) {
                let mut printed = Vec::new();
                mask.copy(Slow(text.as_bytes(), size), |bytes| {
                    printed.extend_from_slice(bytes);
                    Ok(())
                });
                assert_eq!(String::from_utf8(printed).unwrap(), expected, "{text}, {size} bytes at a time");
            }
        }
    }

    #[test]
    fn nothing_waits_that_is_no_beginning_of_a_value() {
        let mask = mask(&[("A", "secret")]);
        let mut held = Held { bytes: b"name: ".to_vec(), ..Held::default() };
        assert_eq!(mask.pass(&mut held, false), b"name: ");
        held.bytes.extend_from_slice(b"secre");
        assert_eq!(mask.pass(&mut held, false), b"");
        held.bytes.extend_from_slice(b"cy");
        assert_eq!(mask.pass(&mut held, false), b"secrecy");
        assert!(held.bytes.is_empty());
    }
}
