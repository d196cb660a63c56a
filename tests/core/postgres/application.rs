//! An application with a table of secrets on PostgreSQL, and its configuration.

use core::ops::ControlFlow;
use std::fs;
use std::path::PathBuf;

use vault_core::legacy::{LegacyKey, seal};
use vault_core::rotate::{Job, Rotation, RunOptions, Summary};
use vault_core::{Access, Config, Context, Format, KeyId, MasterKey, Scope, TextKey, Token, Trim, Vault};

use crate::server::Database;

/// An application with keyrings of both kinds, and a table `secrets` that a column is declared for.
pub(super) struct App {
    pub(super) directory: tempfile::TempDir,
    pub(super) database: Database,
}

pub(super) const TOKENS: &str = "reads = [\"vs1\", \"flowfile-v1\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n";

impl App {
    /// With a configuration that names `url`, and `column` behind table, row and value.
    pub(super) fn new(column: &str) -> Self {
        let app = Self { directory: tempfile::tempdir().unwrap(), database: Database::new() };
        app.generate("kek_1");
        app.generate("text_1");
        app.configure(&app.database.url(), column);
        app.database.execute(
            "CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, v text, counter bigint NOT NULL DEFAULT 0);
             CREATE INDEX ON secrets (left(v, 22))",
        );
        app
    }

    pub(super) fn configure(&self, url: &str, column: &str) {
        let text = format!(
            "version = 1\n[vault]\nnodes = 1\n\
             [keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
             [keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"text.keyring.toml\"\n\
             [[column]]\nname = \"c\"\ndatabase = \"{url}\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n{column}\
             context = {{ tenant = \"{{user_id}}\", name = \"{{name}}\", purpose = \"user-secret\" }}\n"
        );
        fs::write(self.path("vault.toml"), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn generate(&self, name: &str) {
        fs::write(self.path(name), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    }

    pub(super) fn config(&self) -> Config {
        Config::from_file(self.path("vault.toml")).unwrap()
    }

    pub(super) fn vault(&self) -> Vault {
        Vault::load(self.config()).unwrap()
    }

    /// Adds a key and makes it primary.
    pub(super) fn promote_new(&self, keyring: &str) -> KeyId {
        let name = format!("new_{keyring}");
        self.generate(&name);
        let kid = Vault::key_add(&self.config(), keyring, &self.path(&name), Some("2"), None).unwrap();
        crate::promote(&self.vault(), keyring, kid, None).unwrap();
        kid
    }

    pub(super) fn text_key(&self, name: &str) -> LegacyKey {
        LegacyKey::new(TextKey::parse(&fs::read(self.path(name)).unwrap(), Trim::Python).unwrap())
    }

    /// Rows 1 to `rows`, each with the value that `value` gives.
    pub(super) fn fill(&self, rows: u64, value: impl Fn(u64) -> String) {
        let mut client = self.database.connect();
        let mut transaction = client.transaction().unwrap();
        for id in 1..=rows {
            let (tenant, number) = (i64::try_from(id % 7).unwrap(), i64::try_from(id).unwrap());
            transaction
                .execute(
                    "INSERT INTO secrets (id, user_id, name, v) VALUES ($1, $2, $3, $4)",
                    &[&number, &tenant, &format!("n{id}"), &value(id)],
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    pub(super) fn fill_tokens(&self, rows: u64) {
        let vault = self.vault();
        self.fill(rows, |id| vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string());
    }

    pub(super) fn fill_legacy(&self, rows: u64) {
        let key = self.text_key("text_1");
        self.fill(rows, |id| {
            seal(Format::FlowfileV1, &key, Some(&(id % 7).to_string()), secret(id).as_bytes()).unwrap()
        });
    }

    pub(super) fn values(&self) -> Vec<(u64, String)> {
        let rows = self.database.connect().query("SELECT id, v FROM secrets ORDER BY id", &[]).unwrap();
        rows.iter().map(|row| (u64::try_from(row.get::<_, i64>(0)).unwrap(), row.get(1))).collect()
    }

    /// Every value opens as a token, and is a secret of its row.
    pub(super) fn all_open(&self) {
        let vault = self.vault();
        for (id, value) in self.values() {
            let opened = vault.open(&context(id), &value.parse::<Token>().unwrap()).unwrap();
            assert!(opened.expose_secret().starts_with(secret(id).as_bytes()));
        }
    }

    pub(super) fn run(&self, job: &Job, options: &RunOptions) -> vault_core::Result<Summary> {
        let vault = self.vault();
        let mut rotation = vault.rotation(Scope::Column("c"), Access::Write)?;
        run(&mut rotation, job, options)
    }
}

pub(super) fn run(rotation: &mut Rotation<'_>, job: &Job, options: &RunOptions) -> vault_core::Result<Summary> {
    Ok(rotation.run(job, options, &mut |_| ControlFlow::Continue(()))?.remove(0))
}

pub(super) fn context(id: u64) -> Context {
    Context::new("user-secret").tenant((id % 7).to_string()).name(format!("n{id}"))
}

pub(super) fn secret(id: u64) -> String {
    format!("secret {id} ")
}

pub(super) fn batches_of(rows: usize) -> RunOptions {
    let mut options = RunOptions::default();
    options.batch = rows;
    options
}

pub(super) fn stopped() -> RunOptions {
    let mut options = RunOptions::default();
    options.app_stopped = true;
    // The test looks at the database itself.
    options.despite_sessions = true;
    options
}
