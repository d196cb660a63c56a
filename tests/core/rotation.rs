//! Rotation, migration and resealing of real databases.

use core::ops::ControlFlow;
use std::fs;
use std::path::PathBuf;

use rusqlite::{Connection, params};
use vault_core::column::ContextTemplate;
use vault_core::legacy::{LegacyKey, open, seal};
use vault_core::rotate::{End, Job, Rotation, RunOptions, Summary};
use vault_core::{
    Access, Change, Config, Context, Error, Format, KeyId, Keyring, MasterKey, Scope, Sealer, TextKey, Token, Trim,
    Vault,
};

/// An application with a table of secrets, a keyring of master keys and one of key texts.
struct App {
    directory: tempfile::TempDir,
}

const HEAD: &str = "
version = 1
[vault]
nodes = 1
[keyring.main]
sources = [\"file:kek_*\"]
state = \"main.keyring.toml\"
[keyring.text]
kind = \"text\"
sources = [\"file:text_*\"]
state = \"text.keyring.toml\"
";
const TOKENS: &str = "reads = [\"vs1\", \"flowfile-v1\", \"flowfile-legacy-master\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n";
const LEGACY: &str =
    "reads = [\"flowfile-v1\", \"flowfile-legacy-master\"]\nwrites = \"flowfile-v1\"\nkeyring = \"text\"\n";
const CONTEXT: &str = "context = { tenant = \"{user_id}\", name = \"{name}\", purpose = \"user-secret\" }\n";

impl App {
    fn new(column: &str) -> Self {
        let app = Self { directory: tempfile::tempdir().unwrap() };
        app.generate("kek_1");
        app.generate("text_1");
        app.configure(column);
        app.connect()
            .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT, updated_at TEXT DEFAULT 'then')")
            .unwrap();
        app
    }

    fn configure(&self, column: &str) {
        let column = if column.contains("context =") { column.to_owned() } else { format!("{column}{CONTEXT}") };
        let text = format!(
            "{HEAD}[[column]]\nname = \"c\"\ndatabase = \"sqlite:app.db\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n{column}"
        );
        fs::write(self.path("vault.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn generate(&self, name: &str) -> MasterKey {
        let key = MasterKey::generate().unwrap();
        fs::write(self.path(name), key.text().expose_secret()).unwrap();
        key
    }

    fn connect(&self) -> Connection {
        Connection::open(self.path("app.db")).unwrap()
    }

    fn config(&self) -> Config {
        Config::from_file(self.path("vault.toml")).unwrap()
    }

    fn vault(&self) -> Vault {
        Vault::load(self.config()).unwrap()
    }

    /// Adds a key and makes it primary.
    fn promote_new(&self, keyring: &str) -> KeyId {
        self.generate(&format!("new_{keyring}"));
        let kid =
            Vault::key_add(&self.config(), keyring, &self.path(&format!("new_{keyring}")), Some("2"), None).unwrap();
        crate::promote(&self.vault(), keyring, kid, None).unwrap();
        kid
    }

    fn text_key(&self, name: &str) -> LegacyKey {
        LegacyKey::new(TextKey::parse(&fs::read(self.path(name)).unwrap(), Trim::Python).unwrap())
    }

    fn insert(&self, id: u64, value: &str) {
        self.connect()
            .execute(
                "INSERT INTO secrets (id, user_id, name, v) VALUES (?1, ?2, ?3, ?4)",
                params![id, id % 7, format!("n{id}"), value],
            )
            .unwrap();
    }

    fn fill_tokens(&self, rows: u64) {
        let vault = self.vault();
        for id in 1..=rows {
            self.insert(id, &vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string());
        }
    }

    fn fill_legacy(&self, rows: u64) {
        let key = self.text_key("text_1");
        for id in 1..=rows {
            let format = if id % 3 == 0 { Format::FlowfileLegacyMaster } else { Format::FlowfileV1 };
            self.insert(id, &seal(format, &key, Some(&(id % 7).to_string()), secret(id).as_bytes()).unwrap());
        }
    }

    fn values(&self) -> Vec<(u64, String)> {
        let connection = self.connect();
        let mut statement = connection.prepare("SELECT id, v FROM secrets ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Every value opens as a token and is the secret of its row.
    fn all_open(&self) {
        let vault = self.vault();
        for (id, value) in self.values() {
            let opened = vault.open(&context(id), &value.parse::<Token>().unwrap()).unwrap();
            assert_eq!(opened.expose_secret(), secret(id).as_bytes());
        }
    }

    fn run(&self, job: &Job, options: &RunOptions) -> vault_core::Result<Summary> {
        let vault = self.vault();
        let mut rotation = vault.rotation(Scope::Column("c"), Access::Write)?;
        run(&mut rotation, job, options)
    }

    fn schema(&self) -> String {
        self.connect()
            .query_row("SELECT group_concat(name || coalesce(sql, '')) FROM sqlite_master", [], |row| row.get(0))
            .unwrap()
    }
}

fn run(rotation: &mut Rotation<'_>, job: &Job, options: &RunOptions) -> vault_core::Result<Summary> {
    Ok(rotation.run(job, options, &mut |_| ControlFlow::Continue(()))?.remove(0))
}

fn context(id: u64) -> Context {
    Context::new("user-secret").tenant((id % 7).to_string()).name(format!("n{id}"))
}

fn secret(id: u64) -> String {
    format!("secret {id}")
}

fn stopped() -> RunOptions {
    let mut options = RunOptions::default();
    options.app_stopped = true;
    options
}

fn batches_of(rows: usize) -> RunOptions {
    let mut options = RunOptions::default();
    options.batch = rows;
    options
}

#[test]
fn tokens_are_rewrapped_and_nothing_else_changes() {
    let app = App::new(TOKENS);
    app.fill_tokens(1_234);
    let (before, schema) = (app.values(), app.schema());
    let new = app.promote_new("main");
    let summary = app.run(&Job::Rotate, &batches_of(100)).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.failed.len(), summary.end), (1_234, 0, 0, End::Clean));
    for ((_, old), (_, now)) in before.iter().zip(app.values()) {
        assert_eq!(old[87..], now[87..], "the payload is untouched");
        assert!(now.starts_with(&format!("vs1.{new}.")));
    }
    app.all_open();
    let again = app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((again.rewritten, again.end), (0, End::Clean), "applied twice equals once");

    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write).unwrap();
    assert_eq!(rotation.fence(None).unwrap(), ["c"]);
    assert!(rotation.verify().unwrap().is_clean());
    assert!(rotation.runs().unwrap().is_empty());
    assert!(rotation.unfence(&crate::followed(&vault, "main", None)).unwrap().is_empty());
    assert_eq!(app.schema(), schema);
    let updated: String =
        app.connect().query_row("SELECT group_concat(DISTINCT updated_at) FROM secrets", [], |row| row.get(0)).unwrap();
    assert_eq!(updated, "then");
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let app = App::new(TOKENS);
    app.fill_tokens(300);
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let mut steps = 0;
    let stopped = rotation.run(&Job::Rotate, &batches_of(10), &mut |_| {
        steps += 1;
        if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap()[0].end, End::Stopped);
    let (_, open) = rotation.runs().unwrap().remove(0);
    assert_eq!((open.rewritten, open.cursor.unwrap().to_string()), (30, "30".to_owned()));
    app.all_open();
    let summary = run(&mut rotation, &Job::Rotate, &batches_of(10)).unwrap();
    assert_eq!((summary.rewritten, summary.end), (270, End::Clean));
    app.all_open();
}

/// A row that was written behind the cursor while a run went on is met by the pass from the start.
#[test]
fn a_late_writer_is_caught_up_with() {
    let app = App::new(TOKENS);
    app.fill_tokens(200);
    let late = app.vault();
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let (connection, mut written) = (app.connect(), false);
    connection.busy_timeout(core::time::Duration::from_secs(5)).unwrap();
    let summary = rotation
        .run(&Job::Rotate, &batches_of(20), &mut |step| {
            if step.rows >= 100 && !written {
                written = true;
                // Behind the cursor, and in a page that was read already.
                for id in [3_u64, 110, 125] {
                    let token = late.seal(&context(id), secret(id).as_bytes()).unwrap();
                    connection
                        .execute("UPDATE secrets SET v = ?1 WHERE id = ?2", params![token.to_string(), id])
                        .unwrap();
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap()
        .remove(0);
    assert!(written);
    assert_eq!((summary.stale, summary.end), (0, End::Clean));
    assert!(summary.lost >= 1 && summary.passes >= 2, "{summary:?}");
    app.all_open();
}

/// Somebody who always writes stale values while a run looks at everything does not keep it going.
#[test]
fn a_run_does_not_look_at_everything_again_and_again() {
    let app = App::new(TOKENS);
    app.fill_tokens(1);
    let late = app.vault();
    app.promote_new("main");
    // What a look at everything meets: it takes a while.
    (2..=9).for_each(|id| app.insert(id, "nothing"));
    let token = late.seal(&context(100), secret(100).as_bytes()).unwrap().to_string();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let connection = app.connect();
    connection.busy_timeout(core::time::Duration::from_secs(5)).unwrap();
    let mut looks = Vec::new();
    let summary = rotation
        .run(&Job::Rotate, &batches_of(1), &mut |step| {
            if step.pass > 1 && step.rows == 1 && step.rewritten == 0 {
                looks.push(step.pass);
                let statement = "INSERT OR REPLACE INTO secrets (id, user_id, name, v) VALUES (100, 2, 'n100', ?1)";
                connection.execute(statement, [&token]).unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap()
        .remove(0);
    assert_eq!((summary.stale, summary.failed_rows, summary.end), (8, 8, End::Stale));
    assert!(looks.len() > 1 && summary.passes < 10, "{looks:?} {summary:?}");
}

/// A row in a second would take an hour.
#[test]
fn rows_that_are_only_looked_at_are_no_matter_for_the_throttle() {
    let app = App::new(LEGACY);
    app.configure(TOKENS);
    app.fill_legacy(3_600);
    let mut options = batches_of(100);
    options.rows_per_second = Some(1);
    let summary = app.run(&Job::Rotate, &options).unwrap();
    assert_eq!((summary.unmigrated, summary.rewritten, summary.end), (3_600, 0, End::Clean));
}

#[test]
fn a_keyring_that_changes_under_a_run_ends_it() {
    let app = App::new(TOKENS);
    app.fill_tokens(200);
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let result = rotation.run(&Job::Rotate, &batches_of(20), &mut |step| {
        if step.rows == 40 {
            crate::promote(&app.vault(), "main", old, None).unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(result.map_err(Error::from), Err(Error::Temporary { .. })));
    let old_prefix = format!("vs1.{old}.");
    let moved = app.values().iter().filter(|(_, value)| !value.starts_with(&old_prefix)).count();
    assert_eq!(moved, 40, "the batch after the change is undone");
    app.all_open();
    let error = app.run(&Job::Rotate, &RunOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "the other run is finished or forgotten first: {error}");
    app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();
    assert_eq!(app.run(&Job::Rotate, &RunOptions::default()).unwrap().end, End::Clean);
    app.all_open();
}

/// A throttled run keeps the database for others often, and for a short time.
#[test]
fn a_throttled_run_writes_small_batches() {
    let app = App::new(TOKENS);
    app.fill_tokens(250);
    app.promote_new("main");
    let mut options = RunOptions::default();
    options.rows_per_second = Some(5_000);
    let mut written = Vec::new();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let summaries = rotation.run(&Job::Rotate, &options, &mut |step| {
        written.push(step.rewritten);
        ControlFlow::Continue(())
    });
    assert_eq!(summaries.unwrap()[0].end, End::Clean);
    assert_eq!(written, [100, 200, 250]);
}

#[test]
fn values_that_cannot_be_moved_are_listed_and_left() {
    let app = App::new(TOKENS);
    app.fill_tokens(50);
    let stranger = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    let legacy = stranger.seal(&context(51), b"x").unwrap().to_string();
    app.insert(51, &legacy);
    let mut damaged = app.values()[9].1.clone();
    damaged.replace_range(30..31, if &damaged[30..31] == "A" { "B" } else { "A" });
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 10", [&damaged]).unwrap();
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    let summary = app.run(&Job::Rotate, &batches_of(7)).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (49, 2, End::Stale));
    let failed: Vec<_> = summary.failed.iter().map(|(row, _)| row.to_string()).collect();
    assert_eq!(failed, ["10", "51"], "also a value under a key that nobody knows");
    assert_eq!(app.values()[9].1, damaged);
    assert_eq!(app.values()[50].1, legacy);
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    let verification = rotation.verify().unwrap();
    assert!(!verification.is_clean());
    assert_eq!(verification.columns[0].failed, 2);
    let refused = verification.retired(old).unwrap_err();
    assert!(refused.to_string().contains("column c holds 2 values"), "{refused}");
}

#[test]
fn a_legacy_column_is_rotated_only_while_its_application_is_stopped() {
    let app = App::new(LEGACY);
    app.fill_legacy(100);
    let before = app.values();
    let new = app.promote_new("text");
    let refused = app.run(&Job::Rotate, &RunOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Refused { remedy, .. } if remedy.contains("--app-stopped")), "{refused}");
    assert_eq!(app.values(), before);

    let summary = app.run(&Job::Rotate, &stopped()).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (100, 0, End::Clean));
    let (old_key, new_key) = (app.text_key("text_1"), app.text_key("text_2"));
    for (id, value) in app.values() {
        assert!(value.starts_with(&format!("$ffsec$1${}$", id % 7)), "the owner's id is kept, and bare tokens get one");
        assert_eq!(
            open(Format::FlowfileV1, &new_key, None, value.as_bytes()).unwrap().expose_secret(),
            secret(id).as_bytes()
        );
        assert!(open(Format::FlowfileV1, &old_key, None, value.as_bytes()).is_err());
    }
    let now = app.values();
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().rewritten, 0);
    assert_eq!(app.values(), now, "applied twice equals once");
    // A row that the application wrote late, still under the old key.
    app.insert(200, &seal(Format::FlowfileV1, &old_key, Some("4"), b"late").unwrap());
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().rewritten, 1);
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Keyring("text"), Access::Write).unwrap();
    let verification = rotation.verify().unwrap();
    assert!(verification.is_clean());
    assert_eq!(verification.columns[0].under(new), 101);
    crate::disable(&vault, "text", verification.retired(old_key.kid()).unwrap()).unwrap();
}

/// The owner of a shared secret is in its value; another id in the row does not replace it.
#[test]
fn the_owner_inside_a_value_is_kept() {
    let app = App::new(LEGACY);
    let key = app.text_key("text_1");
    app.insert(1, &seal(Format::FlowfileV1, &key, Some("99"), b"shared").unwrap());
    app.promote_new("text");
    app.run(&Job::Rotate, &stopped()).unwrap();
    assert!(app.values()[0].1.starts_with("$ffsec$1$99$"));
}

#[test]
fn an_exclusive_run_that_is_stopped_has_changed_nothing() {
    let app = App::new(LEGACY);
    app.fill_legacy(100);
    app.promote_new("text");
    let before = (app.values(), app.schema());
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let mut options = stopped();
    options.batch = 10;
    let result = rotation.run(&Job::Rotate, &options, &mut |step| {
        if step.rows > 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let summary = result.unwrap().remove(0);
    assert_eq!((summary.rewritten, summary.end, summary.undone), (0, End::Stopped, true));
    assert_eq!((app.values(), app.schema()), before);
}

/// An application with a second column, like the first and in another table, of `database`.
fn with_second_column(column: &str, database: &str) -> App {
    let app = App::new(column);
    let config = fs::read_to_string(app.path("vault.toml")).unwrap();
    let (_, declared) = config.split_once("[[column]]").unwrap();
    let second = declared.replace("\"c\"", "\"d\"").replace("app.db", database).replace("secrets", "others");
    fs::write(app.path("vault.toml"), format!("{config}[[column]]{second}")).unwrap();
    let other = Connection::open(app.path(database)).unwrap();
    other.execute_batch("CREATE TABLE others (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT)").unwrap();
    app.fill_legacy(3);
    for (id, value) in app.values() {
        other.execute("INSERT INTO others VALUES (?1, ?1, 'x', ?2)", params![id, value]).unwrap();
    }
    app
}

fn contents(app: &App, database: &str) -> Vec<String> {
    let connection = Connection::open(app.path(database)).unwrap();
    let mut statement = connection.prepare("SELECT v FROM others ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn run_all(app: &App) -> Result<Vec<Summary>, vault_core::rotate::Unfinished> {
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::All, Access::Write).unwrap();
    rotation.run(&Job::Rotate, &stopped(), &mut |_| ControlFlow::Continue(()))
}

#[test]
fn an_exclusive_run_finishes_all_databases_or_changes_none() {
    let app = with_second_column(LEGACY, "other.db");
    app.promote_new("text");
    let before = (app.values(), contents(&app, "other.db"), app.schema());
    let unchanged = || assert_eq!((app.values(), contents(&app, "other.db"), app.schema()), before);

    // Somebody else uses the second one.
    let other = Connection::open(app.path("other.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let unfinished = run_all(&app).unwrap_err();
    assert!(matches!(unfinished.error, Error::Temporary { .. }), "{unfinished}");
    other.execute_batch("ROLLBACK").unwrap();
    unchanged();

    // A trigger keeps one of its rows.
    other
        .execute_batch("CREATE TRIGGER t BEFORE UPDATE ON others WHEN OLD.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let summaries = run_all(&app).unwrap();
    let told: Vec<_> = summaries.iter().map(|done| (done.rewritten, done.stale, done.undone, done.end)).collect();
    assert_eq!(told, [(0, 3, true, End::Stopped), (0, 3, true, End::Stale)]);
    assert_eq!(summaries[1].failed[0].0.to_string(), "2");
    unchanged();

    // Its commit fails, when the first one is committed.
    other
        .execute_batch(
            "DROP TRIGGER t;
             CREATE TABLE child (id INTEGER REFERENCES others (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER t AFTER UPDATE ON others BEGIN INSERT INTO child VALUES (99); END",
        )
        .unwrap();
    let unfinished = run_all(&app).unwrap_err();
    let told: Vec<_> = unfinished.summaries.iter().map(|done| (done.rewritten, done.undone)).collect();
    assert_eq!(told, [(3, false), (0, true)], "{unfinished}");
    assert_eq!(contents(&app, "other.db"), before.1);
    other.execute_batch("DROP TRIGGER t").unwrap();
    assert!(run_all(&app).unwrap().iter().all(|done| done.end == End::Clean && !done.undone));
}

#[test]
fn one_database_may_be_declared_in_two_spellings() {
    let app = with_second_column(LEGACY, "app.db");
    std::os::unix::fs::symlink(app.path("app.db"), app.path("link.db")).unwrap();
    let config = fs::read_to_string(app.path("vault.toml")).unwrap();
    let (first, second) = config.rsplit_once("app.db").unwrap();
    fs::write(app.path("vault.toml"), format!("{first}link.db{second}")).unwrap();
    app.promote_new("text");
    let summaries = run_all(&app).unwrap();
    assert!(summaries.len() == 2 && summaries.iter().all(|done| done.rewritten == 3));
}

#[test]
fn what_was_done_before_an_error_is_told() {
    let app = with_second_column(TOKENS, "other.db");
    let vault = app.vault();
    let mut second = vault.rotation(Scope::Column("d"), Access::Write).unwrap();
    let reseal = Job::Reseal(ContextTemplate::default());
    second.run(&reseal, &RunOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let mut rotation = vault.rotation(Scope::All, Access::Write).unwrap();
    let migrate = Job::Migrate(Format::Vs1);
    let unfinished = rotation.run(&migrate, &RunOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(unfinished.summaries.iter().map(|done| done.rewritten).collect::<Vec<_>>(), [3]);
    assert!(matches!(unfinished.error, Error::Refused { .. }));
    app.all_open();
}

#[test]
fn a_migration_goes_there_and_back() {
    let app = App::new(LEGACY);
    app.fill_legacy(60);
    assert!(
        matches!(app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()), Err(Error::Refused { .. })),
        "the application does not read it"
    );
    app.configure(TOKENS);
    let summary = app.run(&Job::Migrate(Format::Vs1), &batches_of(11)).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (60, 0, End::Clean));
    app.all_open();
    app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();
    app.configure(
        &LEGACY
            .replace("reads = [", "reads = [\"vs1\", ")
            .replace("keyring = \"text\"", "keyring = \"text\"\nreads_keyring = \"main\"\nlinked = true"),
    );
    let summary = app.run(&Job::Migrate(Format::FlowfileV1), &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (60, 0, End::Clean));
    let key = app.text_key("text_1");
    for (id, value) in app.values() {
        assert_eq!(
            open(Format::FlowfileV1, &key, None, value.as_bytes()).unwrap().expose_secret(),
            secret(id).as_bytes()
        );
    }
}

#[test]
fn plain_text_is_taken_by_a_migration_and_by_nothing_else() {
    let app = App::new(&TOKENS.replace("\"flowfile-legacy-master\"]", "\"plaintext\"]"));
    app.fill_legacy(2);
    app.insert(5, "in the clear");
    app.insert(6, "");
    let counted = app.vault().rotation(Scope::All, Access::Read).unwrap().count(true).unwrap().remove(0);
    assert_eq!((counted.unmigrated, counted.empty, counted.failed), (3, 1, 0));
    app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
    let token: Token = app.values()[2].1.parse().unwrap();
    assert_eq!(app.vault().open(&context(5), &token).unwrap().expose_secret(), b"in the clear");
    assert_eq!(app.values()[3].1, "");
}

/// Several formats under two keys in one column, one of them without a MAC.
#[test]
fn mixed_columns_of_a_format_without_a_mac_are_moved_or_left() {
    let column = "reads = [\"vs1\", \"social-v1\", \"social-cbc-legacy\", \"plaintext\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n";
    let app = App::new(column);
    let file = crate::vector_file("apps/social-publisher.json");
    let legacy = file["legacy_cbc"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["plaintext"].as_str().unwrap().len() > 8)
        .unwrap();
    fs::write(app.path("text_1"), legacy["encryption_key"].as_str().unwrap()).unwrap();
    app.insert(1, legacy["token"].as_str().unwrap());
    app.insert(2, "a plain token");
    let v1 =
        file["v1"].as_array().unwrap().iter().find(|case| case["encryption_key"] == legacy["encryption_key"]).unwrap();
    app.insert(3, v1["token"].as_str().unwrap());
    let summary = app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.end), (3, End::Clean), "{summary:?}");
    let vault = app.vault();
    let opened = |at: usize| vault.open(&context(app.values()[at].0), &app.values()[at].1.parse().unwrap()).unwrap();
    assert_eq!(opened(0).expose_secret(), legacy["plaintext"].as_str().unwrap().as_bytes());
    assert_eq!(opened(1).expose_secret(), b"a plain token");
    assert_eq!(opened(2).expose_secret(), v1["plaintext"].as_str().unwrap().as_bytes());
}

/// A ciphertext that does not open must never become the secret.
#[test]
fn what_does_not_open_is_not_taken_for_plain_text() {
    let reads = |formats: &str| {
        format!(
            "reads = [\"vs1\", {formats} \"plaintext\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n"
        )
    };
    let app = App::new(&reads(""));
    let key = app.text_key("text_1");
    let sealed = |format: Format| seal(format, &key, Some("7"), b"{\"secret\": 1}").unwrap();
    let other = MasterKey::generate().unwrap();
    fs::write(app.path("text_1"), other.text().expose_secret()).unwrap();
    let cbc = "0123456789abcdef".repeat(2);
    let own = app.vault().seal(&context(1), b"x").unwrap().to_string();
    let mut formats: Vec<(String, String)> = [
        Format::FaceJson,
        Format::Fernet,
        Format::FlowfileLegacyUser,
        Format::FlowfileStore,
        Format::FlowfileV1,
        Format::SocialGcm16,
        Format::SocialV1,
    ]
    .map(|format| (format!("\"{format}\","), sealed(format)))
    .into();
    formats.push(("\"social-cbc-legacy\",".to_owned(), cbc.clone()));
    formats.push((String::new(), own));
    for (format, value) in &formats {
        app.configure(&reads(format));
        app.connect().execute_batch("DELETE FROM secrets").unwrap();
        app.insert(0, "in the clear");
        // Under a key that is not there, and with each byte wrong in turn.
        if !format.is_empty() {
            app.insert(1, value);
        }
        for at in 0..value.len() {
            let mut flipped = value.clone().into_bytes();
            flipped[at] ^= 1;
            app.insert(2 + at as u64, core::str::from_utf8(&flipped).unwrap());
        }
        let before = app.values();
        let vault = app.vault();
        let mut rotation = vault.rotation(Scope::All, Access::Write).unwrap();
        let counted = rotation.count(true).unwrap().remove(0);
        assert_eq!((counted.unmigrated, counted.failed), (1, before.len() as u64 - 1), "{format}");
        let summary = run(&mut rotation, &Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
        assert_eq!((summary.rewritten, summary.end), (1, End::Stale), "{format}");
        assert_eq!(app.values()[1..], before[1..], "{format}: they are left as they are");
        rotation.abort().unwrap();
    }

    // Not listed, but plainly sealed; and bare hex, which providers give out as well.
    app.configure(&reads(""));
    app.connect().execute_batch("DELETE FROM secrets").unwrap();
    let future = ["vs2.kaaaaaaaaaaaaaaaa.x", "vk10.x"].map(str::to_owned);
    let legacy = formats[..7].iter().map(|(_, value)| value.clone());
    let plain = [cbc.as_str(), "v1:x", "vs.x", "vsx1.y", "EAAAAAYsX7TsBAPZB", "a:b:c", "$ffsec"].map(str::to_owned);
    for (id, value) in future.into_iter().chain(legacy).chain(plain).enumerate() {
        app.insert(id as u64, &value);
    }
    let summary = app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.failed.len()), (7, 9));
    assert!(summary.failed.iter().all(|(row, _)| row.to_string().parse::<u64>().unwrap() < 9));
}

#[test]
fn a_changed_context_is_resealed() {
    let app = App::new(TOKENS);
    app.fill_tokens(30);
    app.configure(&format!(
        "{TOKENS}context = {{ tenant = \"{{user_id}}\", name = \"id-{{id}}\", purpose = \"user-secret\" }}\n"
    ));
    let old = ContextTemplate::default().with("tenant", "{user_id}").unwrap().with("name", "{name}").unwrap();
    let wrong = app.run(&Job::Reseal(old.clone()), &RunOptions::default()).unwrap();
    assert_eq!(wrong.end, End::Stale, "without the purpose it is not the old context");
    let old = old.with("purpose", "user-secret").unwrap();
    let summary = app.run(&Job::Reseal(old.clone()), &batches_of(4)).unwrap();
    assert_eq!((summary.rewritten, summary.end), (30, End::Clean));
    let vault = app.vault();
    for (id, value) in app.values() {
        let now = Context::new("user-secret").tenant((id % 7).to_string()).name(format!("id-{id}"));
        assert_eq!(vault.open(&now, &value.parse().unwrap()).unwrap().expose_secret(), secret(id).as_bytes());
    }
    assert_eq!(app.run(&Job::Reseal(old), &RunOptions::default()).unwrap().rewritten, 0);
}

#[test]
fn a_deep_rotation_gives_new_data_keys_and_finds_moved_tokens() {
    let app = App::new(TOKENS);
    app.fill_tokens(20);
    let moved = app.values()[4].1.clone();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 9", [&moved]).unwrap();
    let before = app.values();
    app.promote_new("main");
    for rewritten in [19, 0] {
        let summary = app.run(&Job::RotateDeep, &RunOptions::default()).unwrap();
        assert_eq!((summary.rewritten, summary.failed_rows, summary.end), (rewritten, 1, End::Stale));
        assert_eq!(summary.failed[0].0.to_string(), "9");
    }
    for ((id, old), (_, now)) in before.iter().zip(app.values()) {
        assert_eq!(old[87..] == now[87..], *id == 9, "a new payload under a new data key");
    }
}

#[test]
fn a_deep_rotation_reseals_once_between_two_verifications() {
    for options in [batches_of(3), stopped()] {
        let app = App::new(TOKENS);
        app.fill_tokens(10);
        let new = app.promote_new("main");
        let vault = app.vault();
        let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
        let mut run = |job: &Job| run(&mut rotation, job, &options).map(|done| (done.rewritten, done.end));
        let payloads = || app.values().into_iter().map(|(_, value)| value[87..].to_owned()).collect::<Vec<_>>();

        assert_eq!(run(&Job::Rotate).unwrap(), (10, End::Clean));
        let (rewrapped, refused) = (payloads(), run(&Job::RotateDeep).unwrap_err());
        assert!(matches!(refused, Error::Refused { .. }), "another job is open: {refused}");
        app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().verify().unwrap();

        assert_eq!(run(&Job::RotateDeep).unwrap(), (10, End::Clean), "also what was rewrapped");
        let first = payloads();
        assert!(rewrapped.iter().zip(&first).all(|(old, now)| old != now));
        assert_eq!(run(&Job::RotateDeep).unwrap(), (0, End::Clean));
        assert!(matches!(run(&Job::Rotate), Err(Error::Refused { .. })));
        assert_eq!(payloads(), first);
        app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().verify().unwrap();
        assert_eq!(run(&Job::RotateDeep).unwrap(), (10, End::Clean));
        assert!(first.iter().zip(payloads()).all(|(old, now)| *old != now));
        assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{new}."))));
        app.all_open();
    }
}

#[test]
fn a_deep_rotation_that_is_stopped_goes_on_where_it_was() {
    let app = App::new(TOKENS);
    app.fill_tokens(30);
    let late = app.vault();
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let half = rotation.run(&Job::RotateDeep, &batches_of(10), &mut |_| ControlFlow::Break(())).unwrap().remove(0);
    assert_eq!((half.rewritten, half.end), (10, End::Stopped));
    let done = app.values();
    // Behind the cursor, a process that still seals under the old key.
    let token = late.seal(&context(4), secret(4).as_bytes()).unwrap().to_string();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 4", [&token]).unwrap();
    let rest = run(&mut rotation, &Job::RotateDeep, &batches_of(10)).unwrap();
    assert_eq!((rest.rewritten, rest.end), (21, End::Clean));
    for ((id, old), (_, now)) in done.iter().zip(app.values()) {
        assert_eq!(*old == now, *id <= 10 && *id != 4, "row {id}");
        assert!(*id != 4 || now[87..] != token[87..]);
    }
    assert_eq!(run(&mut rotation, &Job::RotateDeep, &batches_of(10)).unwrap().rewritten, 0);
    app.all_open();
}

/// What a trigger keeps from being sealed again is told, though it is under the new key.
#[test]
fn a_deep_rotation_lists_what_the_database_refuses() {
    let app = App::new(TOKENS);
    app.fill_tokens(3);
    app.connect()
        .execute_batch("CREATE TRIGGER t BEFORE UPDATE ON secrets WHEN OLD.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let summary = app.run(&Job::RotateDeep, &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.failed_rows, summary.stale, summary.end), (2, 1, 0, End::Stale));
}

#[test]
fn immutable_rows_are_pinned_and_keep_their_key() {
    let app = App::new(&format!("{TOKENS}immutable = true\n"));
    app.fill_tokens(5);
    let before = app.values();
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    let summary = app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (0, 5, End::Pinned));
    assert_eq!(app.values(), before);
    let vault = app.vault();
    let verification = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap().verify().unwrap();
    assert!(verification.is_clean(), "pinned rows do not fail it");
    assert!(verification.retired(old).unwrap_err().to_string().contains("may never be updated"));
}

#[test]
fn rows_outside_the_filter_are_left_and_counted() {
    let app = App::new(&format!("{TOKENS}filter = \"user_id = 3\"\n"));
    app.fill_tokens(70);
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    let summary = app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (10, 60, End::Stale), "running again would not help");
    let vault = app.vault();
    let verification = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap().verify().unwrap();
    assert!(verification.retired(old).unwrap_err().to_string().contains("60 values"));
}

/// An answer that is out of date retires nothing.
#[test]
fn the_proof_that_a_key_may_go_expires_with_the_keyring() {
    let app = App::new(TOKENS);
    app.fill_tokens(3);
    let old = app.vault().sealer().unwrap().primary().unwrap();
    let new = app.promote_new("main");
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    rotation.fence(None).unwrap();
    let proof = rotation.verify().unwrap().retired(old).unwrap();
    let fenced = crate::promote(&vault, "main", old, None).unwrap_err();
    assert!(fenced.to_string().contains("is fenced against key"), "{fenced}");
    rotation.unfence(&crate::followed(&vault, "main", None)).unwrap();
    crate::promote(&vault, "main", old, None).unwrap();
    crate::promote(&vault, "main", new, None).unwrap();
    assert!(matches!(crate::disable(&vault, "main", proof), Err(Error::Temporary { .. })));
}

/// A process may hold a token that it sealed before it read that the key no longer seals.
#[test]
fn the_fence_against_a_disabled_key_comes_before_the_proof_and_stays() {
    let app = App::new(TOKENS);
    app.fill_tokens(3);
    let late = app.values().remove(0).1;
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    let unfenced = rotation.verify().unwrap();
    unfenced.unneeded(old).unwrap();
    let refused = unfenced.retired(old).unwrap_err();
    assert!(refused.hint().unwrap().contains("vault rotate fence"), "{refused:?}");
    rotation.fence(None).unwrap();
    let proof = rotation.verify().unwrap().retired(old).unwrap();
    crate::disable(&vault, "main", proof).unwrap();

    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    assert!(rotation.unfenceable().unwrap().is_empty());
    assert_eq!(rotation.unfence(&crate::followed(&vault, "main", None)).unwrap(), ["c"]);
    let written = app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [late]);
    assert!(written.unwrap_err().to_string().contains("vault"), "the late write fails loudly");
    vault.key_change("main", &Change::Enable(old), None).unwrap();
    let vault = app.vault();
    assert!(
        vault
            .rotation(Scope::All, Access::Write)
            .unwrap()
            .unfence(&crate::followed(&vault, "main", None))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn columns_that_have_no_fence_are_no_obstacle_to_one() {
    for (column, obstacles) in [(TOKENS.to_owned(), 1), (format!("{TOKENS}immutable = true\n"), 0)] {
        let app = App::new(&column);
        app.fill_tokens(2);
        let old = app.vault().sealer().unwrap().primary().unwrap();
        app.promote_new("main");
        let vault = app.vault();
        let mut rotation = vault.rotation(Scope::All, Access::Write).unwrap();
        for kid in [None, Some(old)] {
            let found = rotation.fence_obstacles(kid).unwrap();
            assert_eq!(found.len(), obstacles, "{found:?}");
            assert_eq!(rotation.fence(kid).is_err(), obstacles > 0);
        }
        run(&mut rotation, &Job::Rotate, &RunOptions::default()).unwrap();
        assert!(rotation.fence_obstacles(None).unwrap().is_empty());
        rotation.fence(None).unwrap();
        let fences = if obstacles > 0 { vec![("c".to_owned(), vec![old])] } else { vec![] };
        assert_eq!(rotation.fences().unwrap(), fences);
    }
}

#[test]
fn what_stands_in_the_way_is_told_with_what_helps_against_it() {
    let app = App::new(TOKENS);
    app.fill_legacy(2);
    let key = app.text_key("text_1").kid();
    app.promote_new("text");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("text"), Access::Write).unwrap();
    let refused = rotation.verified().unwrap().retired(key).unwrap_err();
    assert!(refused.hint().unwrap().contains("vault migrate c --to vs1"), "{refused:?}");

    app.configure(&format!("{TOKENS}member = \"x\"\n"));
    app.connect().execute_batch("INSERT INTO secrets (id, v) VALUES (8, '{\"x\": \"\"}')").unwrap();
    for job in [Job::Rotate, Job::Migrate(Format::Vs1)] {
        let vault = app.vault();
        let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
        let failed = run(&mut rotation, &job, &RunOptions::default()).unwrap().failed;
        assert!(failed.len() == 2 && failed[0].1.contains("repair or remove the row"), "{failed:?}");
        rotation.abort().unwrap();
    }
}

#[test]
fn where_nothing_is_verified_nothing_is_clean() {
    let app = App::new(TOKENS);
    app.fill_tokens(1);
    let config = fs::read_to_string(app.path("vault.toml")).unwrap();
    fs::write(
        app.path("vault.toml"),
        config.replace("[[column]]", "[keyring.other]\nsources = [\"file:other_*\"]\n[[column]]"),
    )
    .unwrap();
    app.generate("other_1");
    let vault = app.vault();
    let clean = |scope| vault.rotation(scope, Access::Write).unwrap().verify().unwrap().is_clean();
    assert!(clean(Scope::Keyring("main")));
    assert!(!clean(Scope::Keyring("other")));
}

#[test]
fn failed_rows_are_all_counted_and_listed_while_they_fail() {
    let app = App::new(LEGACY);
    app.configure(TOKENS);
    app.fill_legacy(2);
    let connection = app.connect();
    connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 1210)
             INSERT INTO secrets (id, user_id, name, v) SELECT i, 1, 'x', 'nothing' FROM n;
             CREATE TRIGGER t BEFORE UPDATE ON secrets WHEN OLD.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let migrate = Job::Migrate(Format::Vs1);
    let summary = run(&mut rotation, &migrate, &batches_of(100)).unwrap();
    assert_eq!((summary.rewritten, summary.failed_rows, summary.failed.len()), (1, 1_202, 1_000));
    assert_eq!(summary.stale, 1_202);
    connection.execute_batch("DELETE FROM secrets WHERE id > 30; DROP TRIGGER t").unwrap();
    connection.execute("UPDATE secrets SET v = ?1 WHERE id = 20", [&app.values()[0].1]).unwrap();
    let summary = run(&mut rotation, &migrate, &batches_of(100)).unwrap();
    let failures: Vec<_> = rotation.failures().unwrap().into_iter().map(|(_, row, _)| row.to_string()).collect();
    let expected: Vec<_> = (10..=30).filter(|id| *id != 20).map(|id: u64| id.to_string()).collect();
    assert_eq!((summary.rewritten, failures.clone()), (1, expected), "what vanished or was repaired is not listed");
    let listed: Vec<_> = summary.failed.iter().map(|(row, _)| row.to_string()).collect();
    assert_eq!(listed, failures);
}

/// Where there is much that nobody can move, a run does not write all of it down.
#[test]
fn a_run_notes_no_more_failed_rows_than_it_lists() {
    let app = App::new(TOKENS);
    app.connect()
        .execute_batch(
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1300)
             INSERT INTO secrets (id, user_id, name, v) SELECT i, 1, 'x', 'nothing' FROM n",
        )
        .unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let stopped = rotation.run(&Job::Rotate, &batches_of(100), &mut |step| {
        if step.rows == 1_300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap()[0].end, End::Stopped);
    assert_eq!(rotation.failures().unwrap().len(), 1_000);
    let summary = run(&mut rotation, &Job::Rotate, &batches_of(100)).unwrap();
    assert_eq!((summary.failed_rows, summary.stale, summary.failed.len()), (1_300, 1_300, 1_000));
    assert_eq!(rotation.failures().unwrap().len(), 1_000);
}

#[test]
fn a_plan_tells_what_a_run_could_not_finish() {
    let app = App::new(TOKENS);
    app.fill_tokens(9);
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let mut plan = |job: &Job| rotation.plan(job, &RunOptions::default()).unwrap().remove(0);
    let good = plan(&Job::Rotate);
    let count = good.count.unwrap();
    assert_eq!((good.end, good.rewritten, good.stale, count.under(old), count.stale), (End::Clean, 9, 9, 9, 9));

    // A key that nobody knows, an unknown version, a legacy value.
    let stranger = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    for value in [stranger.seal(&context(1), b"x").unwrap().to_string(), "vs9.x".to_owned()] {
        app.insert(20, &value);
        let bad = plan(&Job::Rotate);
        assert_eq!((bad.end, bad.rewritten, bad.failed_rows), (End::Stale, 9, 1), "{value}");
        app.connect().execute_batch("DELETE FROM secrets WHERE id = 20").unwrap();
    }
    app.insert(20, &seal(Format::FlowfileV1, &app.text_key("text_1"), Some("6"), b"x").unwrap());
    app.insert(21, "nothing");
    let bad = plan(&Job::Rotate);
    assert_eq!((bad.end, bad.unmigrated, bad.failed_rows), (End::Stale, 1, 1));
    let count = bad.count.unwrap();
    assert_eq!((count.unmigrated, count.failed), (1, 1));
    app.connect().execute_batch("DELETE FROM secrets WHERE id = 21").unwrap();
    assert_eq!((plan(&Job::Rotate).end, plan(&Job::Migrate(Format::Vs1)).rewritten), (End::Clean, 1));
    let done = app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((done.end, done.rewritten, done.unmigrated), (End::Clean, 9, 1));
    app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();

    // What the applications would not read, and another run.
    let refused = plan(&Job::Migrate(Format::FlowfileV1));
    assert!(refused.end == End::Stale && refused.findings.iter().any(|finding| finding.to_string().contains("writes")));
    let old_context = Job::Reseal(ContextTemplate::default().with("name", "{name}").unwrap());
    app.run(&old_context, &RunOptions::default()).unwrap();
    app.connect().execute_batch("DELETE FROM secrets WHERE id = 20").unwrap();
    let refused = plan(&Job::Rotate);
    assert!(refused.end == End::Stale && refused.findings.iter().any(|finding| finding.to_string().contains("abort")));
}

#[test]
fn a_plan_tells_of_rows_outside_the_filter() {
    let app = App::new(&format!("{TOKENS}filter = \"user_id = 3\"\n"));
    app.fill_tokens(14);
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Read).unwrap();
    let plan = rotation.plan(&Job::Rotate, &RunOptions::default()).unwrap().remove(0);
    assert_eq!((plan.rewritten, plan.stale, plan.end), (2, 14, End::Stale));
}

/// What is left of a migration is told, and its record stays.
#[test]
fn verification_forgets_finished_rotations_only() {
    let app = App::new(TOKENS);
    app.fill_legacy(3);
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::All, Access::Write).unwrap();
    let jobs = |rotation: &mut Rotation<'_>, job: &Job| {
        run(rotation, job, &RunOptions::default()).unwrap();
        let verification = rotation.verify().unwrap();
        assert!(verification.is_clean());
        let left: Vec<_> = rotation.runs().unwrap().into_iter().map(|(_, run)| run.job).collect();
        (verification.unmigrated(), left)
    };
    app.connect().execute_batch("UPDATE secrets SET v = v || 'x' WHERE id = 2").unwrap();
    run(&mut rotation, &Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
    app.connect().execute_batch("DELETE FROM secrets WHERE id = 2").unwrap();
    app.insert(9, &seal(Format::FlowfileV1, &app.text_key("text_1"), Some("2"), b"late").unwrap());
    let verification = rotation.verify().unwrap();
    assert_eq!((verification.is_clean(), verification.unmigrated()), (true, 1));
    assert_eq!(rotation.runs().unwrap()[0].1.job, "migrate");
    assert_eq!(jobs(&mut rotation, &Job::Migrate(Format::Vs1)), (0, vec!["migrate".to_owned()]));
    rotation.abort().unwrap();
    assert_eq!(jobs(&mut rotation, &Job::Rotate), (0, vec![]));

    // A record of a rotation to a key that is primary no more.
    run(&mut rotation, &Job::Rotate, &RunOptions::default()).unwrap();
    app.promote_new("main");
    let later = app.vault();
    let mut later = later.rotation(Scope::All, Access::Write).unwrap();
    app.connect().execute_batch("DELETE FROM secrets").unwrap();
    assert!(later.verify().unwrap().is_clean());
    assert_eq!(later.runs().unwrap().len(), 1);
}

/// A backup that is restored may bring values under a disabled key back: its tombstone would lose
/// them.
#[test]
fn a_key_that_a_value_needs_again_is_not_destroyed() {
    let app = App::new(TOKENS);
    app.fill_tokens(3);
    let backup = app.values().remove(0).1;
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    let verified = || app.vault().rotation(Scope::UsesKeyring("main"), Access::Write).unwrap().verified().unwrap();
    app.vault().rotation(Scope::All, Access::Write).unwrap().fence(None).unwrap();
    crate::disable(&app.vault(), "main", verified().retired(old).unwrap()).unwrap();
    fs::remove_file(app.path("kek_1")).unwrap();
    let proof = verified().retired(old).unwrap();
    // The backup is older than the fence.
    let connection = app.connect();
    let fences: Vec<String> = connection
        .prepare("SELECT 'DROP TRIGGER ' || quote(name) FROM sqlite_schema WHERE type = 'trigger'")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    connection.execute_batch(&fences.join(";")).unwrap();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [&backup]).unwrap();
    let refused = verified().retired(old).unwrap_err();
    assert!(refused.to_string().contains("column c holds 1 values"), "{refused}");
    app.connect().execute("DELETE FROM secrets WHERE id = 1", []).unwrap();
    assert_eq!(proof.kid(), old);
    app.vault().key_change("main", &Change::Destroy(proof), None).unwrap();
}

#[test]
fn a_plan_changes_nothing() {
    let app = App::new(TOKENS);
    app.fill_tokens(20);
    app.promote_new("main");
    let before = fs::read(app.path("app.db")).unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Read).unwrap();
    let plan = rotation.plan(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((plan[0].rows, plan[0].rewritten), (20, 20));
    rotation.count(true).unwrap();
    drop(rotation);
    assert_eq!(fs::read(app.path("app.db")).unwrap(), before);
    assert!(!app.path("app.db-wal").exists() && !app.path("app.db-journal").exists());
}

/// Rolling back is promoting the old key again: the same tokens come back.
#[test]
fn a_rotation_can_be_rolled_back() {
    let app = App::new(TOKENS);
    app.fill_tokens(40);
    let before = app.values();
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    let vault = app.vault();
    vault.rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();
    crate::promote(&vault, "main", old, None).unwrap();
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!(app.values(), before);
}

/// A value that was sealed and then dressed up by a careless program is not sealed again.
#[test]
fn a_migration_leaves_what_looks_sealed() {
    let app = App::new("reads = [\"vs1\", \"plaintext\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nlinked = true\n");
    let token = app.vault().seal(&context(1), b"sealed").unwrap().to_string();
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    let dressed = [
        format!("\"{token}\""),
        format!("b'{token}'"),
        format!(" {token}"),
        format!("\\x{hex}"),
        format!("{{\"token\": \"{token}\"}}"),
    ];
    for (id, value) in (1..).zip(&dressed) {
        app.insert(id, value);
    }
    app.insert(90, "\"a quoted secret\"");
    for _ in 0..2 {
        let summary = app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
        assert_eq!((summary.failed_rows, summary.end), (5, End::Stale));
        assert!(summary.failed.iter().all(|(_, reason)| reason.contains("looks sealed")), "{:?}", summary.failed);
        let values = app.values();
        assert!(values.iter().zip(&dressed).all(|((_, now), before)| now == before));
        assert!(values[5].1.starts_with("vs1."));
    }
    let vault = app.vault();
    let verification = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
    assert_eq!(verification.columns[0].failed, 5, "and it keeps the keys");
}

/// What no application opens by default is told, and written only where somebody says that they do.
#[test]
fn a_migration_seals_nothing_that_applications_would_not_open() {
    let app = App::new("reads = [\"vs1\", \"plaintext\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nlinked = true\n");
    let long = "document ".repeat(120_000);
    app.insert(1, &long);
    app.insert(2, &long[..1 << 20]);
    let summary = app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap();
    assert_eq!((summary.rewritten, summary.failed_rows, summary.end), (1, 1, End::Stale));
    assert!(
        summary.failed[0].1.contains("longer than 1048576 bytes") && summary.failed[0].1.contains("--max-plaintext")
    );
    assert_eq!(app.values()[0].1, long);
    app.vault().open(&context(2), &app.values()[1].1.parse().unwrap()).unwrap();
    let mut options = RunOptions::default();
    options.max_plaintext = 2 << 20;
    assert_eq!(app.run(&Job::Migrate(Format::Vs1), &options).unwrap().end, End::Clean);
    app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();
    // What is a token already moves whatever its length.
    app.promote_new("main");
    assert_eq!(app.run(&Job::Rotate, &RunOptions::default()).unwrap().end, End::Clean);
    app.vault().rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();
    assert_eq!(app.run(&Job::RotateDeep, &RunOptions::default()).unwrap().end, End::Clean);
}

/// An application that has its secrets in the name of another table of the database.
#[test]
fn a_run_over_another_table_of_the_same_name_is_refused() {
    let app = App::new(TOKENS);
    app.fill_tokens(20);
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    rotation.run(&Job::Rotate, &RunOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let run = rotation.runs().unwrap().remove(0).1;
    assert_eq!((run.place.as_str(), run.rows), ("main.secrets", 20));
    app.connect().execute("UPDATE vault_core_rotation SET place = 'main.others'", []).unwrap();
    for refused in [
        rotation.verified().map(drop),
        rotation.verify().map(drop),
        rotation
            .run(&Job::Rotate, &RunOptions::default(), &mut |_| ControlFlow::Continue(()))
            .map(drop)
            .map_err(Error::from),
    ] {
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("over 20 rows of main.others") && told.contains("means main.secrets now"), "{told}");
    }
}
