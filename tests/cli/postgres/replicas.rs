//! Runs that do not outrun the replicas of their server.

use std::io::{BufRead, BufReader};

use crate::server::{Standby, role};

use super::Service;

#[test]
fn a_run_waits_for_a_replica_that_lags_and_goes_on_when_it_does_not() {
    let service = Service::new(120);
    let new = service.promote();
    let standby = Standby::new();
    let mut replica = standby.connect();
    replica.batch_execute("SELECT pg_wal_replay_pause()").unwrap();

    // For whom nobody waits in time.
    let line = "rotate run --batch 10 --rows-per-second 50 --max-replica-lag 0.3";
    let told = service.directory.vault(&format!("{line} --until +10s"));
    assert_eq!(told.code, 75, "{told:?}");
    assert!(told.err.contains("waits for a replica that is "), "{told:?}");
    let moved = service.moved(&new);
    assert!((10..120).contains(&moved), "{moved}");

    let mut run = service.start(line);
    let mut told = BufReader::new(run.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("waits for a replica that is ")));
    let moved = service.moved(&new);
    assert!(moved < 120);
    // What is waited for is the replica, and nothing else.
    service.database.execute("UPDATE secrets SET name = name");
    assert_eq!(service.moved(&new), moved);
    replica.batch_execute("SELECT pg_wal_replay_resume()").unwrap();
    let rest: Vec<String> = told.map(Result::unwrap).collect();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{rest:?}");
    assert_eq!(service.moved(&new), 120);
    service.all_open();
}

#[test]
fn a_role_that_cannot_see_replicas_is_refused_before_anything_is_written() {
    let service = Service::new(20);
    let new = service.promote();
    role("unseeing", "");
    service.database.execute(
        "GRANT SELECT, UPDATE ON secrets TO unseeing; CREATE SCHEMA vault_core; GRANT ALL ON SCHEMA vault_core TO unseeing",
    );
    service.connect_by(&service.database.url_as("unseeing"));
    for line in ["rotate run --max-replica-lag 5", "rotate plan --max-replica-lag 5"] {
        let told = service.directory.vault(line).fails(23);
        assert!(told.contains("GRANT pg_monitor TO"), "{told}");
    }
    assert_eq!(service.moved(&new), 0);
    service.database.execute("GRANT pg_monitor TO unseeing");
    service.directory.vault("rotate run --max-replica-lag 5").ok();
    assert_eq!(service.moved(&new), 20);
    service.database.execute("REVOKE pg_monitor FROM unseeing");
}
