//! What OpenSSH does in a session, row by row: through Keyward, by either way, it prints and returns what it does directly.

use std::time::Duration;

use crate::bed::{SshPlan, SshScene, SshTools, SshWay, Sshd, free_port, openssh10, run, sshd, sshd10};

const LONG: Duration = Duration::from_secs(120);

/// One thing that people do, as lines of bash (see [`SshTools::script`] for the variables; `$HOME_THERE` is a new folder of deploy's,
/// `$P` and `$Q` are ports that nobody has).
pub struct Row {
    pub name: &'static str,
    pub script: &'static str,
    /// What a row that worked has said somewhere; a row that says the same everywhere because it works nowhere must not pass.
    pub says: &'static str,
}

/// What it says, with its exit code behind it.
#[track_caller]
pub fn said(sshd: &Sshd, tools: &SshTools, way: SshWay, row: &Row) -> String {
    let there = sshd.folder_of("deploy");
    let (p, q) = (free_port().to_string(), free_port().to_string());
    let variables = [
        ("HOME_THERE", there.to_str().unwrap()),
        ("P", p.as_str()),
        ("Q", q.as_str()),
        ("LC_MINE", "ünïcode and 'quotes'"),
        ("MINE_TWO", "two"),
    ];
    let output = run(tools.script(way, row.script, &variables), "", LONG);
    let text = format!("{}{}\ncode {:?}", output.stdout, output.stderr, output.code);
    text.replace(there.to_str().unwrap(), "THERE").replace(way.host(), "HOST")
}

