//! Secrets in what a command prints, replaced by their names.

use core::cmp::Reverse;

use aho_corasick::{AhoCorasick, MatchKind};
use vault_core::{Error, SecretBytes};

use crate::failure::Failure;
use crate::output::{Output, Stream};

use super::Delivered;
use super::forms::forms;

/// What is looked for, and what is printed instead.
pub(super) struct Mask {
    automaton: AhoCorasick,
    patterns: Vec<Pattern>,
}

struct Pattern {
    bytes: SecretBytes,
    label: String,
}

impl Mask {
    pub(super) fn new(secrets: &[Delivered], output: &mut Output) -> Result<Self, Failure> {
        let mut patterns = Vec::<Pattern>::new();
        for secret in secrets {
            let value = secret.value.expose_secret();
            if value.len() > LONGEST {
                let message = format!("secret {} is longer than {LONGEST} bytes, too long for --mask", secret.name);
                return Err(Failure::usage(message).with_hint("--only leaves it out"));
            }
            let forms = forms(value);
            if forms.is_empty() {
                let name = &secret.name;
                output.note(&format!("secret {name} is shorter than {SHORTEST} bytes and is not masked"));
                continue;
            }
            let label = format!("[{}]", secret.name);
            for form in forms {
                if !patterns.iter().any(|known| known.bytes.expose_secret() == form.as_slice()) {
                    patterns.push(Pattern { bytes: form.into(), label: label.clone() });
                }
            }
        }
        Self::of(patterns)
    }

    fn of(patterns: Vec<Pattern>) -> Result<Self, Failure> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.bytes.expose_secret()))
            .map_err(|_| Error::TooLarge { what: "all secrets together, for --mask", limit: i32::MAX as usize })?;
        Ok(Self { automaton, patterns })
    }

    /// Where what may be the beginning of a secret begins.
    fn open(&self, text: &[u8]) -> usize {
        let longest = self.patterns.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(0);
        let first = text.len().saturating_sub(longest.saturating_sub(1));
        (first..text.len())
            .find(|at| {
                let rest = text.get(*at..).unwrap_or_default();
                self.patterns.iter().any(|pattern| {
                    let bytes = pattern.bytes.expose_secret();
                    bytes.len() > rest.len() && bytes.starts_with(rest)
                })
            })
            .unwrap_or(text.len())
    }

    fn is_one_secret(&self, one: Option<usize>, two: usize) -> bool {
        let label = |pattern: usize| self.patterns.get(pattern).map(|pattern| &pattern.label);
        one.and_then(label).is_some_and(|one| label(two) == Some(one))
    }
}

/// Both outputs of a command: a secret may be written to each by turns, and then is found in what
/// came to both, in the order in which it came.
pub(super) struct Masked {
    mask: Mask,
    out: One,
    err: One,
    both: Both,
}

/// What is held of one output because it may be the beginning of a secret.
#[derive(Default)]
struct One {
    bytes: Vec<u8>,
    /// How many bytes came before these.
    before: usize,
    /// What is to be replaced in it, by positions since the beginning.
    found: Vec<Found>,
    /// Up to where everything was printed or replaced.
    done: usize,
    /// Which pattern was replaced last.
    last: Option<usize>,
}

/// What is held of both together, with where each piece came from.
#[derive(Default)]
struct Both {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

struct Piece {
    from: Stream,
    /// Its position in that output since the beginning.
    at: usize,
    length: usize,
}

struct Found {
    start: usize,
    end: usize,
    pattern: usize,
    /// The name is printed once, where the first byte came.
    named: bool,
}

impl Masked {
    pub(super) fn new(mask: Mask) -> Self {
        Self { mask, out: One::default(), err: One::default(), both: Both::default() }
    }

