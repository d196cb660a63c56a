//! Secrets of a store, and what is declared of secrets.

use std::path::PathBuf;

use clap::Args;
use vault_core::{Generate, PostgresUrl, Preset, SecretName, sqlite_path};

use crate::transfer::Shape;

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Secrets to begin with: an environment file, a JSON object, or a directory
    #[arg(long, value_name = "FILE", conflicts_with = "store_only")]
    pub(crate) import: Option<PathBuf>,

    /// How they stand there; else by the file's name
    #[arg(long, value_name = "FORMAT", requires = "import")]
    pub(crate) format: Option<Shape>,

    #[command(flatten)]
    pub(crate) references: References,

    /// Where the store will be: file:PATH, sqlite:PATH, the URL of a PostgreSQL database without a
    /// password, or secret:NAME of a secret that holds one
    #[arg(long, value_name = "URL", default_value = "file:vault.store.toml", value_parser = store_url, conflicts_with = "store_only")]
    pub(crate) store: String,

    /// Make only the store that vault.toml declares
    #[arg(long)]
    pub(crate) store_only: bool,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

fn store_url(url: &str) -> Result<String, String> {
    if let Some(path) = sqlite_path(url) {
        return path.map(|_| url.to_owned()).map_err(str::to_owned);
    }
    match url.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(url.to_owned()),
        Some(("secret", name)) => SecretName::parse(name).map(|_| url.to_owned()).map_err(|error| error.to_string()),
        Some((scheme, _)) if scheme.starts_with("postgres") => {
            let at = PostgresUrl::parse(url)?;
            if at.has_password() {
                return Err(
                    "a password does not belong here; put the URL into a secret, and name it as secret:NAME".to_owned()
                );
            }
            Ok(url.to_owned())
        }
        _ => Err("it is none of file:PATH, sqlite:PATH, secret:NAME and postgresql://…".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name of the secret
    pub(crate) name: String,

    /// Whose secret it is
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// Purpose of its context; else store-entry
    #[arg(long)]
    pub(crate) purpose: Option<String>,

    /// Take the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub(crate) from_file: Option<PathBuf>,

    /// Make the value: hex:N, base64:N, base64url:N, text:N or fernet-key; else as it is declared
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true)]
    pub(crate) generate: Option<Option<Generate>>,

    /// Take the value as it is, without removing one trailing line break
    #[arg(long)]
    pub(crate) raw: bool,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// NAME, NAME@previous or NAME@2
    pub(crate) name: String,

    /// Whose secret it is; then only the store is asked
    #[arg(long, conflicts_with = "explain")]
    pub(crate) tenant: Option<String>,

    /// Tell where it comes from and what that shadows, and not the value
    #[arg(long)]
    pub(crate) explain: bool,

    /// List the versions that the store keeps, and not the value
    #[arg(long, conflicts_with = "explain")]
    pub(crate) versions: bool,

    /// Find it as an application does, whatever is declared: strict, docker-library, flowfile-core,
    /// flowfile-worker, pydantic, face, raqeem, social-publisher
    #[arg(long, conflicts_with_all = ["tenant", "versions"])]
    pub(crate) preset: Option<Preset>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only secrets of this tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// Every version that is kept
    #[arg(long)]
    pub(crate) versions: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// NAME, or NAME@previous or NAME@2 for one older version
    pub(crate) name: String,

    /// Whose secret it is
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// All versions
    #[arg(long)]
    pub(crate) all: bool,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// NAME for its previous version, or NAME@2
    pub(crate) name: String,

    /// Whose secret it is
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// File or directory; - for standard input
    pub(crate) file: PathBuf,

    /// json, dir, or whose environment file it is; else by the file's name, if all readers agree
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Shape>,

    /// Only these secrets of it
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    #[command(flatten)]
    pub(crate) references: References,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// Lines of an environment file with `${NAME}`, in which its reader puts another value.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct References {
    /// Put the values of other variables where ${NAME} stands, as python-dotenv does
    #[arg(long, conflicts_with = "skip")]
    pub(crate) expand: bool,

    /// Leave out lines with ${NAME}
    #[arg(long = "skip-references")]
    pub(crate) skip: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// json, dir, dotenv-python, dotenv-node, node-env-file, docker-env or shell
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Shape,

    /// A new file, or for dir a new directory; else standard output
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,

    /// Only these secrets, from wherever they are found; else all of the store
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}
