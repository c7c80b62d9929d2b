"""psycopg 3, one step a run; tests/drivers.rs says what the steps are. libpq's environment variables say where and who."""

import hashlib
import logging
import sys
import threading

import psycopg


def connect():
    return psycopg.connect(autocommit=True)


def say(*words):
    print(*words, flush=True)


def login():
    with connect() as db:
        say(db.pgconn.ssl_in_use, *db.execute("select current_database(), current_user").fetchone())


def wrong_password():
    try:
        connect()
    except psycopg.OperationalError as error:
        say("refused", "FATAL" in str(error))


def parameters():
    with connect() as db:
        values = (42, "it's \\ ünïcode €", None, b"\0\xff", [1, None, 3], 1.5, True)
        query = "select %s::int, %s::text, %s::text, %s::bytea, %s::int[], %s::float8, %s::bool"
        for binary in (False, True):
            cursor = db.cursor(binary=binary)
            for _ in range(7):  # from the sixth on it is a named prepared statement
                row = cursor.execute(query, values).fetchone()
            say(row)


def transaction():
    with connect() as db:
        db.execute("create temp table t (id int primary key)")
        with db.transaction():
            db.execute("insert into t values (1)")
            try:
                with db.transaction():
                    db.execute("insert into t values (1)")
            except psycopg.Error as error:
                say(error.sqlstate)
        try:
            with db.transaction():
                db.execute("insert into t values (2)")
                raise ValueError
        except ValueError:
            pass
        say(db.execute("select array_agg(id) from t").fetchone())


def large_row():
    with connect() as db:
        [text] = db.execute("select repeat('abcdefghij', 1024 * 1024)").fetchone()
        say(len(text), hashlib.md5(text.encode()).hexdigest())
        say(*db.execute("select length(%s), md5(%s)", (text, text)).fetchone())


def copy():
    with connect() as db:
        db.execute("create temp table t (id int, word text)")
        for form in ("text", "binary"):
            with db.cursor().copy(f"copy t from stdin (format {form})") as into:
                into.set_types(["int4", "text"])
                for number in range(20000):
                    into.write_row((number, f"word {number}"))
            with db.cursor().copy(f"copy t to stdout (format {form})") as out:
                out.set_types(["int4", "text"])
                say(form, sum(1 for _ in out.rows()))
        say(*db.execute("select count(*), md5(string_agg(word, ',' order by id, word)) from t").fetchone())


def pipeline():
    with connect() as db:
        with db.pipeline() as pipe:
            cursors = [db.execute("select %s::int * 2", (number,)) for number in range(2000)]
            pipe.sync()
            say(sum(cursor.fetchone()[0] for cursor in cursors))
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it may say beside the error that it left more of them
        try:
            with db.pipeline():
                db.execute("select 1/%s::int", (0,))
                db.execute("select 1")
        except psycopg.Error as error:
            say(error.sqlstate)
        say(*db.execute("select 1").fetchone())


def cancel():
    with connect() as db:
        threading.Thread(target=lambda: (sys.stdin.readline(), db.cancel_safe(timeout=10))).start()
        try:
            db.execute("select pg_advisory_lock(7), pg_sleep(60)")
        except psycopg.Error as error:
            say(error.sqlstate)
        say(*db.execute("select 'still here'").fetchone())


def reconnect():
    db = connect()
    say(*db.execute("select 'first'").fetchone())
    sys.stdin.readline()
    try:
        db.execute("select 1")
    except psycopg.OperationalError as error:
        say(type(error).__name__, error.sqlstate)
    sys.stdin.readline()
    login()


globals()[sys.argv[1]]()
