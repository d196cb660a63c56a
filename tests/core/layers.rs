//! The table of layers in docs/ARCHITECTURE.md against every import of the library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// The modules that a file imports from, by the files that hold them: `key/id` for
/// `use crate::key::id::KeyId`, `key` for `use crate::key::KeyId`.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_file_imports_from_above_it_or_in_a_circle() {
    let imports = imports();
    let layers = layers();
    let layer = |file: &str| {
        let fits =
            |path: &&String| path.trim_end_matches(".rs") == file || path.ends_with('/') && file.starts_with(*path);
        let found = layers
            .iter()
            .enumerate()
            .flat_map(|(layer, paths)| paths.iter().filter(fits).map(move |path| (layer, path)));
        // `key/id.rs` rather than `key/`.
        let (layer, _) = found.max_by_key(|(_, path)| path.len()).unwrap_or_else(|| panic!("{file}.rs is in no row"));
        layer
    };
    let upward = |from: &str| {
        let targets = imports[from].iter().filter(move |to| layer(to) < layer(from));
        targets.map(|to| format!("{from} imports {to}")).collect::<Vec<_>>()
    };
    let wrong: Vec<_> = imports.keys().flat_map(|from| upward(from)).collect();
    assert!(wrong.is_empty(), "upward imports: {wrong:#?}");
    for paths in layers.iter().flatten() {
        let known = imports.keys().any(|file| paths.trim_end_matches(".rs") == file || file.starts_with(paths));
        assert!(known, "{paths} does not exist");
    }
    if let Some(circle) = circle(&imports) {
        panic!("these files import each other: {}", circle.join(" -> "));
    }
}

/// The first circle, if there is one. A module and the files inside it may use each other; whoever uses
/// the module uses them all.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn visit(file: &str, imports: &Imports, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if done.contains(file) {
            return false;
        }
        let again = path.iter().any(|before| before == file);
        path.push(file.to_owned());
        let inside = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        let used = imports[file].iter().filter(|to| !inside(file, to) && !inside(to, file));
        let mut next = used.chain(imports.keys().filter(|to| inside(to, file)));
        if again || next.any(|to| visit(to, imports, path, done)) {
            return true;
        }
        path.pop();
        done.insert(file.to_owned());
        false
    }
    let (mut path, mut done) = (Vec::new(), BTreeSet::new());
    imports.keys().any(|file| visit(file, imports, &mut path, &mut done)).then_some(path)
}

/// The files of each row of the table, from above.
fn layers() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("../../docs/ARCHITECTURE.md")).unwrap();
    let (_, table) = text.split_once("| File | Holds |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with("| `"));
    let paths = |row: &str| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows: Vec<_> = rows.map(paths).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    rows
}

fn imports() -> Imports {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().with_extension("").to_str().unwrap().to_owned();
    let names: BTreeSet<_> = files.iter().map(|path| name(path)).collect();
    let found: Imports = files.iter().map(|path| (name(path), imports_of(&name(path), path, &names))).collect();
    assert!(
        found.len() > 80
            && found["envelope"].contains("primitives")
            && found["keyring/change"].contains("keyring/place")
    );
    found
}

fn imports_of(file: &str, path: &Path, names: &BTreeSet<String>) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    // Tests stand at the end of a file.
    let text = text.split("\n#[cfg(test)]\n").next().unwrap();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let paths = Regex::new(r"\b(crate|super(?:::super)*)::((?:\w+::)*)(\w+|\{[^}]*\})").unwrap();
    let mut found = BTreeSet::new();
    for parts in paths.captures_iter(&code) {
        let mut module: Vec<&str> = Vec::new();
        if &parts[1] != "crate" {
            module.extend(file.split('/'));
            module.truncate(module.len() - parts[1].split("::").count());
        }
        module.extend(parts[2].split("::").filter(|part| !part.is_empty()));
        for item in parts[3].trim_matches(['{', '}']).split(',') {
            let item = item.trim().split("::").next().unwrap();
            // The longest path that is a file: the rest names what is in it.
            let whole: Vec<_> = module.iter().copied().chain([item]).collect();
            let target = (1..=whole.len()).rev().map(|end| whole[..end].join("/")).find(|path| names.contains(path));
            found.extend(target.filter(|target| target != file));
        }
    }
    found
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if !path.ends_with("lib.rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
