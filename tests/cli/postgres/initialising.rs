//! `init` with a store on a server.

use std::fs;

use crate::Directory;
use crate::server::Database;

#[test]
fn a_store_on_a_server_is_made_by_its_url() {
    let (directory, database) = (Directory::new(), Database::new());
    let words = ["init", "--store", &database.url()];
    let init = || crate::finish(&mut crate::command(directory.home.path(), &words), b"");
    init().ok();
    directory.vault_with("set API_KEY", b"kept").ok();
    assert_eq!(directory.vault("get API_KEY").ok(), "kept");
    assert!(init().fails(5).contains("exists"));
    // Elsewhere, with a key of its own: what is in the database stays what it is.
    let other = Directory::new();
    let told = crate::finish(&mut crate::command(other.home.path(), &words), b"").fails(5);
    assert!(told.contains("store postgresql://") && told.contains("exists"), "{told}");
    let left: Vec<_> = fs::read_dir(other.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".gitignore" || name == "keys"), "{left:?}");
    assert_eq!(directory.vault("get API_KEY").ok(), "kept");
}

#[test]
fn a_store_on_a_server_is_made_by_the_secret_that_holds_its_url() {
    let (directory, database) = (Directory::new(), Database::new());
    directory.write("url", format!("{}\n", database.url()));
    directory.write("import.env", "API_KEY=from the file\nOTHER=too\n");
    let words = ["init", "--store", "secret:DATABASE_URL", "--import", "import.env"];
    let vault = |words: &[&str]| {
        let mut command = crate::command(directory.home.path(), words);
        crate::finish(command.env("DATABASE_URL_FILE", directory.path("url")), b"")
    };
    // Where the secret is not found yet, it is typed again.
    crate::finish(&mut crate::command(directory.home.path(), &words), b"").fails(10);
    vault(&words).ok();
    assert_eq!(vault(&["get", "API_KEY"]).ok(), "from the file");
    let text = fs::read_to_string(directory.path("vault.toml")).unwrap();
    assert!(
        text.contains("url = \"secret:DATABASE_URL\"") && text.contains("[secrets.\"DATABASE_URL\"]\ntype = \"url\""),
        "{text}"
    );
    assert!(!text.contains("postgresql:"));
}

#[test]
fn what_opens_the_store_is_neither_typed_nor_imported() {
    let directory = Directory::new();
    let told = directory.vault("init --store postgresql://u:hunter2@localhost/d").fails(2);
    assert!(told.contains("a password does not belong here") && !told.contains("hunter2"), "{told}");
    directory.write("import.env", "DATABASE_URL=postgresql://u:hunter2@localhost/d\n");
    let told = directory.vault("init --store secret:DATABASE_URL --import import.env").fails(2);
    assert!(told.contains("opens the store") && !told.contains("hunter2"), "{told}");
    assert!(!directory.path("vault.toml").exists());
}
