//! OpenSSH's server as an upstream, with users of its own: its `/etc/passwd` is in a namespace of its own, so that nothing of this machine
//! changes, and all that it started ends with it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use super::canary::{canary, random_hex};
use super::postgres::Login;
use super::process::{Server, eventually, free_port, installed, run, scratch, skipped};
use super::ssh_keys::SshKey;

/// Who can log in.
pub const ACCOUNTS: [&str; 3] = ["deploy", "ops", "app"];

/// No user of a usual machine has these numbers.
const FIRST_UID: u32 = 61_100;

/// What is done in the namespaces before sshd starts: `$1` is the folder, `$2` is sshd.
const ENTER: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
for name in passwd shadow group; do mount --bind \"$1/etc/$name\" \"/etc/$name\"; done
exec \"$2\" -D -e -f \"$1/sshd_config\"";

/// Which OpenSSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian's own, 9.2 on Debian 12.
    Debian,
    /// 10 of Debian's unstable branch.
    Ten,
}

/// One running server.
pub struct Sshd {
    port: u16,
    folder: PathBuf,
    host_key: SshKey,
    logins: Vec<Login>,
    /// Whether [`ACCOUNTS`] are users of their own, with passwords.
    apart: bool,
    _server: Server,
}

/// Debian's sshd; shared by all tests.
pub fn sshd() -> &'static Sshd {
    static SHARED: LazyLock<Sshd> = LazyLock::new(|| Sshd::own(""));
    &SHARED
}

/// OpenSSH 10; shared by all tests. `None` where Debian's unstable branch could not be had: says so loudly.
pub fn sshd10() -> Option<&'static Sshd> {
    static SHARED: LazyLock<Option<Sshd>> = LazyLock::new(|| openssh10("sshd").map(|_| Sshd::of(Release::Ten, SshKey::new(), "")));
    SHARED.as_ref()
}

/// A program of OpenSSH 10 (`"ssh"`, `"sshd"`), if it is there.
pub fn openssh10(program: &str) -> Option<PathBuf> {
    let into = installed("openssh-10");
    if let Ok(why) = fs::read_to_string(into.join("unavailable")) {
        skipped(&format!("openssh-10: {}", why.trim()));
        return None;
    }
    [into.join("bin"), into.join("sbin")].into_iter().map(|folder| folder.join(program)).find(|path| path.exists())
}

impl Sshd {
    /// Debian's sshd for a test of its own; `keys` are further lines of `sshd_config`, which count before ours.
    pub fn own(keys: &str) -> Self {
        Self::of(Release::Debian, SshKey::new(), keys)
    }

    /// The same with this release and this host key; its certificate is shown if it has one.
    #[track_caller]
    pub fn of(release: Release, host_key: SshKey, keys: &str) -> Self {
        let (folder, port, apart) = (scratch("sshd"), free_port(), can_have_users());
        let logins: Vec<Login> = ACCOUNTS.iter().map(|name| Login { name: login_name(name, apart), password: canary() }).collect();
        for folder in [folder.join("keys"), folder.join("home"), folder.join("etc")] {
            open_folder(&folder);
        }
        for (name, number) in ACCOUNTS.iter().zip(FIRST_UID..) {
            let home = folder.join("home").join(name);
            open_folder(&home);
            // Without one, xauth says at its first use that there is none.
            fs::write(home.join(".Xauthority"), "").unwrap();
            if apart {
                for path in [home.clone(), home.join(".Xauthority")] {
                    chown(path, Some(number), Some(number)).unwrap();
                }
            }
        }
        if apart {
            write_users(&folder, &logins);
        }
        fs::write(folder.join("user_authorities"), "").unwrap();
        fs::write(folder.join("sshd_config"), config(&folder, port, &host_key, release, keys)).unwrap();
        let server = spawn(&folder, release, apart);
        let sshd = Self { port, folder, host_key, logins, apart, _server: server };
        eventually("sshd greets", || sshd.greets());
        sshd
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its host key, `ssh-ed25519 AAAA…`.
    pub fn host_key(&self) -> String {
        self.host_key.public()
    }

    /// The login of one of [`ACCOUNTS`].
    #[track_caller]
    pub fn login(&self, account: &str) -> &Login {
        let at = ACCOUNTS.iter().position(|name| *name == account).expect("an account of the bed");
        &self.logins[at]
    }

    /// Whether its accounts have passwords. Where namespaces cannot be had they are all the user who runs the tests, who comes in by key
    /// only: says so loudly.
    pub fn has_passwords(&self) -> bool {
        if !self.apart {
            skipped("root: sshd has no users with passwords here");
        }
        self.apart
    }

    /// The folder in which a session of the account begins, or where its files may lie.
    pub fn home(&self, account: &str) -> PathBuf {
        self.folder.join("home").join(account)
    }

    /// Lets whoever has this key in as the account, from now on.
    pub fn authorize(&self, account: &str, key: &str) {
        append(&self.folder.join("keys").join(&self.login(account).name), key);
    }

    /// Lets whoever has a certificate of this authority in, from now on.
    pub fn trust(&self, authority: &str) {
        append(&self.folder.join("user_authorities"), authority);
    }

    /// What it has said so far, at its level of detail `DEBUG1`.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// A new folder that the account owns.
    pub fn folder_of(&self, account: &str) -> PathBuf {
        let folder = self.home(account).join(random_hex(4));
        open_folder(&folder);
        self.give(account, &folder);
        folder
    }

    /// Makes the account the owner of a file.
    pub fn give(&self, account: &str, path: &Path) {
        if self.apart {
            let number = FIRST_UID + u32::try_from(ACCOUNTS.iter().position(|name| *name == account).unwrap()).unwrap();
            chown(path, Some(number), Some(number)).unwrap();
        }
    }

    fn greets(&self) -> Option<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut start = [0; 8];
        stream.read_exact(&mut start).ok()?;
        (&start == b"SSH-2.0-").then_some(())
    }
}

