//! A PostgreSQL server of the tests' own: in a temporary directory, on a Unix socket, as a user
//! without privileges where the tests run as root. It ends when the process does.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

/// One server for the whole test binary.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    /// Ends when its standard input is closed, and takes the server with it.
    _keeper: Child,
}

impl Server {
    /// Another server, which ends with this value.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        give_away(&directory);
        let data = directory.join("data");
        run(program("initdb").arg("-D").arg(&data).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]));
        let port = free_port();
        certificates(&directory);
        fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nlocal replication all trust\n\
             hostssl all certified 127.0.0.1/32 cert\n\
             hostssl all all 127.0.0.1/32 scram-sha-256\n",
        )
        .unwrap();
        fs::write(
            data.join("postgresql.auto.conf"),
            format!(
                "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{dir}'\nfsync = off\nfull_page_writes = off\n\
                 max_connections = 200\nssl = on\nssl_cert_file = '{dir}/server.crt'\nssl_key_file = '{dir}/server.key'\nssl_ca_file = '{dir}/ca.crt'\n\
                 log_min_messages = panic\nmax_wal_size = '4GB'\nwal_keep_size = '1GB'\nautovacuum_naptime = '5s'\n",
                dir = directory.display()
            ),
        )
        .unwrap();
        // The server that is there at the end may be another one, after a restart.
        let script = format!(
            "{} -D {data} & read _; server=$(head -1 {data}/postmaster.pid); kill -INT $server; wait; \
             while kill -0 $server; do sleep 0.1; done; rm -rf {dir}",
            bin("postgres").display(),
            data = data.display(),
            dir = directory.display()
        );
        let mut keeper = Command::new("sh");
        unprivileged(keeper.arg("-c").arg(script)).process_group(0);
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { directory, port, _keeper: keeper.unwrap() };
        let started = Instant::now();
        while server.config("postgres").connect(NoTls).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "the server did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Ends it as a crash does, and starts it again.
    pub(crate) fn restart(&self) {
        let mut restart = program("pg_ctl");
        restart.arg("-D").arg(self.path("data")).args(["-m", "immediate", "-w", "-t", "60", "restart"]);
        let status = restart.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "the server did not start again");
    }

    /// How to connect to a database as the superuser.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.directory).port(self.port).user("postgres").dbname(database);
        config
    }

    /// A file that the server made for those who connect to it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// An empty database for one test.
pub(crate) struct Database {
    pub(crate) name: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self::named(&format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// A database by name, empty if nobody asked for it before.
    pub(crate) fn named(name: &str) -> Self {
        let mut client = server().config("postgres").connect(NoTls).unwrap();
        match client.batch_execute(&format!("CREATE DATABASE {name}")) {
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => {}
            other => other.unwrap(),
        }
        Self { name: name.to_owned() }
    }

    /// A connection of the application's.
    pub(crate) fn connect(&self) -> Client {
        server().config(&self.name).connect(NoTls).unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap();
    }

    /// The URL by the socket, as `user`.
    pub(crate) fn url_as(&self, user: &str) -> String {
        let Server { directory, port, .. } = server();
        format!("postgresql://{user}@/{}?host={}&port={port}", self.name, directory.display())
    }

    pub(crate) fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// The URL by the network, which is encrypted.
    pub(crate) fn tcp(&self, user: &str, parameters: &str) -> String {
        format!("postgresql://{user}@localhost:{}/{}?{parameters}", server().port, self.name)
    }
}

/// A role of the whole server, which may log in, if nobody asked for it before.
pub(crate) fn role(name: &str, options: &str) {
    let mut client = server().config("postgres").connect(NoTls).unwrap();
    match client.batch_execute(&format!("CREATE ROLE {name} LOGIN {options}")) {
        // The latter where another test makes it at this moment.
        Err(error) if matches!(error.code(), Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION)) => {}
        other => other.unwrap(),
    }
}

/// A pooler that gives every transaction to another session, and prepares nothing.
pub(crate) struct Pooler {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: u16,
    child: Child,
}

