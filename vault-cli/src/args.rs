//! What can be typed. Definitions only.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vault_core::{Format, Generate, KeyId, Preset, Timestamp};

use crate::demo::DemoArgs;
use crate::transfer::Shape;

/// Seals secrets, and changes the master key of databases while their applications run.
#[derive(Debug, Parser)]
#[command(name = "vault", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  vault demo
  printf %s \"$SECRET\" | vault seal --key-file kek --purpose user-secret --tenant 42
  vault rotate plan
  vault rotate --yes
  vault status";

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Configuration; else VAULT_CORE_CONFIG, ./vault.toml and its parents, /etc/vault/vault.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Profile of the configuration; else VAULT_CORE_PROFILE
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// Print one JSON object, or one a line, with schema_version
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)] // only the one that is asked for is built
pub(crate) enum Command {
    /// Write vault.toml, make a master key and an empty store, where there is nothing yet
    Init(InitArgs),
    /// Set a secret: from standard input, a file, a hidden prompt, or made anew
    Set(SetArgs),
    /// Write a secret's exact bytes, from the first source that has it
    Get(GetArgs),
    /// List the secrets of the store
    List(ListArgs),
    /// Remove a secret from the store
    Rm(RmArgs),
    /// Make an older version of a secret the newest again
    Rollback(RollbackArgs),
    /// Set secrets from an environment file, a JSON object, or a directory with a file for each
    Import(ImportArgs),
    /// Write secrets as an environment file, a JSON object, or a directory with a file for each
    Export(ExportArgs),
    /// Run a command with the secrets in its environment, or as files in memory
    Run(RunCommandArgs),
    /// Look for what is wrong with declared secrets: missing, weak, public, shadowed, overdue
    Check(CheckArgs),
    /// Write the JSON schema of vault.toml, for editors
    Schema,
    /// Look for what is wrong with keys, stores, databases and permissions
    Doctor(DoctorArgs),
    /// Seal standard input into a token
    Seal(SealArgs),
    /// Open the token on standard input
    Open(OpenArgs),
    /// Tell what a token or a foreign value is, without a key
    Inspect(InspectArgs),
    /// Count values by format and key: may the old key go?
    Status(StatusArgs),
    /// Generate keys and change their states
    Key(KeyArgs),
    /// Change the master key of the declared columns: the whole sequence, or one step of it
    #[command(args_conflicts_with_subcommands = true)]
    Rotate(RotateArgs),
    /// Write a column's values in another format
    Migrate(MigrateArgs),
    /// Seal a column's tokens again after the declared context changed
    Reseal(ResealArgs),
    /// Bring declared secrets into Docker Swarm, and give services their newest version
    Swarm(SwarmArgs),
    /// Show all of it on a throw-away database, with a rotator that is killed
    Demo(DemoArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Secrets to begin with: an environment file, a JSON object, or a directory
    #[arg(long, value_name = "FILE", conflicts_with = "store_only")]
    pub(crate) import: Option<PathBuf>,

    /// How they stand there; else by the file's name
    #[arg(long, value_name = "FORMAT", requires = "import")]
    pub(crate) format: Option<Shape>,

    /// Where the store will be: file:PATH or sqlite:PATH
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
    match url.split_once(':') {
        Some(("file" | "sqlite", path)) if !path.is_empty() => Ok(url.to_owned()),
        _ => Err("it is neither file:PATH nor sqlite:PATH".to_owned()),
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
    /// File or directory
    pub(crate) file: PathBuf,

    /// json, dir, or whose environment file it is; else by the file's name, if all readers agree
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Shape>,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
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

#[derive(Args, Debug)]
#[command(after_help = RUN_CODES)]
pub(crate) struct RunCommandArgs {
    /// Only these secrets, declared or not, and all of them; else every declared one
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Pass on nothing of the environment but PATH, HOME, USER, LANG, LC_*, TERM, TZ and TMPDIR
    #[arg(long)]
    pub(crate) pristine: bool,

    /// Give each secret as a file in memory that NAME_FILE names, and not as the variable NAME
    #[arg(long)]
    pub(crate) files: bool,

    /// Replace secrets in what the command prints by their names
    #[arg(long)]
    pub(crate) mask: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const RUN_CODES: &str = "\
The exit status is the command's: 128 + N where signal N killed it, 126 where it cannot be run, 127
where it is not found. Every other failure comes before the command is started.";

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Only these secrets; else all that are declared
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Environment file that applications read; else .env in this directory, if there is one
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,

    /// Warnings are failures
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Keys and secrets that others can read are failures
    #[arg(long)]
    pub(crate) require_private_files: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// Key file; repeated, all of them open
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Vec<PathBuf>,

    /// Keyring of the configuration, where no key file is given
    #[arg(long, value_name = "NAME", default_value = "main", conflicts_with = "key_file")]
    pub(crate) keyring: String,

    /// Format of the value
    #[arg(long, default_value = "vs1", value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// Whose secret it is; the user id of formats that need one
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// Which secret it is
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// What kind of secret it is, such as user-secret
    #[arg(long)]
    pub(crate) purpose: Option<String>,

    /// A further pair that the token is bound to; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) extra: Vec<String>,

    /// Bind the token to nothing: it opens wherever it is moved to
    #[arg(long, conflicts_with_all = ["tenant", "name", "purpose", "extra"])]
    pub(crate) no_context: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Lines {
    /// One value a line
    #[arg(long)]
    pub(crate) lines: bool,

    /// Take standard input as it is, without removing one trailing line break
    #[arg(long, conflicts_with = "lines")]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) lines: Lines,

    /// Which of several key files seals
    #[arg(long, value_name = "KID", requires = "key_file")]
    pub(crate) seal_with: Option<KeyId>,

    /// Pad to a multiple of 32 bytes, to tell less of the length
    #[arg(long)]
    pub(crate) padded: bool,

    /// Seal a secret that has no bytes at all
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

#[derive(Args, Debug)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) lines: Lines,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) lines: Lines,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// One column only
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,

    /// Open every value, instead of counting tokens by the key that they name
    #[arg(long)]
    pub(crate) deep: bool,

    /// Again every two seconds, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// Keyring of the configuration
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    pub(crate) keyring: String,

    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Write a new key to standard output, or to a new file that only its owner can read
    Generate {
        /// File to create
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long, requires = "out")]
        dry_run: bool,
    },
    /// List the keys of a keyring and their states
    List,
    /// Add the key in FILE to a keyring, waiting as active
    Add {
        /// File with the key
        file: PathBuf,
        /// A name for people, and part of the key's file name
        #[arg(long)]
        label: Option<String>,
        /// Write the next state file to FILE, for redeployment, and leave keys and states as they are
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Store the master key in FILE in the OS keyring, for a source "keyring:SERVICE/ACCOUNT"
    #[cfg(feature = "os-keyring")]
    Store {
        /// File with the key
        file: PathBuf,
        /// Service of the keyring's item
        #[arg(long)]
        service: String,
        /// Account of the keyring's item
        #[arg(long)]
        account: String,
        /// Overwrite what the item holds
        #[arg(long)]
        replace: bool,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Seal under this key from now on
    Promote {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
        /// Every process that opens values has loaded the key
        #[arg(long)]
        all_nodes_loaded: bool,
    },
    /// Stop opening with this key, after proving that no value needs it
    Disable {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
        /// Every process has read the states in which the key no longer seals
        #[arg(long)]
        all_nodes_loaded: bool,
    },
    /// Undo disabling
    Enable {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a disabled key up for ever; its file is yours to remove
    Destroy {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    /// Write the next state file to FILE, for redeployment, and leave the present one
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RotateCommand>,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// Disable the keys that were replaced, once every process has read the states that say so
    #[arg(long)]
    pub(crate) retire: bool,

    /// Every process has loaded the key that waits, or with --retire read the present states
    #[arg(long)]
    pub(crate) all_nodes_loaded: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ScopeArgs {
    /// Keyring whose columns are meant; else that of --column, or main
    #[arg(long, value_name = "NAME")]
    pub(crate) keyring: Option<String>,

    /// One column only
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Every process that holds the key is stopped: rewrite also what unlinked applications read
    #[arg(long)]
    pub(crate) app_stopped: bool,

    /// Open and seal again under new data keys, instead of rewrapping
    #[arg(long)]
    pub(crate) deep: bool,

    /// Rows in one transaction
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,

    /// Most rows in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "app_stopped")]
    pub(crate) rows_per_second: Option<u32>,

    /// Stop at this time, such as 2026-02-03T06:00:00Z, or after +30m
    #[arg(long, value_name = "TIME", value_parser = crate::rotate::deadline)]
    pub(crate) until: Option<Timestamp>,

    /// Wait while this file exists
    #[arg(long, value_name = "FILE", conflicts_with = "app_stopped")]
    pub(crate) pause_file: Option<PathBuf>,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    /// Do everything but write, and say what would be done
    Plan {
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Rewrap until a full pass changes nothing; run again after any interruption
    Run {
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        run: RunArgs,
        /// Take the store and the keyring as they are, though one of them is older than the other
        #[arg(long)]
        accept_rollback: bool,
    },
    /// Make the databases refuse values under keys that were replaced
    Fence {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Take the fences down; those against keys that are disabled stay
        #[arg(long)]
        drop: bool,
        /// Every process opens values under the keys that are fenced off
        #[arg(long, requires = "drop")]
        all_nodes_loaded: bool,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Open every value and prove that none is stale; forgets the run
    Verify {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Forget the open run; what was rewritten stays
    Abort {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Show the open runs
    Status {
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Column of the configuration
    pub(crate) column: String,

    /// Format that its values become
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Format,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ResealArgs {
    /// Column of the configuration
    pub(crate) column: String,

    /// A field of the context that tokens were sealed for, such as 'tenant={user_id}'; repeatable
    #[arg(long, value_name = "FIELD=TEMPLATE", required = true)]
    pub(crate) old_context: Vec<String>,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SwarmArgs {
    #[command(subcommand)]
    pub(crate) command: SwarmCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SwarmCommand {
    /// Print the commands that apply would run, and run none
    Plan {
        #[command(flatten)]
        target: SwarmTarget,
    },
    /// Create what is new, update the services, and remove what --prune names
    Apply {
        #[command(flatten)]
        target: SwarmTarget,
        /// Append one line of JSON for each action to this file
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SwarmTarget {
    /// What the names in Swarm begin with; else `app` of vault.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,

    /// Only these secrets; else all that are declared
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// A service that gets the newest versions of what it mounts, and of what --only names; repeatable
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Vec<String>,

    /// User inside the containers who reads the files, which get mode 0400; else as mounted before
    #[arg(long, value_name = "UID", requires = "service")]
    pub(crate) uid: Option<u32>,

    /// Keep so many older versions of each secret, and remove the others that no service mounts
    #[arg(long, value_name = "K")]
    pub(crate) prune: Option<usize>,

    /// Create a new version even of what is unchanged
    #[arg(long)]
    pub(crate) force: bool,

    /// The client; it finds its daemon itself, by DOCKER_HOST for example
    #[arg(long, value_name = "PATH", default_value = "docker")]
    pub(crate) docker: PathBuf,
}
