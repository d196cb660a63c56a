//! Certificates as PostgreSQL's manual makes them, and revoked ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postgres::NoTls;
use vault_core::{Access, PostgresDatabase};

use crate::server::{Server, server, unprivileged};

use super::url;

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    unprivileged(&mut command).args(arguments.split_whitespace()).current_dir(directory);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "openssl {arguments}");
}

/// Has the server show another certificate from now on.
fn show(server: &Server, name: &str) {
    for kind in ["crt", "key"] {
        // Its own files, which keep their owner.
        fs::write(server.path(&format!("server.{kind}")), fs::read(server.path(&format!("{name}.{kind}"))).unwrap())
            .unwrap();
    }
    let mut client = server.config("postgres").connect(NoTls).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
}

fn connects(server: &Server, parameters: &str) -> Result<(), String> {
    let text = format!("postgresql://manual:secret-1@localhost:{}/postgres?{parameters}", server.port);
    PostgresDatabase::open(&url(&text), Access::Read).map(drop).map_err(|error| error.to_string())
}

/// The server reads its certificate a moment after it is told to.
fn until(server: &Server, parameters: &str, wanted: impl Fn(&Result<(), String>) -> bool) {
    let began = Instant::now();
    loop {
        let found = connects(server, parameters);
        if wanted(&found) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{parameters}: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn certificates_of_the_manual_are_taken_under_verify_ca() {
    let server = Server::start();
    let at = |name: &str| server.path(name).display().to_string();
    let mut client = server.config("postgres").connect(NoTls).unwrap();
    client.batch_execute("CREATE ROLE manual LOGIN PASSWORD 'secret-1'").unwrap();
    let directory = &server.directory;
    openssl(directory, &format!("req -new -x509 -days 9 {KEY} -out self.crt -keyout self.key -subj /CN=localhost"));
    for root in ["root", "impostor"] {
        openssl(directory, &format!("req -new -x509 -days 9 {KEY} -out {root}.crt -keyout {root}.key -subj /CN=root"));
    }
    openssl(directory, &format!("req -new {KEY} -out v1.csr -keyout v1.key -subj /CN=localhost"));
    openssl(directory, "x509 -req -in v1.csr -days 9 -CA root.crt -CAkey root.key -CAcreateserial -out v1.crt");
    fs::write(server.path("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    openssl(directory, &format!("req -new {KEY} -out middle.csr -keyout middle.key -subj /CN=middle"));
    openssl(
        directory,
        "x509 -req -in middle.csr -days 9 -extfile ca.ext -CA root.crt -CAkey root.key -CAcreateserial -out middle.crt",
    );
    openssl(directory, "x509 -req -in v1.csr -days 9 -CA middle.crt -CAkey middle.key -CAcreateserial -out leaf.crt");
    let chain = [fs::read(server.path("leaf.crt")).unwrap(), fs::read(server.path("middle.crt")).unwrap()].concat();
    fs::write(server.path("chain.crt"), chain).unwrap();
    fs::copy(server.path("v1.key"), server.path("chain.key")).unwrap();

    show(&server, "self");
    until(&server, &format!("sslmode=verify-ca&sslrootcert={}", at("self.crt")), Result::is_ok);
    let told = connects(&server, &format!("sslmode=verify-full&sslrootcert={}", at("self.crt"))).unwrap_err();
    assert!(told.contains("CA:TRUE") && told.contains("verify-ca"), "{told}");
    connects(&server, &format!("sslmode=verify-ca&sslrootcert={}", at("root.crt"))).unwrap_err();

    for name in ["v1", "chain"] {
        show(&server, name);
        let roots = format!("sslmode=verify-ca&sslrootcert={}", at("root.crt"));
        until(&server, &roots, Result::is_ok);
        connects(&server, &format!("{roots}&ssl_max_protocol_version=TLSv1.2")).unwrap();
        let told = connects(&server, &roots.replace("verify-ca", "verify-full")).unwrap_err();
        assert!(told.contains("X.509 v1") && told.contains("verify-ca"), "{told}");
        // Of the same name and with another key, an authority has signed nothing here.
        connects(&server, &format!("sslmode=verify-ca&sslrootcert={}", at("impostor.crt"))).unwrap_err();
        connects(&server, &format!("sslmode=require&sslrootcert={}", at("impostor.crt"))).unwrap_err();
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    let server = Server::start();
    let at = |name: &str| server.path(name).display().to_string();
    let mut client = server.config("postgres").connect(NoTls).unwrap();
    client.batch_execute("CREATE ROLE manual LOGIN PASSWORD 'secret-1'").unwrap();
    fs::write(
        server.path("ca.conf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=2\n",
    )
    .unwrap();
    fs::write(server.path("index.txt"), "").unwrap();
    fs::write(server.path("crlnumber"), "01\n").unwrap();
    for file in ["index.txt", "crlnumber"] {
        crate::server::give_away(&server.path(file));
    }
    let ca = "ca -config ca.conf -keyfile ca.key -cert ca.crt";
    openssl(&server.directory, &format!("{ca} -gencrl -out none.crl"));
    openssl(&server.directory, &format!("{ca} -revoke server.crt"));
    openssl(&server.directory, &format!("{ca} -gencrl -out one.crl"));
    for mode in ["verify-ca", "verify-full"] {
        let roots = format!("sslmode={mode}&sslrootcert={}", at("ca.crt"));
        connects(&server, &roots).unwrap();
        connects(&server, &format!("{roots}&sslcrl={}", at("none.crl"))).unwrap();
        let told = connects(&server, &format!("{roots}&sslcrl={}", at("one.crl"))).unwrap_err();
        assert!(told.contains("was revoked"), "{told}");
    }
    // It protects nothing that is not verified, and is not asked for.
    connects(&server, "sslmode=require&sslcrl=/no/such/file").unwrap();
}

#[test]
fn a_host_is_found_where_the_url_says() {
    let at = format!("postgresql://postgres@no-such-host.invalid:{}/postgres?hostaddr=127.0.0.1", server().port);
    // The server is reached, and asks for a password.
    let told = PostgresDatabase::open(&url(&format!("{at}&sslmode=require")), Access::Read).unwrap_err().to_string();
    assert!(told.contains("misses a part"), "{told}");
}