impl Pooler {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        give_away(directory.path());
        let port = free_port();
        let config = format!(
            "[databases]\n* = host={socket} port={server}\n[pgbouncer]\npool_mode = transaction\nauth_type = any\nlisten_addr =\n\
             listen_port = {port}\nunix_socket_dir = {dir}\nlogfile = {dir}/log\ndefault_pool_size = 5\nserver_round_robin = 1\n",
            socket = server().directory.display(),
            server = server().port,
            dir = directory.path().display(),
        )
        // Whoever connects is the superuser.
        .replace(" port=", " user=postgres port=");
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        let child = unprivileged(command.arg(file)).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pooler =
            Self { directory, port, child: child.expect("PgBouncer is not installed: apt-get install pgbouncer") };
        let (started, socket) = (Instant::now(), pooler.directory.path().join(format!(".s.PGSQL.{port}")));
        while !socket.exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "the pooler did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgresql://postgres@/{database}?host={}&port={}&pgbouncer=true",
            self.directory.path().display(),
            self.port
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A streaming replica of the server, until it is dropped.
pub(crate) struct Standby {
    directory: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Standby {
    pub(crate) fn new() -> Self {
        let primary = server();
        let directory = tempfile::Builder::new().prefix("standby").tempdir().unwrap();
        give_away(directory.path());
        let standby = Self { directory, port: free_port() };
        let mut copy = program("pg_basebackup");
        copy.arg("-D").arg(standby.data()).args(["-h", &primary.directory.display().to_string()]);
        copy.args(["-p", &primary.port.to_string(), "-U", "postgres", "--checkpoint=fast", "--no-sync"]);
        run(copy.args(["--write-recovery-conf", "--wal-method=stream"]));
        let name = format!("standby{}", standby.port);
        let options = format!(
            "-p {} -c unix_socket_directories={} -c listen_addresses= -c cluster_name={name}",
            standby.port,
            standby.directory.path().display()
        );
        let mut control = program("pg_ctl");
        run(control.arg("-D").arg(standby.data()).args(["-w", "-l", "/dev/null", "-o", &options, "start"]));
        // It takes connections before the primary knows of it.
        let follows = "SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming' AND replay_lsn IS NOT NULL";
        let (mut client, started) = (primary.config("postgres").connect(NoTls).unwrap(), Instant::now());
        while client.query_opt(follows, &[&name]).unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(60), "the standby does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
        standby
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn connect(&self) -> Client {
        let mut config = Config::new();
        config.host_path(self.directory.path()).port(self.port).user("postgres").dbname("postgres");
        config.connect(NoTls).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("postgresql://postgres@/postgres?host={}&port={}", self.directory.path().display(), self.port)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        run(program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "stop"]));
    }
}

/// A program of the newest server that is installed.
pub(crate) fn bin(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|found| found.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let newest = versions.last().expect("PostgreSQL is not installed: apt-get install postgresql");
    newest.join("bin").join(name)
}

fn program(name: &str) -> Command {
    let mut command = Command::new(bin(name));
    unprivileged(&mut command);
    command
}

/// As the user `postgres` where the tests run as root: the server refuses to run as that.
pub(crate) fn unprivileged(command: &mut Command) -> &mut Command {
    command.current_dir("/");
    match nobody() {
        Some((user, group)) => command.uid(user).gid(group),
        None => command,
    }
}

/// Makes a directory that of the server's user.
pub(crate) fn give_away(path: &Path) {
    if let Some((user, group)) = nobody() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn nobody() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find_map(|line| line.strip_prefix("postgres:x:")).unwrap_or("65534:65534:");
    let mut numbers = user.split(':').map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, a server that it vouches for as `localhost`, and a client as `certified`.
fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(directory);
        if let Some((user, group)) = nobody() {
            command.uid(user).gid(group);
        }
        run(&mut command);
    };
    let mut names = fs::File::create(directory.join("names")).unwrap();
    names.write_all(b"subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority -addext basicConstraints=critical,CA:TRUE",
    );
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -out other.crt -days 2 -subj /CN=other",
    );
    for (name, subject) in [("server", "localhost"), ("client", "certified")] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={subject}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.crt"
        ));
    }
}
