"""psql, one step a run; tests/drivers.rs says what the steps are. argv[2] is the psql; libpq's environment says where and who."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

PSQL = [sys.argv[2], "-X", "-q", "-A", "-t", "-w"]


def say(*words):
    print(*words, flush=True)


def psql(script, *options):
    done = subprocess.run([*PSQL, *options], input=script, capture_output=True, text=True, timeout=60)
    return done.stdout.strip(), done.stderr.strip()


def login():
    say(*psql("select current_database(), current_user"))


def wrong_password():
    _, error = psql("select 1")
    say("refused", "FATAL" in error)


def parameters():
    script = "prepare p (int, text, bytea) as select $1 * 2, $2, $3;\nexecute p (21, :'word', '\\x00ff');\nexecute p (1, null, null);"
    say(*psql(script, "-v", "word=it's \\ ünïcode €"))


def transaction():
    say(*psql("""\\set VERBOSITY sqlstate
        create temp table t (id int primary key);
        begin; insert into t values (1); savepoint s; insert into t values (1); select 1; rollback to s; commit;
        begin; insert into t values (2); rollback;
        select array_agg(id) from t;"""))


def large_row():
    text, error = psql("select repeat('abcdefghij', 1024 * 1024)")
    say(len(text), text == "abcdefghij" * 1024 * 1024, error)


def copy():
    rows = "".join(f"{number}\tword {number}\n" for number in range(20000))
    script = f"create temp table t (id int, word text);\n\\copy t from stdin\n{rows}\\.\n\\copy (select * from t order by id) to stdout\n"
    text, error = psql(script)
    say(text + "\n" == rows, error)


def pipeline():
    binds = "".join(f"select $1::int * 2 \\bind {number} \\sendpipeline\n" for number in range(500))
    text, error = psql(f"\\startpipeline\n{binds}\\endpipeline\n")
    say(sum(map(int, text.split())), error)


def cancel():
    process = subprocess.Popen(PSQL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write("\\set VERBOSITY sqlstate\nselect pg_advisory_lock(7), pg_sleep(60);\n")
    process.stdin.flush()
    sys.stdin.readline()
    process.send_signal(signal.SIGINT)  # psql sends the cancel request; SIGINT also ends a script, as an error does
    _, error = process.communicate(timeout=60)
    say(error.strip())


def reconnect():
    # Only at a terminal does psql connect again by itself.
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "dumb"
        os.execvp(PSQL[0], PSQL + ["-n", "-P", "pager=off", "-v", "PROMPT1=", "-v", "PROMPT2="])
    until(terminal, "select 'fi' || 'rst';", "first")
    say("first")
    sys.stdin.readline()
    seen = until(terminal, "select 1;", "Attempting reset")
    say("FATAL" in seen, "terminating connection" in seen or "keyward is shutting down" in seen)
    sys.stdin.readline()
    until(terminal, "\\connect connect_timeout=20\nselect 'back ' || 'again';", "back again")
    say("back again")
    os.write(terminal, b"\\q\n")
    os.waitpid(child, 0)


def until(terminal, line, wanted):
    """Types a line and reads until what is wanted is there."""
    os.write(terminal, line.encode() + b"\n")
    seen, end = "", time.monotonic() + 15
    while wanted not in seen:
        readable, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        if not readable:
            sys.exit(f"no {wanted!r} in {seen!r}")
        seen += os.read(terminal, 65536).decode()
    return seen


globals()[sys.argv[1]]()
