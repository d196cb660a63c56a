//! Who is connected to, and how.

use vault_core::{Access, Error, PostgresDatabase, Result};

use crate::server::{Database, Standby, role, server};

use super::{number, open, url};

fn connect(text: &str) -> Result<PostgresDatabase> {
    PostgresDatabase::open(&url(text), Access::Write)
}

/// The reason of a failed connection.
fn refusal(text: &str) -> String {
    let error = connect(text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error.to_string()
}

/// A database with a user that logs in with a password, and one with a certificate.
fn with_users() -> Database {
    let database = Database::new();
    role("scrammed", "PASSWORD 'hunter2 @/%'");
    role("certified", "");
    database
}

#[test]
fn a_server_proves_who_it_is() {
    let database = with_users();
    let ca = server().path("ca.crt").display().to_string();
    let user = "scrammed:hunter2%20%40%2F%25";
    let full = connect(&database.tcp(user, &format!("sslmode=verify-full&sslrootcert={ca}"))).unwrap();
    assert_eq!(full.name(), format!("postgresql://scrammed@localhost:{}/{}", server().port, database.name));
    // The certificate is of another host, of another authority, or of nobody that browsers trust.
    let other_name =
        database.tcp(user, &format!("sslmode=verify-full&sslrootcert={ca}")).replace("localhost", "127.0.0.1");
    assert!(refusal(&other_name).contains("for another host"), "{}", refusal(&other_name));
    let other_ca = server().path("other.crt").display().to_string();
    let told = refusal(&database.tcp(user, &format!("sslmode=verify-full&sslrootcert={other_ca}")));
    assert!(told.contains("no trusted authority"), "{told}");
    let told = refusal(&database.tcp(user, "sslmode=verify-full"));
    assert!(told.contains("no trusted authority"), "{told}");
    connect(&other_name.replace("verify-full", "verify-ca")).unwrap();
    assert!(refusal(&database.tcp(user, &format!("sslmode=verify-ca&sslrootcert={other_ca}"))).contains("authority"));
    assert!(refusal(&database.tcp(user, &format!("sslmode=require&sslrootcert={other_ca}"))).contains("authority"));
    connect(&database.tcp(user, "sslmode=require")).unwrap();
    connect(&database.tcp(user, "sslmode=require&channel_binding=require")).unwrap();
    connect(&database.tcp(user, "")).unwrap();
    let told = refusal(&database.tcp(user, "sslmode=disable"));
    assert!(told.contains("let this user in"), "{told}");
}

#[test]
fn what_is_wrong_with_a_login_is_told_without_it() {
    let database = with_users();
    let told = refusal(&database.tcp("scrammed:hunter2", "sslmode=require"));
    assert!(told.contains("does not accept the password (SQLSTATE 28P01)"), "{told}");
    assert!(refusal(&database.tcp("scrammed", "sslmode=require")).contains("the URL misses a part"));
    let told = refusal(&database.url().replace(&database.name, "no_such_database"));
    assert!(told.contains("does not exist (SQLSTATE 3D000)"), "{told}");
    assert!(refusal("postgresql://u@localhost:1/d?sslmode=disable").contains("refused"));
    assert!(refusal("postgresql://u@no-such-host.invalid/d").contains("not found"));
    let missing = database.tcp("scrammed", "sslmode=verify-full&sslrootcert=/no/such/file");
    assert!(matches!(connect(&missing), Err(Error::Io { .. })));
}

#[test]
fn a_client_proves_who_it_is() {
    let database = with_users();
    let [ca, certificate, key] =
        ["ca.crt", "client.crt", "client.key"].map(|name| server().path(name).display().to_string());
    let url =
        database.tcp("certified", &format!("sslmode=verify-full&sslrootcert={ca}&sslcert={certificate}&sslkey={key}"));
    connect(&url).unwrap();
    assert!(connect(&database.tcp("certified", &format!("sslmode=verify-full&sslrootcert={ca}"))).is_err());
}

#[test]
fn a_lost_connection_is_made_again() {
    let database = Database::new();
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut column = super::column(&database);
    let kill = || {
        number(
            &database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()",
        )
    };
    for _ in 0..3 {
        use vault_core::column::Column as _;
        assert!(kill() >= 1);
        assert_eq!(column.survey().unwrap().other, 0);
    }
}

#[test]
fn looking_changes_nothing() {
    use vault_core::column::{Column as _, PostgresColumn};
    let database = super::application(3);
    let mut column = PostgresColumn::new(open(&database, Access::Read), super::spec(&database)).unwrap();
    assert_eq!(column.survey().unwrap().tokens.len(), 1);
    assert!(column.run().unwrap().is_none());
    let error = column.open_run(&super::new_run("x")).unwrap_err();
    assert!(error.to_string().contains("SQLSTATE 25006"), "{error}");
}

/// A thread of another runtime would be blocked by it.
#[test]
fn a_thread_of_a_runtime_is_refused() {
    let database = Database::new();
    let text = database.url();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refused = |error: Error| {
        assert!(matches!(&error, Error::Refused { remedy, .. } if remedy.contains("spawn_blocking")), "{error}");
    };
    refused(runtime.block_on(async move { connect(&text).unwrap_err() }));
    // So it is by a connection that was made elsewhere.
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut column = super::column(&database);
    refused(runtime.block_on(async move {
        let error = vault_core::column::Column::survey(&mut column).unwrap_err();
        // Its end waits for nobody there.
        drop(column);
        error
    }));
}

/// Its threads for what blocks are made for it, and so is one that runs nothing of it.
#[test]
fn threads_that_may_block_are_not_refused() {
    use vault_core::column::Column as _;
    let database = Database::new();
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut column = super::column(&database);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let blocking = async move {
        let survey = move || column.survey().map(|_| column);
        tokio::task::spawn_blocking(survey).await.unwrap().unwrap()
    };
    let mut column = runtime.block_on(blocking);
    let _known = runtime.enter();
    column.survey().unwrap();
}

/// One connection has one set of options: of another URL's, the tables would be looked up elsewhere.
#[test]
fn urls_of_one_database_agree_or_are_refused() {
    let database = Database::new();
    let opened = open(&database, Access::Write);
    opened.for_url(&url(&format!("{}&schema=other", database.url()))).unwrap();
    for more in ["options=-csearch_path%3Dother", "channel_binding=require"] {
        let refused = opened.for_url(&url(&format!("{}&{more}", database.url()))).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{more}: {refused}");
    }
}

#[test]
fn a_standby_is_refused() {
    let standby = Standby::new();
    let result = connect(&standby.url());
    assert!(matches!(&result, Err(Error::Refused { reason, .. }) if reason.contains("is a standby")), "{result:?}");
}
