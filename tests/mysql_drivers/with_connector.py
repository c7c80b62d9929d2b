"""MySQL's Connector/Python, its pure Python part, one step a run; tests/mysql_drivers.rs says what the steps are."""

import hashlib
import io
import os
import sys

import mysql.connector

env = os.environ.get


def connect(**options):
    place = {"unix_socket": env("MYSQL_SOCKET")} if env("MYSQL_SOCKET") else {"host": env("MYSQL_HOST"), "port": int(env("MYSQL_PORT"))}
    secure = {"ssl_ca": env("MYSQL_CA"), "ssl_verify_cert": True, "ssl_verify_identity": True} if env("MYSQL_CA") else {"ssl_disabled": True}
    who = {"user": env("MYSQL_USER"), "password": env("MYSQL_PASSWORD"), "database": env("MYSQL_DATABASE")}
    options = {"autocommit": True, "allow_local_infile": False} | options
    return mysql.connector.connect(**place, **secure, **who, **options, use_pure=True, connection_timeout=20)


def say(*words):
    print(*words, flush=True)


def md5(data):
    return hashlib.md5(data if isinstance(data, (bytes, bytearray)) else data.encode()).hexdigest()


def code(work):
    try:
        work()
        say("done")
    except mysql.connector.Error as error:
        say(type(error).__name__, error.errno, error.sqlstate, error.msg)


def login():
    with connect() as db, db.cursor() as cursor:
        say(env("MYSQL_CA") is None or db.is_secure, db.server_info, db.charset, db.collation)
        cursor.execute("SELECT current_user(), database(), @@version, @@version_comment, @@character_set_client")
        say(cursor.fetchone())


def wrong_password():
    try:
        connect()
    except mysql.connector.Error as error:
        say("refused", error.errno, error.sqlstate)


def untrusted():
    try:
        connect()
        say("let in")
    except mysql.connector.Error as error:
        say("refused", "CERTIFICATE_VERIFY_FAILED" in str(error))


def types():
    with connect() as db:
        # It cannot read the year of a prepared statement's row.
        some = "id, tiny, big_u, dec_, flt, dbl, dt, tm, ts, dtm, ch, vc, bin, vbin, bl, tt, txt, en, st"
        for options, columns in (({}, "*"), ({"raw": True}, "*"), ({"prepared": True}, some)):
            with db.cursor(**options) as cursor:
                cursor.execute(f"SELECT {columns} FROM types ORDER BY id")
                say([(column[0], column[1], column[6], column[7]) for column in cursor.description])
                for row in cursor.fetchall():
                    say(md5(repr(row)), *row[:20])
        with db.cursor(prepared=True) as cursor:
            for number in range(4):
                cursor.execute("SELECT ?, ?, ?, ?, ?", (number, "it's \\ ünïcode € 🦀", None, b"\0\xff'\\", 1.5))
                say(cursor.fetchall())


def transaction():
    with connect(autocommit=False) as db, db.cursor() as cursor:
        cursor.execute("INSERT INTO work VALUES (1, 'one')")
        db.commit()
        db.start_transaction(isolation_level="SERIALIZABLE")
        cursor.execute("INSERT INTO work VALUES (2, 'two')")
        code(lambda: cursor.execute("INSERT INTO work VALUES (1, 'again')"))
        say(db.in_transaction)
        db.rollback()
        cursor.executemany("INSERT INTO work (word) VALUES (%s)", [(f"word {number}",) for number in range(1000)])
        say(cursor.rowcount, cursor.lastrowid)
        db.commit()
        cursor.execute("SELECT count(*), max(id) FROM work")
        say(cursor.fetchall(), db.in_transaction)


def results():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'")
        for _ in range(5):
            say(cursor.with_rows and cursor.fetchall(), cursor.rowcount)
            cursor.nextset()
        say(cursor.callproc("several", (21, 0)))
        for result in cursor.stored_results():
            say(result.fetchall())
        code(lambda: cursor.callproc("failing"))
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT 'still here'")
        say(cursor.fetchall())


def streamed():
    with connect() as db:
        with db.cursor() as cursor:
            cursor.execute("SELECT id, word FROM numbers ORDER BY id")
            say(md5("".join(f"{number}{word}" for number, word in cursor)))
        with db.cursor(prepared=True) as cursor:
            cursor.execute("SELECT id, word FROM numbers WHERE id < ? ORDER BY id", (5000,))
            pieces = iter(lambda: cursor.fetchmany(700), [])
            say(md5("".join(f"{number}{word}" for piece in pieces for number, word in piece)))


