//! The command line: a file per command.

// First: what it defines holds in all below.
#[macro_use]
mod output;

mod check;
mod operate;
mod policy;
mod prompt;
mod run;
mod secret;
mod ssh_config;
mod trust;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use keyward_config::Kinds;

use crate::ca::LocalCa;
use crate::reload;
use crate::state::StateFolder;

/// A proxy for databases and SSH servers that injects credentials from a secret store.
///
/// Users connect with psql, mysql and ssh as they are, prove who they are to Keyward, and never see the credential of the database or the
/// server: Keyward fetches it from Vault, OpenBao or another store at that moment, logs in with it, and moves bytes. Everything is declared in one YAML file.
#[derive(Parser)]
#[command(name = "keyward", version, max_term_width = 100, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "A first session:
  keyward user hash                     make a password verifier for the file
  keyward check                         say all that is wrong: file, stores, connections
  keyward run                           serve
  psql -h 127.0.0.1 -U alice orders     connect as alice to `orders`, a PostgreSQL database,
  mysql -h 127.0.0.1 -u alice -p shop   to `shop`, a MySQL or MariaDB database,
  ssh -p 2222 alice+web-1@127.0.0.1     or to `web-1`, an SSH server

For what is in a store, with your own token:
  keyward secret put corp:prod_db/data/mysql username password
                                        ask for both values and write them
  keyward secret get corp:prod_db/data/mysql
                                        its version and the names of its keys
  keyward policy corp | vault policy write keyward -
                                        let Keyward do in Vault what the file needs, and no more

For SSH:
  keyward trust web-1.internal          print a server's host keys, as lines for the file
  keyward ssh-config alice --address keyward.example:2222
                                        print lines for her ~/.ssh/config, before any `Host *`
  keyward ssh-config alice --address keyward.example:2222 --known-hosts
                                        and for her ~/.ssh/known_hosts: then `ssh web-1` is enough

Exit codes: 0 done; 1 it failed; 2 the command line or the file is wrong.";

