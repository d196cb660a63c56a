//! The programs, each started once for a list of texts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use vault_core::dotenv::Dialect;

/// Variables by name, the last where one is there twice.
pub(crate) type Variables = BTreeMap<String, String>;

/// The environment of every program.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [("X", "from the environment"), ("EMPTY", "")];

pub(crate) struct Readers {
    oracles: PathBuf,
    scripts: PathBuf,
}

/// What python-dotenv finds in a text.
pub(crate) struct Python {
    /// Name, value, line, and whether variables are substituted in it.
    pub(crate) bindings: Vec<(String, String, usize, bool)>,
    /// Lines of statements that it cannot parse or that have no value.
    pub(crate) passed_over: Vec<usize>,
    pub(crate) plain: Variables,
    pub(crate) substituted: Variables,
}

/// What reads a list of texts and gives the variables of each.
pub(crate) type Read = fn(&Readers, &[String]) -> Vec<Variables>;

/// The readers of a dialect.
pub(crate) fn of(dialect: Dialect) -> Vec<(&'static str, Read)> {
    match dialect {
        Dialect::Docker => vec![("docker", |readers, texts| readers.docker(texts).into_iter().flatten().collect())],
        Dialect::Node => vec![
            ("dotenv 18", |readers, texts| readers.npm("dotenv", texts).into_iter().map(|found| found.0).collect()),
            ("dotenv 17", |readers, texts| readers.npm("dotenv-17", texts).into_iter().map(|found| found.0).collect()),
            ("dotenv 16", |readers, texts| readers.npm("dotenv-16", texts).into_iter().map(|found| found.0).collect()),
        ],
        Dialect::NodeEnvFile => vec![
            ("node-26", |readers, texts| readers.node("node-26", texts)),
            ("node-20", |readers, texts| readers.node("node-20", texts)),
        ],
        Dialect::Python => vec![
            ("python-dotenv", |readers, texts| readers.python(texts).into_iter().map(|f| f.substituted).collect()),
            ("python-dotenv, plain", |readers, texts| readers.python(texts).into_iter().map(|f| f.plain).collect()),
        ],
        Dialect::Shell => vec![
            ("bash", |readers, texts| readers.shell("bash", texts)),
            ("dash", |readers, texts| readers.shell("dash", texts)),
        ],
        _ => panic!("{dialect} has no reader here"),
    }
}

impl Readers {
    /// Where `oracles/install` has put them.
    pub(crate) fn installed() -> Self {
        let oracles = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../oracles");
        assert!(oracles.join("installed").is_file(), "the readers are missing: run tests/dotenv/oracles/install");
        Self { oracles, scripts: Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles") }
    }

    pub(crate) fn python(&self, texts: &[String]) -> Vec<Python> {
        let found = exchange(texts, |directory| {
            let mut command = Command::new(self.oracles.join("python/bin/python"));
            command.arg(self.scripts.join("read.py"));
            command.arg(directory.join("texts")).arg(directory.join("file")).arg(directory.join("found"));
            command
        });
        found
            .iter()
            .map(|found| Python {
                bindings: list(&found["bindings"])
                    .iter()
                    .map(|b| (text(&b[0]), text(&b[1]), number(&b[2]), b[3].as_bool().unwrap()))
                    .collect(),
                passed_over: list(&found["passed_over"]).iter().map(number).collect(),
                plain: with_values(&found["plain"]),
                substituted: with_values(&found["substituted"]),
            })
            .collect()
    }

    /// The npm package, by the name of its directory: variables, and the number of lines that it
    /// passes over.
    pub(crate) fn npm(&self, package: &str, texts: &[String]) -> Vec<(Variables, usize)> {
        let package = self.oracles.join("node/node_modules").join(package);
        let found = self.javascript("node-26", package.to_str().unwrap(), texts);
        found.iter().map(|found| (pairs(&found["variables"]), number(&found["passed_over"]))).collect()
    }

    /// `util.parseEnv`, which is the parser of `--env-file`.
    pub(crate) fn node(&self, node: &str, texts: &[String]) -> Vec<Variables> {
        self.javascript(node, "node-env-file", texts).iter().map(|found| pairs(&found["variables"])).collect()
    }

    /// `node --env-file` itself on one text.
    pub(crate) fn node_with_file(&self, node: &str, content: &str) -> Variables {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("env"), content).unwrap();
        let mut command = self.node_command(node);
        command.arg("--env-file").arg(directory.path().join("env"));
        let output = command.args(["-p", "JSON.stringify(process.env)"]).output().unwrap();
        assert!(output.status.success());
        with_values(&serde_json::from_slice(&output.stdout).unwrap())
    }

    fn javascript(&self, node: &str, reader: &str, texts: &[String]) -> Vec<Value> {
        exchange(texts, |directory| {
            let mut command = self.node_command(node);
            command.arg(self.scripts.join("read.js")).arg(reader);
            command.arg(directory.join("texts")).arg(directory.join("found"));
            command
        })
    }

    fn node_command(&self, node: &str) -> Command {
        Command::new(self.oracles.join("node/node_modules").join(node).join("bin/node"))
    }

    /// The variables that Docker would give a container; none where it refuses the file.
    pub(crate) fn docker(&self, texts: &[String]) -> Vec<Option<Variables>> {
        let found = exchange(texts, |directory| {
            let mut command = Command::new(self.oracles.join("python/bin/python"));
            command.arg(self.scripts.join("read_docker.py")).arg(self.oracles.join("docker/usr/bin/docker"));
            command.arg(directory.join("texts")).arg(directory).arg(directory.join("found"));
            command
        });
        let variables = |found: &Value| {
            let pairs = list(found);
            pairs.iter().filter_map(|pair| pair.as_str()?.split_once('=').map(owned)).collect()
        };
        found.iter().map(|found| (!found.is_null()).then(|| variables(found))).collect()
    }

    /// What a shell's environment is after sourcing each text.
    pub(crate) fn shell(&self, shell: &str, texts: &[String]) -> Vec<Variables> {
        let directory = TempDir::new().unwrap();
        for (number, content) in texts.iter().enumerate() {
            fs::write(directory.path().join(format!("{number}.env")), content).unwrap();
        }
        let mut command = Command::new(Path::new("/usr/bin").join(shell));
        command.arg(self.scripts.join("read.sh")).arg(directory.path()).arg(texts.len().to_string());
        run(command);
        let variables = |number| {
            let found = fs::read_to_string(directory.path().join(format!("{number}.out"))).unwrap();
            found.split_terminator('\0').map(|pair| owned(pair.split_once('=').unwrap())).collect()
        };
        (0..texts.len()).map(variables).collect()
    }
}

/// Gives `command` the texts in a file and takes a list of as many answers from another.
fn exchange(texts: &[String], command: impl FnOnce(&Path) -> Command) -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("texts"), serde_json::to_string(texts).unwrap()).unwrap();
    run(command(directory.path()));
    let found: Vec<Value> = serde_json::from_slice(&fs::read(directory.path().join("found")).unwrap()).unwrap();
    assert_eq!(found.len(), texts.len());
    found
}

fn run(mut command: Command) {
    let status = command.env_clear().envs(ENVIRONMENT).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn pairs(value: &Value) -> Variables {
    list(value).iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The variables of an object that have a value.
fn with_values(value: &Value) -> Variables {
    let object = value.as_object().unwrap();
    object.iter().filter_map(|(name, value)| Some(owned((name, value.as_str()?)))).collect()
}