/// Each row directly and through Keyward; says of all rows which are different.
#[track_caller]
pub fn same(scene: &SshScene<'_>, rows: &[Row]) {
    let mut different = Vec::new();
    for row in rows {
        let direct = said(scene.sshd, &scene.tools, SshWay::Direct, row);
        assert!(direct.contains(row.says), "{} does not work directly: {direct}", row.name);
        for way in SshWay::THROUGH {
            let through = said(scene.sshd, &scene.tools, way, row);
            if through != direct {
                different.push(format!("{} by {way:?}:\n{through}\n--- directly:\n{direct}\n", row.name));
            }
        }
        eprintln!("{}: {}", row.name, if different.is_empty() { "the same" } else { "that, or one before, is different" });
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    scene.nothing_is_left();
}

/// A scene in which the client and both of Keyward's ends make new keys whenever 5 MB have passed; the server does by its own config.
pub fn rekeying(client: &str) -> SshPlan {
    let limit = || "rekey_limit: 5MiB".to_owned();
    SshPlan { client: format!("RekeyLimit 5M\n{client}"), listener: limit(), connection: limit(), ..SshPlan::default() }
}

const SESSION: &[Row] = &[
    Row { name: "a command", script: "$SSH $HOST 'echo out; echo \"$0\"; id -un; pwd'", says: "out\n" },
    Row { name: "an exit code", script: "$SSH $HOST 'exit 7'", says: "code Some(7)" },
    Row { name: "an exit code above 127", script: "$SSH $HOST 'exit 200'", says: "code Some(200)" },
    Row { name: "an exit signal", script: "$SSH -v $HOST 'kill -TERM $$' 2>&1 | grep -E 'rtype exit|exit-signal'", says: "exit-signal" },
    Row { name: "a command that is not there", script: "$SSH $HOST no-such-command 2>&1", says: "code Some(127)" },
    Row {
        name: "stderr apart",
        script: "$SSH $HOST 'echo out; echo err >&2' 2>err; echo 1; cat err; $SSH $HOST 'echo x >&2' 2>/dev/null",
        says: "1\nerr\n",
    },
    Row { name: "a shell", script: "printf 'echo from-$((1+1))\\nexit 3\\n' | $SSH -T $HOST", says: "from-2\n\ncode Some(3)" },
    Row {
        name: "half-close",
        script: "head -c 300000 /dev/zero | $SSH $HOST 'cat; echo end' | md5sum; seq 5 | $SSH $HOST 'sort -r; exec >&-; exit 4'",
        says: "code Some(4)",
    },
    Row { name: "stdin that ends before the command", script: "$SSH -n $HOST 'cat; sleep 0.3; echo later'", says: "later" },
    Row {
        name: "early close",
        script: "$SSH $HOST 'yes' | head -1; $SSH $HOST 'yes; echo $? >&2' 2>/dev/null | head -c 3000000 | md5sum",
        says: "y\n",
    },
    Row {
        name: "a command that closes its output and goes on",
        script: "$SSH $HOST 'exec >&- 2>&-; sleep 0.3; exit 5'",
        says: "code Some(5)",
    },
    Row { name: "nothing is read", script: "head -c 3000000 /dev/zero | $SSH $HOST 'exit 6'", says: "" },
    Row {
        name: "environment",
        script: "$SSH -o 'SendEnv=LC_MINE MINE_*' -o SetEnv=MINE_THREE=3 -o SendEnv=HOME $HOST 'echo \"$LC_MINE $MINE_TWO $MINE_THREE $HOME\"'",
        says: "ünïcode and 'quotes' two 3 /",
    },
    Row {
        name: "a terminal",
        script: "$SSH -tt $HOST 'tty >/dev/null && echo is-a-tty; echo $TERM; stty -a | grep -o \"intr = ^C\"' < /dev/null 2>&1",
        says: "is-a-tty",
    },
    Row {
        name: "a terminal of a size",
        script: "TERM=vt220 script -qefc \"stty rows 31 cols 97; $SSH -t $HOST 'stty size; echo \\$TERM'\" /dev/null < /dev/null | sed 's/\\^@//'", // what stands for the end of its input, and comes when it likes
        says: "31 97\r\nvt220",
    },
    Row { name: "the size changes", script: RESIZE, says: "40 120" },
    Row {
        name: "control characters",
        script: "{ printf 'sh -c \"echo here-$((1+1)); exec sleep 1000\"\\r'; until grep -a -s -q here-2 out; do sleep 0.05; done; printf '\\003echo got-$?\\rexit\\r'; } | $SSH -tt $HOST 'PS1= bash --norc --noprofile' > out 2>&1; grep -a -o got-130 out",
        says: "got-130",
    },
    Row {
        name: "stderr and stdout at once",
        script: "$SSH $HOST 'seq 100000 >&2 & seq 100000; wait' 2> err > out; md5sum out err; wc -l err",
        says: "100000 err",
    },
    Row { name: "many sessions one after the other", script: "for n in 1 2 3 4 5; do $SSH $HOST \"echo $n\"; done", says: "5" },
    Row {
        name: "a command of 30,000 characters",
        script: "$SSH $HOST \"echo $(head -c 30000 /dev/zero | tr '\\0' x) | wc -c\"",
        says: "30001",
    },
    Row {
        name: "keepalives",
        script: "$SSH -vvv -o ServerAliveInterval=1 -o ServerAliveCountMax=60 $HOST 'sleep 4; echo alive' 2>err; grep -q 'receive packet: type 8[12]' err && echo answered",
        says: "alive\nanswered",
    },
];

/// The terminal of `script` is changed while ssh runs in it: it is told by SIGWINCH, and tells the server.
const RESIZE: &str = "cat > resize.py <<'PY'
import fcntl, os, pty, struct, termios
def size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
pid, fd = pty.fork()
if pid == 0:
    words = os.environ['SSH'].split() + ['-t', os.environ['HOST'], 'echo ready; until stty size | grep \"40 120\"; do sleep 0.05; done']
    os.execvp(words[0], words)
size(fd, 24, 80)
seen = b''
def read():
    global seen
    try:
        piece = os.read(fd, 4096)
    except OSError:
        piece = b''
    seen += piece
    return piece
while b'ready' not in seen and read():
    pass
size(fd, 40, 120)
while read():
    pass
print([line for line in seen.decode().split() if line.isdigit()][-2:], os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(*[line for line in seen.decode().split() if line.isdigit()][-2:])
PY
python3 resize.py";

#[test]
fn a_session_through_keyward_is_the_session_that_it_is_directly() {
    same(&SshScene::new(sshd()), SESSION);
}

/// How often somebody heard that new keys are wanted, the first ones included.
fn exchanges(log: &str) -> usize {
    log.matches("SSH2_MSG_KEXINIT received").count()
}

#[test]
fn a_rekey_limit_makes_new_keys_on_the_side_that_it_is_said_of_and_on_no_other() {
    let limit = || "rekey_limit: 1MiB".to_owned();
    let of_listener = SshPlan { listener: limit(), ..SshPlan::default() };
    let of_connection = SshPlan { connection: limit(), ..SshPlan::default() };
    for (plan, with_client) in [(of_listener, true), (of_connection, false)] {
        // Neither ssh nor sshd asks for new keys by itself before gigabytes.
        let own = Sshd::own("");
        let scene = SshScene::with(&own, plan);
        for way in SshWay::THROUGH {
            let before = exchanges(&own.log());
            let said = scene.tools.run(way, &["-v"], "head -c 4000000 /dev/zero");
            assert_eq!((said.stdout.len(), said.code), (4_000_000, Some(0)), "{way:?}: {}", said.stderr);
            let (client, server) = (exchanges(&said.stderr), exchanges(&own.log()) - before);
            let (limited, other) = if with_client { (client, server) } else { (server, client) };
            assert!(limited >= 3 && other == 1, "{way:?}, with the client {with_client}: client {client}, server {server}");
        }
        scene.nothing_is_left();
    }
}

/// OpenSSH says which methods it agreed on, and to which of its extensions; with us as with its own.
const AGREED: Row = Row {
    name: "what was agreed",
    script: "$SSH -vv $HOST true 2>&1 | tr -d '\\r' | grep -oE 'kex: algorithm: .*|kex: server->client cipher: [^ ]*|will use strict KEX ordering' | sort -u",
    says: "kex: algorithm: mlkem768x25519-sha256\nkex: server->client cipher: ",
};

#[test]
fn a_session_with_openssh_10_on_both_ends_is_the_session_that_it_is_directly() {
    let Some((server, program)) = sshd10().zip(openssh10("ssh")) else { return };
    let scene = SshScene::with(server, SshPlan { program, ..rekeying("") });
    same(&scene, SESSION);
    for way in SshWay::THROUGH {
        let agreed = said(server, &scene.tools, way, &AGREED);
        assert!(agreed.contains(AGREED.says), "{agreed}");
    }
}
