// node-postgres, one step a run; tests/drivers.rs says what the steps are. libpq's environment variables say where and who.
'use strict';
const { createHash } = require('crypto');
const { readFileSync } = require('fs');
const { createInterface } = require('readline');
const { Client } = require('pg');

const say = (...words) => console.log(...words);
const md5 = (text) => createHash('md5').update(text).digest('hex');
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = () => input.next();
const { PGHOST, PGPORT, PGSSLROOTCERT } = process.env;

async function connect() {
  const ca = readFileSync(PGSSLROOTCERT, 'utf8');
  const db = new Client({ host: PGHOST, port: Number(PGPORT), ssl: { ca, rejectUnauthorized: true }, connectionTimeoutMillis: 20000 });
  db.on('error', () => {}); // a query hears of it; `reconnect` listens for itself
  await db.connect();
  return db;
}

const steps = {
  async login() {
    const db = await connect();
    say(JSON.stringify((await db.query('select current_database(), current_user')).rows));
    await db.end();
  },

  async wrong_password() {
    await connect().then(() => say('let in'), (error) => say('refused', error.code));
  },

  async parameters() {
    const db = await connect();
    const text = 'select $1::int, $2::text, $3::text, $4::bytea, $5::int[], $6::float8, $7::bool';
    const values = [42, "it's \\ ünïcode €", null, Buffer.from([0, 255]), [1, null, 3], 1.5, true];
    for (const name of [undefined, 'prepared', 'prepared']) {
      say(JSON.stringify((await db.query({ text, values, name, rowMode: 'array' })).rows));
    }
    await db.end();
  },

  async transaction() {
    const db = await connect();
    const code = (sql) => db.query(sql).then(() => say('done'), (error) => say(error.code));
    await db.query('create temp table t (id int primary key)');
    await db.query('begin; insert into t values (1); savepoint s');
    await code('insert into t values (1)');
    await code('select 1');
    await db.query('rollback to s; commit');
    await db.query('begin; insert into t values (2)');
    await db.query('rollback');
    say(JSON.stringify((await db.query('select array_agg(id) from t')).rows));
    await db.end();
  },

  async large_row() {
    const db = await connect();
    const { rows } = await db.query("select repeat('abcdefghij', 1024 * 1024) as text");
    say(rows[0].text.length, md5(rows[0].text));
    say(JSON.stringify((await db.query('select length($1::text), md5($1::text)', [rows[0].text])).rows));
    await db.end();
  },

  async cancel() {
    const db = await connect();
    const query = db.query('select pg_advisory_lock(7), pg_sleep(60)').then(() => say('ended'), (error) => say(error.code));
    await told();
    // Its cancel request is sent in plain text, as libpq's before 17.
    const other = new Client({ host: PGHOST, port: Number(PGPORT), ssl: false });
    other.on('error', () => {});
    other.connection.on('error', () => {});
    other.connection.on('connect', () => other.connection.cancel(db.processID, db.secretKey));
    other.connection.connect(Number(PGPORT), PGHOST);
    await query;
    say(JSON.stringify((await db.query("select 'still here' as here")).rows));
    await db.end();
  },

  async reconnect() {
    const db = await connect();
    const ended = new Promise((resolve) => db.once('error', resolve));
    say(JSON.stringify((await db.query("select 'first' as first")).rows));
    await told();
    say((await ended).code);
    await told();
    await steps.login();
  },
};

steps[process.argv[2]]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
