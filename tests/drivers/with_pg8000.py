"""pg8000, one step a run; tests/drivers.rs says what the steps are. libpq's environment variables say where and who."""

import hashlib
import io
import os
import ssl
import sys

from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection


def connect():
    env = os.environ
    tls = ssl.create_default_context(cafile=env["PGSSLROOTCERT"])
    place = {"host": env["PGHOST"], "port": int(env["PGPORT"]), "database": env["PGDATABASE"]}
    return Connection(env["PGUSER"], password=env["PGPASSWORD"], ssl_context=tls, timeout=20, **place)


def say(*words):
    print(*words, flush=True)


def login():
    db = connect()
    say(*db.run("select current_database(), current_user")[0])
    db.close()


def wrong_password():
    try:
        connect()
    except DatabaseError as error:
        say("refused", error.args[0]["C"])


def parameters():
    db = connect()
    query = "select cast(:a as int), cast(:b as text), cast(:c as text), cast(:d as bytea), cast(:e as int[]), cast(:f as float8)"
    values = {"a": 42, "b": "it's \\ ünïcode €", "c": None, "d": b"\0\xff", "e": [1, None, 3], "f": 1.5}
    say(db.run(query, **values))
    prepared = db.prepare(query)
    say(prepared.run(**values), prepared.run(**values))
    prepared.close()
    db.close()


def transaction():
    db = connect()
    db.run("create temp table t (id int primary key)")
    db.run("begin")
    db.run("insert into t values (1)")
    db.run("savepoint s")
    for _ in range(2):
        try:
            db.run("insert into t values (1)")
        except DatabaseError as error:
            say(error.args[0]["C"])
    db.run("rollback to s")
    db.run("commit")
    db.run("begin")
    db.run("insert into t values (2)")
    db.run("rollback")
    say(db.run("select array_agg(id) from t"))
    db.close()


def large_row():
    db = connect()
    [[text]] = db.run("select repeat('abcdefghij', 1024 * 1024)")
    say(len(text), hashlib.md5(text.encode()).hexdigest())
    say(db.run("select length(:a), md5(:a)", a=text))
    db.close()


def copy():
    db = connect()
    db.run("create temp table t (id int, word text)")
    text = "".join(f"{number}\tword {number}\n" for number in range(20000))
    db.run("copy t from stdin", stream=io.StringIO(text))
    out = io.BytesIO()
    db.run("copy (select * from t order by id) to stdout", stream=out)
    say(out.getvalue() == text.encode(), hashlib.md5(out.getvalue()).hexdigest())
    db.close()


def reconnect():
    db = connect()
    say(*db.run("select 'first'")[0])
    sys.stdin.readline()
    try:
        db.run("select 1")
    except (DatabaseError, InterfaceError) as error:
        say(type(error).__name__)
    sys.stdin.readline()
    login()


globals()[sys.argv[1]]()
