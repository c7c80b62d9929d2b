//! Other clients of SSH: each does the same through Keyward and directly, and must see the same. Some are libraries, of which a
//! script does one step a run and prints what it sees (russh's is in [`with_russh`]); the others are programs, of which lines of bash use what they have in common.
//!
//! The steps: `login` (both outputs, input, exit code), `password`, `keyboard_interactive`, `wrong_key`, `ciphers` (each of ours), `signal`, `terminal`
//! (size and its change), `environment`, `names` (a break), `sftp`, `many` (30 sessions at once in one connection), `forward`, `socket`,
//! `refused` (a port that nobody has), `reverse` (port 0), `rekey` (12 MB down, 5 MB up while all ends make new keys), `not_strict` (the same
//! without strict key exchange), `unread` (a session that nobody reads beside others).
//!
//! The variables: `SSH_HOST`, `SSH_PORT`, `SSH_USER`, `SSH_KEY` (a file), `SSH_PASSWORD`, `SSH_KNOWN_HOSTS` (a file), `SSH_HOST_KEY` (a line); for a
//! jump also `SSH_TARGET`, `SSH_TARGET_USER`, `SSH_TARGET_CA` (a line); `SSH_FOLDER` is the account's own, `SSH_OWN_FOLDER` the client's, and
//! `SSH_OTHER_KEY` a key that nobody knows.

mod with_russh;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bed::{Asyncssh, SshKey, SshPlan, SshScene, SshWay, Sshd, canary, installed, run, scratch, sshd};
use crate::ssh_session::rekeying;

const LONG: Duration = Duration::from_secs(120);

/// A row of the table of libraries.
struct Library {
    script: &'static str,
    steps: &'static [&'static str],
}

const PARAMIKO: Library = Library {
    script: "with_paramiko.py",
    steps: &["login", "password", "wrong_key", "terminal", "environment", "sftp", "many", "forward", "reverse", "rekey", "unread"],
};
const ASYNCSSH: Library = Library {
    script: "with_asyncssh.py",
    steps: &[
        "login",
        "password",
        "ciphers",
        "signal",
        "terminal",
        "environment",
        "names",
        "sftp",
        "many",
        "forward",
        "refused",
        "reverse",
        "rekey",
        "unread",
    ],
};
const SSH2: Library = Library {
    script: "with_ssh2.js",
    steps: &[
        "login",
        "password",
        "wrong_key",
        "ciphers",
        "signal",
        "terminal",
        "environment",
        "sftp",
        "many",
        "forward",
        "socket",
        "refused",
        "reverse",
        "rekey",
        "unread",
    ],
};

#[test]
fn paramiko_sees_no_difference() {
    sees_no_difference(&PARAMIKO);
}

#[test]
fn asyncssh_sees_no_difference() {
    sees_no_difference(&ASYNCSSH);
}

#[test]
fn node_ssh2_sees_no_difference() {
    sees_no_difference(&SSH2);
}

#[test]
fn russh_sees_no_difference() {
    let often = Sshd::own("RekeyLimit 5M");
    let scene = SshScene::with(&often, rekeying(""));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let act = |step, way| runtime.block_on(async { tokio::time::timeout(LONG, with_russh::act(&scene, step, way)).await });
    for step in with_russh::STEPS {
        let direct = act(step, SshWay::Direct).expect("an end");
        assert!(!direct.is_empty(), "{step} shows nothing");
        eprintln!("{step}: {direct}");
        for way in SshWay::THROUGH {
            assert_eq!(act(step, way), Ok(direct.clone()), "{step} by {way:?}");
        }
    }
    drop(runtime);
    scene.nothing_is_left();
}

fn sees_no_difference(library: &Library) {
    let often = Sshd::own("RekeyLimit 5M");
    let scene = SshScene::with(&often, rekeying(""));
    // The only failures here are those of the wrong key.
    scene.keyward.expect_log("\"wrong");
    let mut different = Vec::new();
    for step in library.steps.iter().filter(|step| **step != "password" || often.has_passwords()) {
        let direct = act(&scene, library, step, SshWay::Direct);
        assert!(!direct.is_empty() && !direct.contains("Error: "), "{} {step} directly: {direct}", library.script);
        for way in SshWay::THROUGH.into_iter() {
            let through = act(&scene, library, step, way);
            if through != direct {
                different.push(format!("{} {step} by {way:?}:\n{through}\n--- directly:\n{direct}\n", library.script));
            }
        }
        eprintln!("{step}: {direct}");
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    scene.nothing_is_left();
}

/// What the script says, its complaints behind it.
fn act(scene: &SshScene<'_>, library: &Library, step: &str, way: SshWay) -> String {
    act_at(scene, library, step, scene.place(way))
}

fn act_at(scene: &SshScene<'_>, library: &Library, step: &str, place: Vec<(&'static str, String)>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ssh_clients").join(library.script);
    let mut command = if library.script.ends_with(".py") {
        let mut command = Command::new(installed("python").join("bin/python"));
        command.envs([("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUTF8", "1")]);
        command
    } else {
        let mut command = Command::new("node");
        command.env("NODE_PATH", installed("node_modules"));
        command
    };
    let (there, here) = (scene.sshd.folder_of("deploy"), scratch("client"));
    command.arg(script).arg(step).envs(place).env("SSH_FOLDER", there).env("SSH_OWN_FOLDER", &here).env("HOME", &here);
    command.env("SSH_OTHER_KEY", SshKey::new().file()).env_remove("SSH_AUTH_SOCK");
    let output = run(command, "", LONG);
    let text = format!("{}{}", output.stdout, output.stderr);
    if output.code == Some(0) { text } else { format!("{text}Error: it ended with {:?}", output.code) }
}

