//! What it costs the server to be asked.

use std::thread;
use std::time::Duration;

use crate::server::{role, server};
use crate::{command, finish};

use super::Service;

/// Passes over the table, and uses of the index on what values begin with.
fn passes(service: &Service) -> (i64, i64) {
    let mut client = service.database.connect();
    let mut number = |sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    // A session tells what it did when it ends.
    while number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()",
    ) > 0
    {
        thread::sleep(Duration::from_millis(10));
    }
    (
        number("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'secrets'"),
        number("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'secrets_left_idx'"),
    )
}

#[test]
fn nothing_stale_is_told_by_the_index_and_the_rest_by_one_pass() {
    let service = Service::new(3_000);
    service.promote();
    service.directory.vault("rotate run").ok();
    service.database.execute("VACUUM ANALYZE secrets");
    let before = passes(&service);
    let told = service.directory.vault("status");
    assert!(told.err.contains("app.secrets: 0 stale"), "{told:?}");
    assert!(told.code == 14 && told.out.contains("app.secrets: 3000 values"), "the run is open: {told:?}");
    let after = passes(&service);
    assert_eq!(after.0 - before.0, 1, "passes over the table");
    assert!(after.1 > before.1, "the index was not used");
}

/// libpq means the machine's own authorities, which `SSL_CERT_FILE` names for a process.
#[test]
fn the_authorities_of_the_machine_are_those_that_system_means() {
    let service = Service::new(1);
    service.directory.vault("init --store-only").ok();
    role("of_the_machine", "SUPERUSER PASSWORD 'secret-1'");
    service.connect_by(&service.database.tcp("of_the_machine:secret-1", "sslrootcert=system"));
    let status = |roots: &str| {
        let mut command = command(service.directory.home.path(), &["status"]);
        finish(command.env("SSL_CERT_FILE", server().path(roots)), b"")
    };
    status("ca.crt").ok();
    let told = status("other.crt");
    assert!(told.code != 0 && format!("{}{}", told.out, told.err).contains("no trusted authority"), "{told:?}");
}