fn spawn(folder: &Path, release: Release, apart: bool) -> Server {
    let program = match release {
        Release::Debian => PathBuf::from("/usr/sbin/sshd"),
        Release::Ten => openssh10("sshd").expect("OpenSSH 10 is there"),
    };
    let mut command;
    if apart {
        command = Command::new("unshare");
        // All that a session leaves behind is in the namespace of processes, and ends with it.
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ENTER, "sh"]).arg(folder).arg(program);
    } else {
        // As root sshd wants this folder, which is made at boot where it is a service; for anybody else it is nothing.
        let _ = fs::create_dir("/run/sshd");
        command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    }
    // What is in the environment of the tests is nothing to the sessions.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name != "PATH") {
        command.env_remove(name);
    }
    let log = || Stdio::from(fs::File::options().append(true).create(true).open(folder.join("log")).unwrap());
    Server::start(&command, "KILL", &[], [Stdio::null(), log(), log()])
}

/// Root in a container that forbids namespaces cannot either.
fn can_have_users() -> bool {
    static ABLE: LazyLock<bool> = LazyLock::new(|| {
        let mut probe = Command::new("unshare");
        probe.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run"]);
        rustix::process::geteuid().is_root() && run(probe, "", Duration::from_secs(20)).code == Some(0)
    });
    *ABLE
}

fn login_name(account: &str, apart: bool) -> String {
    if apart {
        return account.to_owned();
    }
    let mut whoami = Command::new("id");
    whoami.arg("-un");
    run(whoami, "", Duration::from_secs(20)).ok().to_owned()
}

/// Copies of the machine's own files with our users behind theirs.
fn write_users(folder: &Path, logins: &[Login]) {
    let of_machine = |name: &str| fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
    let (mut passwd, mut shadow, mut group) = (of_machine("passwd"), of_machine("shadow"), of_machine("group"));
    for (login, number) in logins.iter().zip(FIRST_UID..) {
        let home = folder.join("home").join(&login.name);
        writeln!(passwd, "{0}:x:{number}:{number}::{1}:/bin/bash", login.name, home.display()).unwrap();
        writeln!(shadow, "{}:{}:19000:0:99999:7:::", login.name, hash(&login.password)).unwrap();
        writeln!(group, "{}:x:{number}:", login.name).unwrap();
    }
    for (name, text) in [("passwd", passwd), ("shadow", shadow), ("group", group)] {
        let file = folder.join("etc").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(if name == "shadow" { 0o600 } else { 0o644 })).unwrap();
    }
}

fn hash(password: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["passwd", "-6", "-stdin"]);
    run(openssl, &format!("{password}\n"), Duration::from_secs(20)).ok().to_owned()
}

fn config(folder: &Path, port: u16, host_key: &SshKey, release: Release, keys: &str) -> String {
    let (folder, key) = (folder.display(), host_key.file().display());
    let certificate = host_key.certificate();
    let mut text = format!("{keys}\n");
    if certificate.exists() {
        writeln!(text, "HostCertificate {}", certificate.display()).unwrap();
    }
    if release == Release::Ten {
        // Every client of these tests has the same address, and some of them misbehave.
        let path = |program: &str| openssh10(program).unwrap().display().to_string();
        let (session, auth) = (path("sshd-session"), path("sshd-auth"));
        writeln!(text, "PerSourcePenalties no\nSshdSessionPath {session}\nSshdAuthPath {auth}").unwrap();
    }
    // The files lie below /tmp, where anybody may write, which StrictModes does not like.
    text + &format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {key}\nPidFile none\nUsePAM no\nStrictModes no\nLogLevel DEBUG1\nUseDNS no\n\
         AuthorizedKeysFile {folder}/keys/%u\nTrustedUserCAKeys {folder}/user_authorities\nPermitRootLogin yes\n\
         PasswordAuthentication yes\nKbdInteractiveAuthentication no\nMaxStartups 500\nMaxSessions 200\nMaxAuthTries 20\n\
         PrintMotd no\nPrintLastLog no\nAcceptEnv LC_* MINE_*\nSubsystem sftp internal-sftp\n\
         AllowAgentForwarding yes\nAllowTcpForwarding yes\nAllowStreamLocalForwarding yes\nGatewayPorts clientspecified\n\
         X11Forwarding yes\nX11UseLocalhost yes\nXAuthLocation /usr/bin/xauth\n"
    )
}

fn open_folder(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// In one write: other tests add to the file, and sshd reads it, at the same time.
fn append(file: &Path, line: &str) {
    let mut text = fs::File::options().append(true).create(true).open(file).unwrap();
    text.write_all(format!("{line}\n").as_bytes()).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}