/// Without PAM sshd never asks: here asyncssh does, of the user directly and of Keyward behind it.
#[test]
fn a_password_is_asked_for_at_a_prompt_as_a_server_does() {
    let password = canary();
    let server = Asyncssh::start("prompts", &password);
    let scene = SshScene::with(sshd(), SshPlan { connection: server.place(), ..SshPlan::default() });
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    for library in [&ASYNCSSH, &SSH2] {
        let direct = act_at(&scene, library, "keyboard_interactive", server.directly("robot", &password));
        assert_eq!(
            direct.split_whitespace().collect::<String>().to_lowercase(),
            "1[false]inasrobot",
            "{} directly: {direct}",
            library.script
        );
        for way in SshWay::THROUGH {
            let through = act(&scene, library, "keyboard_interactive", way);
            // On the link inside a jump, too, where the client does not say that it begins here.
            let mut lines: Vec<&str> = through.lines().collect();
            lines.dedup();
            assert_eq!(lines, direct.lines().collect::<Vec<_>>(), "{} by {way:?}", library.script);
        }
    }
    scene.nothing_is_left();
}

#[test]
fn a_break_reaches_the_server() {
    let own = Sshd::own("");
    let scene = SshScene::new(&own);
    for (way, count) in SshWay::THROUGH.into_iter().zip(1..) {
        act(&scene, &ASYNCSSH, "names", way);
        assert_eq!(own.log().matches("req break").count(), count, "{way:?}: {}", own.log());
    }
}

/// A row of the table of programs: lines of bash that set `RUN` to what runs a command there, given as one more word.
struct Program {
    name: &'static str,
    straight: &'static str,
    jump: &'static str,
}

const PLINK: Program = Program {
    name: "plink",
    straight: "puttygen $SSH_KEY -o key.ppk
RUN=\"plink -batch -noshare -P $SSH_PORT -i key.ppk -hostkey $SSH_FINGERPRINT $SSH_USER@$SSH_HOST\"",
    // It shows no originator of this machine, so that the link inside asks for the key again.
    jump: "puttygen $SSH_KEY -o key.ppk; WITH=\"-batch -noshare -i key.ppk -hostkey $SSH_FINGERPRINT\"
echo \"exec plink $WITH -proxycmd 'plink $WITH -P $SSH_PORT -nc %host:%port $SSH_USER@$SSH_HOST' $SSH_TARGET_USER@$SSH_TARGET \\\"\\$@\\\"\" > run
RUN='sh ./run'",
};
/// It knows hosts by their names without ports.
const DBCLIENT: Program = Program {
    name: "dbclient",
    straight: "dropbearconvert openssh dropbear $SSH_KEY key 2>/dev/null; mkdir .ssh; echo \"$SSH_HOST $SSH_HOST_KEY\" > .ssh/known_hosts
RUN=\"dbclient -p $SSH_PORT -i key $SSH_USER@$SSH_HOST\"",
    jump: "dropbearconvert openssh dropbear $SSH_KEY key 2>/dev/null; mkdir .ssh
printf '%s\\n' \"$SSH_HOST $SSH_HOST_KEY\" \"$SSH_TARGET $SSH_HOST_KEY\" > .ssh/known_hosts
RUN=\"$(command -v dbclient) -i key $SSH_USER@$SSH_HOST^$SSH_PORT,$SSH_TARGET_USER@$SSH_TARGET\"",
};

const THERE: &str = "
$RUN 'id -un; echo err >&2; exit 3' 2>err; echo \"code $?\"; cat err
printf 'from here' | $RUN 'cat; echo; echo end'
seq 1500000 | $RUN md5sum; $RUN 'seq 1500000' | md5sum
$RUN 'kill -TERM $$' 2>/dev/null; echo \"signal $?\"
for n in 1 2 3 4 5 6; do $RUN \"seq ${n}0000 | md5sum\" > out-$n & W=\"$W $!\"; done; wait $W; cat out-*
";

#[test]
fn plink_sees_no_difference() {
    program_sees_no_difference(&PLINK);
}

#[test]
fn dropbear_sees_no_difference() {
    program_sees_no_difference(&DBCLIENT);
}

