//! File names with `*` and `?`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file;

/// Whether the last part of a path stands for several names.
pub(crate) fn is_pattern(path: &Path) -> bool {
    has_wildcard(path.file_name().unwrap_or_default())
}

/// Whether another part of a path than the last has a wildcard, which no pattern may.
pub(crate) fn is_too_wide(path: &Path) -> bool {
    path.parent().is_some_and(|parent| has_wildcard(parent.as_os_str()))
}

/// Whether the last part of `pattern` matches a file name: `*` any bytes, `?` one byte. A name
/// that begins with a dot matches no pattern.
pub(crate) fn matches(pattern: &Path, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.file_name().unwrap_or_default().as_bytes(), name.as_bytes());
    // Where the last star is, and how much of the name it has taken: on a mismatch it takes more.
    let mut star = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || Some(wanted) == name.get(n) => {
                p += 1;
                n += 1;
            }
            (_, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (_, None) => return false,
        }
    }
    !name.starts_with(b".") && pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// The existing files that a pattern matches, sorted. None where the directory does not exist.
pub(crate) fn find(pattern: &Path) -> Result<Vec<PathBuf>> {
    let directory = file::directory_of(pattern);
    let fail = |source| Error::io("list", directory, source);
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(fail(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        if matches(pattern, &name) {
            found.push(pattern.with_file_name(name));
        }
    }
    found.sort();
    Ok(found)
}

fn has_wildcard(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|b| matches!(b, b'*' | b'?'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("kek_*", "kek_2026", true),
            ("kek_*", "kek_", true),
            ("kek_*", "akek_1", false),
            ("kek_?", "kek_1", true),
            ("kek_?", "kek_", false),
            ("kek_?", "kek_12", false),
            ("*a*b", "xaxbab", true),
            ("*a*b", "xaxba", false),
            ("*", "x", true),
            ("*", ".hidden", false),
            (".*", ".hidden", false),
            ("a", "a", true),
            ("a", "b", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(matches(Path::new(pattern), OsStr::new(name)), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_are_no_work() {
        let pattern = PathBuf::from("*a".repeat(100));
        assert!(!matches(&pattern, OsStr::new(&"a".repeat(90))));
    }

    #[test]
    fn only_the_last_part_may_be_a_pattern() {
        assert!(is_pattern(Path::new("/a/b*")) && !is_too_wide(Path::new("/a/b*")));
        assert!(!is_pattern(Path::new("/a*/b")) && is_too_wide(Path::new("/a*/b")));
    }

    #[test]
    fn files_are_found_sorted_and_hidden_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["key_b", "key_a", ".key_c", "other"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = find(&directory.path().join("key_*")).unwrap();
        assert_eq!(found, [directory.path().join("key_a"), directory.path().join("key_b")]);
        assert!(find(&directory.path().join("none/key_*")).unwrap().is_empty());
    }

    /// The definition, which takes for ever on bad patterns.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', behind)), _) => (0..=name.len()).any(|at| slow(behind, &name[at..])),
            (Some((b'?', behind)), Some((_, name))) => slow(behind, name),
            (Some((wanted, behind)), Some((found, name))) => wanted == found && slow(behind, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*?]{1,6}", name in "[ab]{1,8}") {
            let expected = slow(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(Path::new(&pattern), OsStr::new(&name)), expected);
        }
    }
}