    /// Takes what came from an output, and gives what can be printed of both: all that no later
    /// byte can make part of a secret. At the end of an output, nothing more comes from it.
    pub(super) fn take(&mut self, from: Stream, read: &[u8], at_end: bool) -> [(Stream, Vec<u8>); 2] {
        let at = self.one(from).before + self.one(from).bytes.len();
        self.one(from).bytes.extend_from_slice(read);
        if !read.is_empty() {
            self.both.bytes.extend_from_slice(read);
            self.both.pieces.push(Piece { from, at, length: read.len() });
        }
        self.find_in_both();
        [Stream::Out, Stream::Err].map(|stream| {
            // What may go on in both is held in each. Nobody waits for an output that has ended.
            let ends = at_end && stream == from;
            let limit = if ends { usize::MAX } else { self.both.held_from(stream) };
            let mask = &self.mask;
            let one = match stream {
                Stream::Out => &mut self.out,
                Stream::Err => &mut self.err,
            };
            (stream, one.pass(mask, stream == from, limit, ends))
        })
    }

    fn one(&mut self, stream: Stream) -> &mut One {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    /// Finds what is in both together and in neither alone.
    fn find_in_both(&mut self) {
        let text = self.both.bytes.as_slice();
        let open = self.mask.open(text);
        let matches = self.mask.automaton.find_overlapping_iter(text).filter(|found| found.start() < open);
        let mut found = Vec::new();
        for m in matches {
            let mut named = true;
            let mut start = 0;
            for piece in &self.both.pieces {
                let (from, to) = (m.start().max(start), m.end().min(start + piece.length));
                if from < to {
                    let at = |position: usize| piece.at + (position - start);
                    found.push((
                        piece.from,
                        Found { start: at(from), end: at(to), pattern: m.pattern().as_usize(), named },
                    ));
                    named = false;
                }
                start += piece.length;
            }
        }
        for (stream, found) in found {
            self.one(stream).found.push(found);
        }
        self.both.forget(open);
    }
}

impl Both {
    /// Forgets what comes before a position.
    fn forget(&mut self, mut length: usize) {
        self.bytes.drain(..length.min(self.bytes.len()));
        while let Some(first) = self.pieces.first_mut() {
            if first.length > length {
                (first.at, first.length) = (first.at + length, first.length - length);
                break;
            }
            length -= first.length;
            self.pieces.remove(0);
        }
    }

    /// The first position of an output that is held here.
    fn held_from(&self, stream: Stream) -> usize {
        self.pieces.iter().find(|piece| piece.from == stream).map_or(usize::MAX, |piece| piece.at)
    }
}

impl One {
    /// Gives what can be printed, but for what begins at `limit`. What several secrets cover
    /// together is replaced as a whole.
    fn pass(&mut self, mask: &Mask, has_more: bool, limit: usize, at_end: bool) -> Vec<u8> {
        let text = self.bytes.as_slice();
        let before = self.before;
        // What begins before that is not the beginning of anything longer.
        let open = if at_end { text.len() } else { mask.open(text) };
        if has_more {
            let found = mask.automaton.find_overlapping_iter(text);
            self.found.extend(found.map(|m| Found {
                start: before + m.start(),
                end: before + m.end(),
                pattern: m.pattern().as_usize(),
                named: true,
            }));
        }
        let until = (before + open).min(limit);
        self.found.sort_unstable_by_key(|found| (found.start, Reverse(found.end), !found.named));
        let mut printed = Vec::with_capacity(until.saturating_sub(before));
        let mut later = Vec::new();
        for found in self.found.drain(..) {
            if found.start >= until {
                later.push(found);
                continue;
            }
            if found.end <= self.done {
                continue;
            }
            let overlaps = found.start < self.done;
            printed.extend_from_slice(between(text, before, self.done, found.start));
            if found.named && !(overlaps && mask.is_one_secret(self.last, found.pattern)) {
                printed.extend_from_slice(mask.patterns.get(found.pattern).map_or(b"", |p| p.label.as_bytes()));
            }
            (self.done, self.last) = (found.end, Some(found.pattern));
        }
        self.found = later;
        printed.extend_from_slice(between(text, before, self.done, until));
        self.done = self.done.max(until);
        let forgotten = until.saturating_sub(before).min(self.bytes.len());
        self.bytes.drain(..forgotten);
        self.before += forgotten;
        printed
    }
}

/// The bytes from one position to another, of a text that begins at `before`.
fn between(text: &[u8], before: usize, start: usize, end: usize) -> &[u8] {
    text.get(start.saturating_sub(before)..end.saturating_sub(before)).unwrap_or_default()
}

/// Shorter values would be found where they are not meant.
pub(super) const SHORTEST: usize = 6;
/// What finds a value takes many times its length of memory.
const LONGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Err, Out};