fn program_sees_no_difference(program: &Program) {
    let often = Sshd::own("RekeyLimit 5M");
    let scene = SshScene::with(&often, rekeying(""));
    let said = |way: SshWay, lines: &str| {
        let folder = scratch("client");
        let key = if way == SshWay::Direct { &scene.around } else { &scene.alice };
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", &format!("{lines}{THERE}")]).current_dir(&folder).env("HOME", &folder);
        command
            .envs(scene.place(way))
            .env("SSH_KEY", key.file())
            .env("SSH_FINGERPRINT", fingerprint(&scene, way))
            .env_remove("SSH_AUTH_SOCK");
        let output = run(command, "", LONG);
        format!("{}{}\ncode {:?}", output.stdout, output.stderr, output.code)
    };
    let direct = said(SshWay::Direct, program.straight);
    for wanted in ["code 3\nerr\n", "from here\nend\n", "01b2a23e74272b44e6745c851c2462da  -\n01b2a23e74272b44e6745c851c2462da  -\nsignal "]
    {
        assert!(direct.contains(wanted), "{} directly: {direct}", program.name);
    }
    assert_eq!(said(SshWay::Plus, program.straight), direct, "{}", program.name);
    assert_eq!(said(SshWay::Jump, program.jump), direct, "{} by a jump", program.name);
    scene.nothing_is_left();
}

fn fingerprint(scene: &SshScene<'_>, way: SshWay) -> String {
    let file = scratch("host").join("key.pub");
    std::fs::write(&file, if way == SshWay::Direct { scene.sshd.host_key() } else { scene.host_key() }).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.arg("-lf").arg(file);
    run(command, "", LONG).ok().split(' ').nth(1).unwrap().to_owned()
}

const PLAYBOOK: &str = "
- hosts: all
  gather_facts: true
  tasks:
    - ping:
    - command: id -un
      register: who
    - debug: { msg: \"{{ who.stdout }} on {{ ansible_facts.system }}\" }
    - file: { path: \"{{ there }}/folder\", state: directory, mode: '0750' }
    - copy: { src: big, dest: \"{{ there }}/folder/big\", mode: '0640' }
    - copy: { content: \"some text\\n\", dest: \"{{ there }}/text\" }
    - shell: cat text; md5sum < folder/big; sleep 1
      args: { chdir: \"{{ there }}\" }
      register: seen
    - debug: { var: seen.stdout_lines }
    - fetch: { src: \"{{ there }}/folder/big\", dest: fetched, flat: true }
    - command: 'false'
      register: failed
      failed_when: failed.rc != 1
    - shell: echo $((n))
      environment: { n: '7' }
      loop: [1, 2, 3, 4, 5]
";

#[test]
fn an_ansible_playbook_does_the_same() {
    let scene = SshScene::new(sshd());
    let said = |way: SshWay, pipelining: &str| {
        let (folder, there) = (scratch("ansible"), scene.sshd.folder_of("deploy"));
        std::fs::write(folder.join("playbook.yaml"), PLAYBOOK).unwrap();
        std::fs::write(folder.join("big"), "0123456789".repeat(500_000)).unwrap();
        std::fs::write(folder.join("hosts"), format!("{}\n", way.host())).unwrap();
        let mut command = Command::new(installed("python").join("bin/ansible-playbook"));
        command.args(["-i", "hosts", "playbook.yaml", "-e"]).arg(format!("there={}", there.display())).current_dir(&folder);
        command.env("HOME", &folder).env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3");
        command.env("ANSIBLE_PIPELINING", pipelining).env("ANSIBLE_LOCALHOST_WARNING", "False").env_remove("SSH_AUTH_SOCK");
        command.env("ANSIBLE_SSH_ARGS", format!("-F {} -o ControlMaster=auto -o ControlPersist=10s", scene.tools.config().display()));
        command.env("ANSIBLE_SSH_CONTROL_PATH_DIR", &folder).env("ANSIBLE_REMOTE_TEMP", there.join(".ansible")).env("PYTHONUTF8", "1");
        let output = run(command, "", Duration::from_secs(240));
        let same = same_file(&folder.join("big"), &folder.join("fetched"));
        let text = format!("{}{}\ncode {:?}, fetched {same}", output.stdout, output.stderr, output.code);
        text.replace(there.to_str().unwrap(), "THERE")
            .replace(way.host(), "HOST")
            .replace('*', "")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let direct = said(SshWay::Direct, "False");
    for wanted in
        ["\"deploy on Linux\"", "\"some text\"", "\"130cde57239bd21743ef43742ea3259c -\"", "failed=0", "code Some(0), fetched true"]
    {
        assert!(direct.contains(wanted), "{direct}");
    }
    for (way, pipelining) in [(SshWay::Plus, "False"), (SshWay::Jump, "False"), (SshWay::Jump, "True")] {
        assert_eq!(said(way, pipelining), direct, "{way:?}");
    }
}

fn same_file(one: &Path, other: &PathBuf) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap_or_default()
}
