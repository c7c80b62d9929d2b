//! Forwarding by SSH: ports and sockets, both ways, agents and X11; through Keyward as directly.

use crate::bed::{SshScene, Sshd, sshd};
use crate::ssh_session::{Row, rekeying, same};

/// Servers and clients of TCP and of sockets in a few lines: `echo PORT|PATH` answers each client with what it said, in upper case, and the
/// end; `say PORT|PATH TEXT` prints the answer. Whoever is in the background is ended at the end.
const NET: &str = "trap 'kill $(jobs -p) 2>/dev/null' EXIT
cat > net.py <<'PY'
import socket, sys, threading, time
def place(where):
    return (socket.AF_INET, ('127.0.0.1', int(where))) if where.isdigit() else (socket.AF_UNIX, where)
def serve(one):
    with one:
        while piece := one.recv(65536):
            one.sendall(piece.upper())
        one.sendall(b' END')
what, where = sys.argv[1], sys.argv[2]
family, address = place(where)
if what == 'echo':
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    server.listen(200)
    print('listening', flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
else:
    deadline = time.time() + 20
    while True:
        one = socket.socket(family)
        try:
            one.connect(address)
            break
        except OSError:
            if time.time() > deadline:
                raise
            time.sleep(0.05)
    if what == 'socks':
        port = int(sys.argv[4])
        one.sendall(b'\\5\\1\\0')
        assert one.recv(2) == b'\\5\\0'
        one.sendall(b'\\5\\1\\0\\3\\x09localhost' + port.to_bytes(2, 'big'))
        head = one.recv(10)
        assert head[1] == 0, head
    said = b''
    try:
        one.sendall(sys.argv[3].encode() * int(sys.argv[5] if len(sys.argv) > 5 else 1))
        one.shutdown(socket.SHUT_WR)
        while piece := one.recv(65536):
            said += piece
    except OSError:
        assert not said
    print((said.decode() or 'nothing') if len(said) < 200 else len(said))
PY
say() { python3 net.py say \"$@\"; }
echo_at() { coproc python3 net.py echo \"$1\"; read -r _ <&\"${COPROC[0]}\"; }
up() { while ! grep -q \"$1\" log 2>/dev/null; do sleep 0.05; done; }
";

const LOCAL: &[(&str, &str, &str)] = &[
    ("-L", "echo_at $Q; $SSH -N -L $P:127.0.0.1:$Q $HOST & say $P hello; say $P x 0 100000", "HELLO END\n100004"),
    (
        "-L by twenty at once",
        "echo_at $Q; $SSH -N -L $P:localhost:$Q $HOST & say $P first
for n in $(seq 20); do say $P part 0 50000 > part-$n & W=\"$W $!\"; done; wait $W; sort part-* | uniq -c; echo all of them",
        "all of them",
    ),
    ("-L to a port that nobody has", "$SSH -N -L $P:127.0.0.1:$Q $HOST & say $P hello", "nothing\n"),
    ("-D", "echo_at $Q; $SSH -N -D $P $HOST & python3 net.py socks $P hello $Q", "HELLO END"),
    ("-W", "echo_at $Q; printf hello | $SSH -W 127.0.0.1:$Q $HOST", "HELLO END"),
    (
        "-L from a socket",
        "echo_at $Q; $SSH -N -L $PWD/here:127.0.0.1:$Q $HOST & while [ ! -S here ]; do sleep 0.05; done; say ./here hello",
        "HELLO END",
    ),
    ("-L to a socket", "chmod 777 .; echo_at $PWD/there; chmod 777 there; $SSH -N -L $P:$PWD/there $HOST & say $P hello", "HELLO END"),
];

const REMOTE: &[(&str, &str, &str)] = &[
    ("-R", "echo_at $Q; $SSH -N -v -R 127.0.0.1:$P:127.0.0.1:$Q $HOST 2>log & say $P hello; say $P x 0 100000", "HELLO END\n100004"),
    // One address: where a port is chosen for the first of two, the second may have it in use.
    ("-R with a port of the server's choice", "echo_at $Q; $SSH -N -v -R 127.0.0.1:0:127.0.0.1:$Q $HOST 2>log & up 'Allocated port'
say $(grep -o 'Allocated port [0-9]*' log | grep -o '[0-9]*') hello", "HELLO END"),
    ("-R to a place that nobody has", "$SSH -N -v -R $P:127.0.0.1:$Q $HOST 2>log & up 'remote forward success'; say $P hello", "nothing\n"),
    ("-R of a port that is taken", "echo_at $Q; $SSH -N -o ExitOnForwardFailure=yes -R 127.0.0.1:$Q:127.0.0.1:1 $HOST 2>&1 | grep -o 'remote port forwarding failed'", "failed"),
    ("-R of a socket", "echo_at $Q; $SSH -N -R $HOME_THERE/socket:127.0.0.1:$Q $HOST & while [ ! -S $HOME_THERE/socket ]; do sleep 0.05; done
say $HOME_THERE/socket hello", "HELLO END"),
    ("-R -D", "echo_at $Q; $SSH -N -v -R 127.0.0.1:$P $HOST 2>log & python3 net.py socks $P hello $Q", "HELLO END"),
    ("-R that is cancelled", "echo_at $Q; $SSH -MNf -S ./control -v $HOST 2>log; $SSH -S ./control -O forward -R 127.0.0.1:$P:127.0.0.1:$Q $HOST
say $P hello; $SSH -S ./control -O cancel -R 127.0.0.1:$P:127.0.0.1:$Q $HOST; while (exec 3<>/dev/tcp/127.0.0.1/$P) 2>/dev/null; do sleep 0.05; done; echo gone; $SSH -S ./control -O exit $HOST 2>/dev/null", "HELLO END\ngone"),
];

/// The agent of the client, with one key in it; the sessions there see it, and nobody has it when the session has ended.
const AGENT: &[(&str, &str, &str)] = &[
    ("the agent", "eval $(ssh-agent) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-keygen -q -t ed25519 -N '' -C mine -f key; ssh-add -q key 2>/dev/null
$SSH -A -o IdentityAgent=$SSH_AUTH_SOCK $HOST 'ssh-add -l | cut -d\" \" -f3; test -S $SSH_AUTH_SOCK && echo socket'
ssh-add -l | wc -l", "mine"),
    ("the agent signs", "eval $(ssh-agent) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-keygen -q -t ed25519 -N '' -C mine -f key; ssh-add -q key 2>/dev/null
cp key.pub $HOME_THERE/; chmod 644 $HOME_THERE/key.pub; $SSH -A -o IdentityAgent=$SSH_AUTH_SOCK $HOST \"ssh-add -T $HOME_THERE/key.pub; echo text | ssh-keygen -q -Y sign -n file -f $HOME_THERE/key.pub | head -1\"", "BEGIN SSH SIGNATURE"),
    ("no agent without being asked", "eval $(ssh-agent) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT; $SSH -a $HOST 'echo ${SSH_AUTH_SOCK-none}'", "none"),
];

/// A display of one client: it prints the first bytes of what connects, which are X11's, with the cookie of the client's own.
const DISPLAY: &str = "cat > display.py <<'PY'
import os, socket, subprocess
server = socket.create_server(('127.0.0.1', 0))
port = server.getsockname()[1]
for number in range(200, 250):
    try:
        server = socket.create_server(('127.0.0.1', 6000 + number))
        break
    except OSError:
        continue
env = dict(os.environ, DISPLAY=f'127.0.0.1:{number}', XAUTHORITY=os.getcwd() + '/xauthority')
cookie = '0123456789abcdef' * 2
subprocess.run(['xauth', 'add', env['DISPLAY'], 'MIT-MAGIC-COOKIE-1', cookie], env=env, check=True, stderr=subprocess.DEVNULL)
there = '''
import os, socket, subprocess, sys
display = os.environ['DISPLAY']
words = subprocess.run(['xauth', 'list', display], capture_output=True, text=True).stdout.split()
cookie = bytes.fromhex(words[-1])
assert cookie.hex() != '0123456789abcdef' * 2, 'the real cookie does not go there'
one = socket.create_connection(('127.0.0.1', 6000 + int(display.split(':')[1].split('.')[0])))
name = b'MIT-MAGIC-COOKIE-1'
one.sendall(b'l\\\\0' + (11).to_bytes(2, 'little') + b'\\\\0\\\\0' + len(name).to_bytes(2, 'little') + (16).to_bytes(2, 'little') + b'\\\\0\\\\0' + name + b'\\\\0\\\\0' + cookie)
print('the display says', one.recv(100).decode())
'''
import shlex
mode = os.environ['MODE']
client = subprocess.Popen(os.environ['SSH'].split() + [mode, os.environ['HOST'], 'python3 -c ' + shlex.quote(there)], env=env)
server.settimeout(20)
try:
    one, _ = server.accept()
    said = one.recv(48)
    print('the cookie is ours:', cookie == said[32:48].hex(), flush=True)
    one.sendall(b'welcome')
    one.close()
except TimeoutError:
    print('nobody came')
raise SystemExit(client.wait(20))
PY
python3 display.py";

const X11: &[(&str, &str, &str)] = &[
    ("X11", "export MODE=-X; DISPLAY_PY", "the cookie is ours: True\nthe display says welcome"),
    ("trusted X11", "export MODE=-Y; DISPLAY_PY", "the cookie is ours: True\nthe display says welcome"),
    ("no X11 without being asked", "$SSH -x $HOST 'echo ${DISPLAY-none}'", "none"),
];

/// One connection of the client for many sessions.
const MASTER: &[(&str, &str, &str)] = &[(
    "ControlMaster",
    "$SSH -MNf -S ./control $HOST; $SSH -S ./control -O check $HOST 2>&1 | sed 's/pid=[0-9]*//'
for n in $(seq 20); do $SSH -S ./control $HOST \"echo $n; exit $n\" > out-$n & W=\"$W $!\"; done
for pid in $W; do wait $pid; echo \"code $?\"; done; cat out-1 out-20
mkfifo stalled; $SSH -S ./control $HOST 'yes' > stalled & sleep 1000 < stalled & A=$! # one that nobody reads
$SSH -S ./control $HOST 'sleep 1000' < /dev/zero & # and one that does not read
for n in 1 2 3; do $SSH -S ./control $HOST 'seq 1000000 | md5sum'; done
kill $A; $SSH -S ./control -O exit $HOST 2>&1; while [ -S control ]; do sleep 0.05; done; $SSH -S ./control -O check $HOST 2>&1 | grep -o 'No such file'",
    "code 20\n1\n20\n8a7095c1c23bfadc311fe6b16d950582  -",
)];

fn rows(of: &[(&'static str, &'static str, &'static str)]) -> Vec<Row> {
    let script = |script: &str| -> &'static str { Box::leak(format!("{NET}{}", script.replace("DISPLAY_PY", DISPLAY)).into_boxed_str()) };
    of.iter().map(|(name, text, says)| Row { name, script: script(text), says }).collect()
}

#[test]
fn ports_and_sockets_are_forwarded_to_the_server() {
    same(&SshScene::new(sshd()), &rows(LOCAL));
}

#[test]
fn ports_and_sockets_are_forwarded_from_the_server() {
    same(&SshScene::new(sshd()), &rows(REMOTE));
}

#[test]
fn the_agent_is_forwarded() {
    same(&SshScene::new(sshd()), &rows(AGENT));
}

#[test]
fn x11_is_forwarded_and_the_real_cookie_stays_here() {
    same(&SshScene::new(sshd()), &rows(X11));
}

#[test]
fn many_sessions_share_a_connection_and_a_stalled_one_stops_no_other() {
    same(&SshScene::new(sshd()), &rows(MASTER));
}

#[test]
fn all_of_it_works_while_every_end_makes_new_keys() {
    let often = Sshd::own("RekeyLimit 5M");
    let scene = SshScene::with(&often, rekeying(""));
    for of in [LOCAL, REMOTE, AGENT, X11, MASTER] {
        same(&scene, &rows(of));
    }
}
