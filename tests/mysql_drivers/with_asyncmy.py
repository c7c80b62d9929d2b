"""asyncmy, one step a run; tests/mysql_drivers.rs says what the steps are and which variables say where and who."""

import asyncio
import hashlib
import os
import ssl
import sys

import asyncmy
from asyncmy.constants import CLIENT
from asyncmy.cursors import SSCursor
from asyncmy.errors import MySQLError

env = os.environ.get


async def connect(**options):
    place = {"unix_socket": env("MYSQL_SOCKET")} if env("MYSQL_SOCKET") else {"host": env("MYSQL_HOST"), "port": int(env("MYSQL_PORT"))}
    secure = {"ssl": ssl.create_default_context(cafile=env("MYSQL_CA"))} if env("MYSQL_CA") else {}
    who = {"user": env("MYSQL_USER"), "password": env("MYSQL_PASSWORD"), "database": env("MYSQL_DATABASE")}
    options = {"max_allowed_packet": 64 << 20, "client_flag": CLIENT.MULTI_STATEMENTS, "autocommit": True} | options
    return await asyncmy.connect(**place, **secure, **who, **options, connect_timeout=20)


def say(*words):
    print(*words, flush=True)


def md5(data):
    return hashlib.md5(data if isinstance(data, bytes) else data.encode()).hexdigest()


async def code(work):
    try:
        await work
        say("done")
    except MySQLError as error:
        say(type(error).__name__, *error.args)


async def login():
    async with await connect() as db, db.cursor() as cursor:
        say(db.get_server_info(), db.server_charset)
        await cursor.execute("SELECT current_user(), database(), @@version, @@version_comment, @@character_set_client")
        say(await cursor.fetchone())


async def wrong_password():
    try:
        await connect()
    except MySQLError as error:
        say("refused", error.args[0])


async def untrusted():
    try:
        await connect()
        say("let in")
    except (MySQLError, ssl.SSLError) as error:
        say("refused", "CERTIFICATE_VERIFY_FAILED" in str(error))


async def types():
    async with await connect() as db, db.cursor() as cursor:
        await cursor.execute("SELECT * FROM types ORDER BY id")
        say([column[:2] + column[6:] for column in cursor.description])
        for row in await cursor.fetchall():
            say(md5(repr(row)), *row[:20])
        await cursor.execute("SELECT %s, %s, %s, %s, %s", (42, "it's \\ ünïcode € 🦀", None, b"\0\xff'\\", 1.5))
        say(await cursor.fetchone())
        statement = await db.prepare("SELECT *, CAST(? AS BINARY) FROM types WHERE id > ? ORDER BY id")
        for text in ("it's \\ ünïcode € 🦀", None, b"\0\xff'\\"):
            for row in (await statement.execute((text, 0))).rows:
                say(md5(repr(row)), *row[:20])


async def transaction():
    async with await connect(autocommit=False) as db, db.cursor() as cursor:
        await cursor.execute("INSERT INTO work VALUES (1, 'one')")
        await db.commit()
        await cursor.execute("INSERT INTO work VALUES (2, 'two')")
        await code(cursor.execute("INSERT INTO work VALUES (1, 'again')"))
        await db.rollback()
        await cursor.executemany("INSERT INTO work (word) VALUES (%s)", [(f"word {number}",) for number in range(1000)])
        say(cursor.rowcount, cursor.lastrowid)
        await cursor.execute("SELECT count(*), max(id) FROM work")
        say(await cursor.fetchall())


async def results():
    async with await connect() as db, db.cursor() as cursor:
        await cursor.execute("SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'")
        say(await cursor.fetchall(), cursor.rowcount)
        while await cursor.nextset():
            say(await cursor.fetchall(), cursor.rowcount)
        await cursor.callproc("several", (21, 0))
        say(await cursor.fetchall())
        while await cursor.nextset():
            say(await cursor.fetchall())
        await cursor.execute("CALL failing()")
        say(await cursor.fetchall())
        await code(cursor.nextset())


async def streamed():
    async with await connect() as db, db.cursor(SSCursor) as cursor:
        await cursor.execute("SELECT id, word FROM numbers ORDER BY id")
        say(md5("".join([f"{number}{word}" async for number, word in cursor])))


async def big():
    async with await connect() as db, db.cursor() as cursor:
        # It takes a row for an end if its first column is that long.
        await cursor.execute("SELECT 'before', REPEAT('abcdefghij', 2000000), 'behind'")
        [(before, text, behind)] = await cursor.fetchall()
        say(before, len(text), md5(text), behind)
        await cursor.execute("SELECT length(%s), sha2(%s, 256)", (text, text))
        say(await cursor.fetchone())


async def no_infile():
    async with await connect(local_infile=True) as db, db.cursor() as cursor:
        await code(cursor.execute(f"LOAD DATA LOCAL INFILE '{env('MYSQL_FILE')}' INTO TABLE `lines`"))
        await cursor.execute("SELECT 'still here', count(*) FROM `lines`")
        say(await cursor.fetchone())


async def session():
    async with await connect() as db, db.cursor() as cursor:
        await db.ping(reconnect=False)
        await db.select_db(env("MYSQL_DATABASE"))
        await cursor.execute("SELECT database()")
        say(await cursor.fetchone())
        await code(db.select_db("there_is_none_such"))


async def errors():
    async with await connect() as db, db.cursor() as cursor:
        for sql in (
            "SELEKT 1",
            "SELECT * FROM there_is_none_such",
            "INSERT INTO numbers VALUES (1, 'twice')",
            "INSERT INTO work (word) VALUES (REPEAT('x', 200))",
            "DROP DATABASE mysql",
            "KILL 1",
        ):
            await code(cursor.execute(sql))
        await cursor.execute("SELECT cast('abc' AS signed), 1/0")
        say(await cursor.fetchall(), await db.show_warnings())


asyncio.run(globals()[sys.argv[1]]())
