"""asyncpg, one step a run; tests/drivers.rs says what the steps are. libpq's environment variables say where and who."""

import asyncio
import hashlib
import sys

import asyncpg


def say(*words):
    print(*words, flush=True)


async def told():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def login():
    db = await asyncpg.connect()
    say(*await db.fetchrow("select current_database(), current_user"))
    await db.close()


async def wrong_password():
    try:
        await asyncpg.connect()
    except asyncpg.PostgresError as error:
        say("refused", error.sqlstate)


async def parameters():
    db = await asyncpg.connect()
    values = (42, "it's \\ ünïcode €", None, b"\0\xff", [1, None, 3], 1.5, True)
    query = "select $1::int, $2::text, $3::text, $4::bytea, $5::int[], $6::float8, $7::bool"
    for _ in range(3):
        row = await db.fetchrow(query, *values)
    say(tuple(row))
    await db.close()


async def transaction():
    db = await asyncpg.connect()
    await db.execute("create temp table t (id int primary key)")
    async with db.transaction():
        await db.execute("insert into t values (1)")
        try:
            async with db.transaction():
                await db.execute("insert into t values (1)")
        except asyncpg.PostgresError as error:
            say(error.sqlstate)
    try:
        async with db.transaction():
            await db.execute("insert into t values (2)")
            raise ValueError
    except ValueError:
        pass
    say(await db.fetchval("select array_agg(id) from t"))
    await db.close()


async def large_row():
    db = await asyncpg.connect()
    text = await db.fetchval("select repeat('abcdefghij', 1024 * 1024)")
    say(len(text), hashlib.md5(text.encode()).hexdigest())
    say(*await db.fetchrow("select length($1::text), md5($1::text)", text))
    await db.close()


async def copy():
    db = await asyncpg.connect()
    await db.execute("create temp table t (id int, word text)")
    rows = ((number, f"word {number}") for number in range(20000))
    say(await db.copy_records_to_table("t", records=rows))
    out = bytearray()

    async def keep(data):
        out.extend(data)

    say(await db.copy_from_query("select * from t order by id", output=keep), hashlib.md5(out).hexdigest())
    await db.close()


async def pipeline():
    db = await asyncpg.connect()
    await db.execute("create temp table t (id int)")
    # One Parse, then all the Binds and Executes without waiting for an answer.
    await db.executemany("insert into t values ($1)", [(number,) for number in range(20000)])
    say(await db.fetchval("select sum(id) from t"))
    await db.close()


async def cancel():
    db = await asyncpg.connect()
    query = asyncio.create_task(db.execute("select pg_advisory_lock(7), pg_sleep(60)"))
    await told()
    query.cancel()
    try:
        await query
    except asyncio.CancelledError:
        say("cancelled")
    say(await db.fetchval("select 'still here'"))
    await db.close()


async def reconnect():
    db = await asyncpg.connect()
    # The connection hears its end while it is idle.
    ended = asyncio.Event()
    db.add_termination_listener(lambda _: ended.set())
    say(await db.fetchval("select 'first'"))
    await told()
    await asyncio.wait_for(ended.wait(), 10)
    try:
        await db.fetchval("select 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        say(type(error).__name__)
    await told()
    await login()


asyncio.run(globals()[sys.argv[1]]())