def cursors():
    """A cursor on the server: COM_STMT_FETCH."""
    with connect() as db:
        statement = db.cmd_stmt_prepare(b"SELECT id, word FROM numbers WHERE id < 1000 ORDER BY id")
        say(statement["num_columns"], statement["num_params"])
        db.cmd_stmt_execute(statement["statement_id"], flags=1)
        fetched = []
        for many in (1, 300, 700):
            db.cmd_stmt_fetch(statement["statement_id"], many)
            rows, end = db.get_rows(binary=True, columns=statement["columns"])
            fetched += rows
            say(len(rows), end["status_flag"])
        say(md5(repr(fetched)))
        db.cmd_stmt_reset(statement["statement_id"])
        db.cmd_stmt_close(statement["statement_id"])
        with db.cursor() as cursor:
            cursor.execute("SELECT 'still here'")
            say(cursor.fetchall())


def big():
    with connect() as db:
        with db.cursor() as cursor:
            cursor.execute("SELECT 'before', REPEAT('abcdefghij', 2000000), 'behind'")
            [(before, text, behind)] = cursor.fetchall()
            say(before, len(text), md5(text), behind)
            cursor.execute("SELECT length(%s), sha2(%s, 256)", (text, text))
            say(cursor.fetchall())
        with db.cursor(prepared=True) as cursor:
            # It cannot read a row of this length of a prepared statement.
            cursor.execute("SELECT length(?), sha2(?, 256)", (text, text))
            say(cursor.fetchall())
            # From a stream it goes by COM_STMT_SEND_LONG_DATA.
            cursor.execute("SELECT length(?), sha2(?, 256)", (io.BytesIO(text.encode()), io.BytesIO(text.encode() * 2)))
            say(cursor.fetchall())


def infile():
    with connect(allow_local_infile=True) as db, db.cursor() as cursor:
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT count(*), sum(length(line)), sum(crc32(line)) FROM `lines`")
        say(cursor.fetchall())
    with connect() as db, db.cursor() as cursor:  # the client forbids it
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT 'still here'")
        say(cursor.fetchall())


def no_infile():
    with connect(allow_local_infile=True) as db, db.cursor() as cursor:
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT 'still here', count(*) FROM `lines`")
        say(cursor.fetchall())


def session():
    with connect() as db, db.cursor() as cursor:
        db.ping()
        db.set_charset_collation("latin1", "latin1_swedish_ci")
        cursor.execute("SELECT @@character_set_client, 'é'")
        say(cursor.fetchall())
        db.cmd_init_db(env("MYSQL_DATABASE"))
        cursor.execute("SELECT database()")
        say(cursor.fetchall())
        code(lambda: db.cmd_init_db("there_is_none_such"))
        say(sorted(db.cmd_statistics()))
        cursor.execute("SET @mine = 42")
        db.cmd_reset_connection()
        cursor.execute("SELECT @mine")
        say(cursor.fetchall())


def change_user():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE mine (id int)")
        cursor.execute("SET @mine = 42")
        db.cmd_change_user(env("MYSQL_USER"), env("MYSQL_PASSWORD"), env("MYSQL_DATABASE"))
        cursor.execute("SELECT @mine, database(), current_user()")
        say(cursor.fetchall())
        code(lambda: cursor.execute("SELECT * FROM mine"))
        cursor.execute("SELECT count(*) FROM numbers")
        say(cursor.fetchall())


def errors():
    with connect() as db, db.cursor() as cursor:
        for sql in (
            "SELEKT 1",
            "SELECT * FROM there_is_none_such",
            "INSERT INTO numbers VALUES (1, 'twice')",
            "INSERT INTO work (word) VALUES (REPEAT('x', 200))",
            "DROP DATABASE mysql",
            "KILL 1",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ünï'",
        ):
            code(lambda: cursor.execute(sql))
        db.get_warnings = True
        cursor.execute("SELECT cast('abc' AS signed), 1/0")
        say(cursor.fetchall(), cursor.warnings)
        with db.cursor(prepared=True) as prepared:
            code(lambda: prepared.execute("SELECT * FROM there_is_none_such WHERE id = ?", (1,)))
            code(lambda: prepared.execute("INSERT INTO numbers VALUES (?, 'twice')", (1,)))


globals()[sys.argv[1]]()