    fn masked(patterns: &[(&str, &str)]) -> Masked {
        let pattern = |(label, bytes): &(&str, &str)| Pattern {
            bytes: SecretBytes::copy_of(bytes.as_bytes()),
            label: format!("[{label}]"),
        };
        Masked::new(Mask::of(patterns.iter().map(pattern).collect()).unwrap())
    }

    /// What both outputs are, when these texts came to them in this order.
    fn printed(patterns: &[(&str, &str)], came: &[(Stream, &str)]) -> (String, String) {
        let mut masked = masked(patterns);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ends = [(Out, "", true), (Err, "", true)];
        for (stream, text, at_end) in came.iter().map(|(stream, text)| (*stream, *text, false)).chain(ends) {
            for (stream, bytes) in masked.take(stream, text.as_bytes(), at_end) {
                if stream == Out { out.extend(bytes) } else { err.extend(bytes) }
            }
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn pieces(text: &str, size: usize) -> impl Iterator<Item = &str> {
        (0..text.len()).step_by(size).map(move |at| &text[at..text.len().min(at + size)])
    }

    #[test]
    fn values_are_masked_however_they_are_split() {
        let patterns = [("A", "secret"), ("LONG", "secret-and-more"), ("B", "and-more!"), ("AA", "aaaaaa")];
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
                let came: Vec<_> = pieces(text, size).map(|piece| (Out, piece)).collect();
                assert_eq!(printed(&patterns, &came).0, expected, "{text}, {size} bytes at a time");
                // With something else in between on the other output.
                let came: Vec<_> = pieces(text, size).flat_map(|piece| [(Out, piece), (Err, ". ")]).collect();
                assert_eq!(printed(&patterns, &came).0, expected, "{text}, {size} bytes at a time");
            }
        }
    }

    #[test]
    fn a_value_that_came_to_both_outputs_by_turns_is_masked_in_both() {
        let patterns = [("A", "s3cr3t-token")];
        for size in 1..6 {
            for first in [Out, Err] {
                let other = if first == Out { Err } else { Out };
                let text = "x s3cr3t-token y";
                let came: Vec<_> = pieces(text, size)
                    .enumerate()
                    .map(|(at, piece)| (if at % 2 == 0 { first } else { other }, piece))
                    .collect();
                let (out, err) = printed(&patterns, &came);
                let all = format!("{out}{err}");
                assert_eq!(all.matches("[A]").count(), 1, "{size}: {out} | {err}");
                assert!(!all.contains(|c| "3crtoken".contains(c)), "{size}: {out} | {err}");
                assert!(all.contains('x') && all.contains('y'), "{size}: {out} | {err}");
            }
        }
    }

    #[test]
    fn nothing_waits_that_is_no_beginning_of_a_value() {
        let mut masked = masked(&[("A", "secret")]);
        let mut out = |text: &str| {
            let [(_, out), (_, err)] = masked.take(Out, text.as_bytes(), false);
            assert!(err.is_empty());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(out("name: "), "name: ");
        assert_eq!(out("secre"), "");
        assert_eq!(out("cy"), "secrecy");
        assert!(masked.out.bytes.is_empty() && masked.both.bytes.is_empty());
    }

    #[test]
    fn an_output_that_ends_waits_for_nothing_and_the_other_goes_on() {
        let mut masked = masked(&[("A", "secret")]);
        masked.take(Out, b"secr", false);
        assert_eq!(masked.take(Out, b"", true)[0].1, b"secr");
        assert_eq!(masked.take(Err, b"a secret", false)[1].1, b"a [A]");
    }
}
