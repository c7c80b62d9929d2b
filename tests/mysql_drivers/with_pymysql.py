"""PyMySQL, one step a run; tests/mysql_drivers.rs says what the steps are and which variables say where and who."""

import hashlib
import os
import sys

import pymysql
from pymysql.constants import CLIENT

env = os.environ.get


def connect(**options):
    place = {"unix_socket": env("MYSQL_SOCKET")} if env("MYSQL_SOCKET") else {"host": env("MYSQL_HOST"), "port": int(env("MYSQL_PORT"))}
    secure = {"ssl": {"ca": env("MYSQL_CA"), "check_hostname": True}} if env("MYSQL_CA") else {"ssl_disabled": True}
    who = {"user": env("MYSQL_USER"), "password": env("MYSQL_PASSWORD"), "database": env("MYSQL_DATABASE")}
    options = {"max_allowed_packet": 64 << 20, "client_flag": CLIENT.MULTI_STATEMENTS, "autocommit": True} | options
    return pymysql.connect(**place, **secure, **who, **options, connect_timeout=20)


def say(*words):
    print(*words, flush=True)


def md5(data):
    return hashlib.md5(data if isinstance(data, bytes) else data.encode()).hexdigest()


def code(work):
    try:
        work()
        say("done")
    except pymysql.MySQLError as error:
        say(type(error).__name__, *error.args)


def login():
    with connect() as db, db.cursor() as cursor:
        say(env("MYSQL_CA") is None or "SSL" in type(db._sock).__name__, db.get_server_info(), db.server_charset)
        cursor.execute("SELECT current_user(), database(), @@version, @@version_comment, @@character_set_client")
        say(cursor.fetchone())


def wrong_password():
    try:
        connect()
    except pymysql.OperationalError as error:
        say("refused", error.args[0])


def untrusted():
    try:
        connect()
        say("let in")
    except pymysql.OperationalError as error:
        say("refused", "CERTIFICATE_VERIFY_FAILED" in str(error))


def types():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT * FROM types ORDER BY id")
        say([column[:2] + column[6:] for column in cursor.description])
        for row in cursor:
            say(md5(repr(row)), *row[:20])
        cursor.execute("SELECT %s, %s, %s, %s, %s", (42, "it's \\ ünïcode € 🦀", None, b"\0\xff'\\", 1.5))
        say(cursor.fetchone())


def transaction():
    with connect(autocommit=False) as db, db.cursor() as cursor:
        cursor.execute("INSERT INTO work VALUES (1, 'one')")
        db.commit()
        cursor.execute("INSERT INTO work VALUES (2, 'two')")
        cursor.execute("SAVEPOINT s")
        code(lambda: cursor.execute("INSERT INTO work VALUES (1, 'again')"))
        cursor.execute("ROLLBACK TO s")
        db.rollback()
        cursor.executemany("INSERT INTO work (word) VALUES (%s)", [(f"word {number}",) for number in range(1000)])
        say(cursor.rowcount, cursor.lastrowid, db.insert_id())
        cursor.execute("CREATE TEMPORARY TABLE mine SELECT count(*) AS n FROM work")
        cursor.execute("SELECT * FROM mine")
        say(cursor.fetchall())


def results():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'")
        say(cursor.fetchall(), cursor.rowcount)
        while cursor.nextset():
            say(cursor.fetchall(), cursor.rowcount)
        cursor.callproc("several", (21, 0))
        say(cursor.fetchall())
        while cursor.nextset():
            say(cursor.fetchall())
        cursor.execute("SELECT @_several_1")
        say(cursor.fetchone())
        cursor.execute("CALL failing()")
        say(cursor.fetchall())
        code(cursor.nextset)
        cursor.execute("SELECT 1; SELECT nonsense; SELECT 3")
        code(cursor.nextset)


def streamed():
    with connect() as db, db.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute("SELECT id, word FROM numbers ORDER BY id")
        say(md5("".join(f"{number}{word}" for number, word in cursor)))
        cursor.execute("SELECT id, word FROM numbers")
        cursor.fetchone()
        cursor.close()  # reads what is left
        with db.cursor() as other:
            other.execute("SELECT count(*) FROM numbers")
            say(other.fetchone())


def big():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT 'before', REPEAT('abcdefghij', 2000000), 'behind'")
        [(before, text, behind)] = cursor.fetchall()
        say(before, len(text), md5(text), behind)
        cursor.execute("SELECT length(%s), sha2(%s, 256)", (text, text))
        say(cursor.fetchone())
        # A text of 16 MiB - 1 and its neighbours: a packet that is full is followed by another one, be it empty.
        for length in ((1 << 24) - 10, (1 << 24) - 3, (1 << 24) - 2, (1 << 24) - 1):
            cursor.execute("SELECT length('%s')" % ("x" * (length - len("SELECT length('')"))))
            cursor.execute("SELECT REPEAT('y', %s)", (length - 8,))
            say(length, md5(cursor.fetchone()[0]))


def infile():
    with connect(local_infile=True) as db, db.cursor() as cursor:
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT count(*), sum(length(line)), sum(crc32(line)) FROM `lines`")
        say(cursor.fetchone())
        code(lambda: cursor.execute("LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE `lines`"))
    with connect() as db, db.cursor() as cursor:  # the client forbids it
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT 'still here'")
        say(cursor.fetchone())


def no_infile():
    with connect(local_infile=True) as db, db.cursor() as cursor:
        code(lambda: cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        cursor.execute("SELECT 'still here', count(*) FROM `lines`")
        say(cursor.fetchone())


def session():
    with connect() as db, db.cursor() as cursor:
        db.ping(reconnect=False)
        db.set_character_set("latin1")
        cursor.execute("SELECT @@character_set_client, 'é'")
        say(cursor.fetchone())
        db.select_db(env("MYSQL_DATABASE"))
        cursor.execute("SELECT database()")
        say(cursor.fetchone())
        code(lambda: db.select_db("there_is_none_such"))
        cursor.execute("SET @mine = 42")
        db._execute_command(31, b"")  # COM_RESET_CONNECTION, of which it has no name
        say(db._read_ok_packet().is_ok_packet())
        cursor.execute("SELECT @mine")
        say(cursor.fetchone())


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
            "SELECT cast('abc' AS signed), 1/0",
            "",
        ):
            code(lambda: cursor.execute(sql))
        cursor.execute("SELECT cast('abc' AS signed), 1/0")
        say(cursor.fetchall(), db.show_warnings())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