/// Where the file is.
#[derive(Args)]
struct File {
    /// The configuration file.
    #[arg(short, long, env = "KEYWARD_CONFIG", default_value = "keyward.yaml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serve.
    ///
    /// SIGTERM drains and ends, a second one ends at once; SIGHUP reloads the file and reopens the audit record.
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Say everything that is wrong: with the file, with each store, with each connection.
    ///
    /// Of a store: whether it can be reached and lets Keyward in, what Keyward's login may not do there although the file needs it, and what it
    /// may do beyond that. Of a connection, and of each host of a group: whether its secret can be read, its server reached and verified, and
    /// whether the login works: it is that of a session, of SSH too, and what is leased for it is given back.
    Check {
        #[command(flatten)]
        file: File,
        /// The file only: no store and no server is asked.
        #[arg(long)]
        offline: bool,
        /// For people or for programs.
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// Make verifiers of passwords, for the users of the file.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Write, look at, list and delete the secrets of a store, with your own token.
    ///
    /// For the operators who keep them; Keyward's own login is never used. Values are asked for, or read from standard input.
    Secret {
        #[command(subcommand)]
        command: secret::SecretCommand,
    },
    /// Print the smallest policy with which a Vault or OpenBao gives what the file needs of it; where it has several logins, one for each.
    ///
    /// `keyward policy corp | vault policy write keyward -`, or with `bao` for `vault`.
    Policy {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wanted: policy::Wanted,
    },
    /// Print the certificate of the local CA, for `sslrootcert`.
    ///
    /// Makes the CA if there is none yet.
    Ca {
        #[command(flatten)]
        file: File,
    },
    /// Print the host keys that an SSH server shows, as lines for its connection in the file.
    ///
    /// They count only once their fingerprints were compared over another way. No login is tried.
    Trust {
        #[command(flatten)]
        file: File,
        /// HOST or HOST:PORT; or a connection of the file, or a host of a group, whose address is asked then. What stands before an `@` is
        /// passed over.
        host: String,
    },
    /// Print what a user adds to his own files, so that `ssh web-1` goes through Keyward.
    ///
    /// For ~/.ssh/config, or with --known-hosts for ~/.ssh/known_hosts. The second makes Keyward's host key and host CA if there are none yet.
    SshConfig {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        wanted: ssh_config::Wanted,
    },
    /// List the live sessions of the running process.
    Sessions {
        #[command(flatten)]
        file: File,
        /// For people or for programs.
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// End a live session of the running process.
    ///
    /// Its query is stopped or its server's connection closed, and its client is told.
    Kill {
        #[command(flatten)]
        file: File,
        /// The session's id, as `keyward sessions`, the audit record and the client's error show it.
        session: String,
    },
    /// Let the running process take the file, and the certificates of its listeners, as they are now.
    ///
    /// The file is the one that it runs with; its audit record is opened anew. Says what changed. Fails where the process does not take the
    /// file: any problem keeps the old configuration, as does a change of `state`, `audit`, `log`, `http` or `reload`; restart for those.
    /// Fails, too, where only the record could not be opened: the file is in force then.
    Reload {
        #[command(flatten)]
        file: File,
    },
    /// Print the JSON Schema of the file, for editors.
    Schema,
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Turn a password into a verifier for `users: … password:`.
    ///
    /// The password is asked for, or read from standard input; never given as an argument.
    Hash {
        /// argon2id instead of SCRAM-SHA-256: harder to guess from; PostgreSQL listeners take it with `login: cleartext` only, those of MySQL
        /// and SSH always.
        #[arg(long)]
        argon2: bool,
    },
}

/// How a result is printed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Everything went well.
const DONE: u8 = 0;
/// It failed.
const FAILED: u8 = 1;
/// The file is wrong.
const WRONG: u8 = 2;

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Nearly every command holds secrets: its user's, its operator's, those of the stores.
    if let Err(text) = run::keep_to_ourselves() {
        return ExitCode::from(failed(&text));
    }
    // One provider for all TLS; a second installation cannot happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ExitCode::from(match cli.command {
        Command::Run { file } => run::run(&file.config),
        Command::Check { file, offline, format } => check::check(&file.config, offline, format),
        Command::User { command: UserCommand::Hash { argon2 } } => user::hash(argon2),
        Command::Secret { command } => secret::secret(command),
        Command::Policy { file, wanted } => policy::policy(&file.config, &wanted),
        Command::Ca { file } => ca(&file.config),
        Command::Trust { file, host } => trust::trust(&file.config, &host),
        Command::SshConfig { file, wanted } => ssh_config::print(&file.config, &wanted),
        Command::Sessions { file, format } => operate::sessions(&file.config, format),
        Command::Kill { file, session } => operate::kill(&file.config, session),
        Command::Reload { file } => operate::reload(&file.config),
        Command::Schema => schema(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            DONE
        }
    })
}

fn ca(path: &Path) -> u8 {
    let loaded = reload::read(path);
    let Some(config) = loaded.config.filter(|_| !loaded.problems.has_errors()) else {
        eprint!("{}", loaded.problems);
        return WRONG;
    };
    let state = &config.state;
    // Made under the lock: a process that starts meanwhile must not make another one.
    let ca = if LocalCa::is_there(state) {
        LocalCa::open(state)
    } else {
        StateFolder::open(state).and_then(|locked| LocalCa::open(locked.path()))
    };
    match ca {
        Ok(ca) => {
            print!("{}", ca.pem());
            DONE
        }
        Err(text) => failed(&text),
    }
}

fn schema() -> u8 {
    println!("{}", schema_text());
    DONE
}

/// The JSON Schema of the file, as `keyward schema` prints it.
#[must_use]
pub fn schema_text() -> String {
    let (protocols, stores) = reload::rows();
    let schema = keyward_config::schema(&Kinds { protocols: &protocols, stores: &stores });
    format!("{schema:#}")
}

fn failed(text: &str) -> u8 {
    eprintln!("keyward: {text}");
    FAILED
}

/// A connection, with the server of it where it is a group. No name has a slash.
fn beside(connection: &str, host: Option<&str>) -> String {
    host.map_or_else(|| connection.to_owned(), |host| format!("{connection}/{host}"))
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("the runtime: {error}"))
}

/// Columns as wide as their widest cell, but for the last, which may be of any length.
fn table(head: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head.len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let (mut line, mut gap) = (String::new(), 0_usize);
        for (cell, width) in cells.zip(&widths) {
            if !cell.is_empty() {
                // By hand: the width of a format is at most 65535.
                line.extend(std::iter::repeat_n(' ', std::mem::take(&mut gap)));
                line.push_str(cell);
            }
            gap = gap.saturating_add(width.saturating_sub(cell.chars().count())).saturating_add(2);
        }
        println!("{line}");
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}
