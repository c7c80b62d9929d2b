// node's mysql2, one step a run; tests/mysql_drivers.rs says what the steps are and which variables say where and who.
'use strict';
const { createHash } = require('crypto');
const { createReadStream, readFileSync } = require('fs');
const mysql = require('mysql2/promise');

const say = (...words) => console.log(...words.map((word) => (typeof word === 'object' ? JSON.stringify(word) : word)));
const md5 = (text) => createHash('md5').update(text).digest('hex');
const { MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD, MYSQL_DATABASE, MYSQL_SOCKET, MYSQL_CA, MYSQL_FILE } = process.env;
const who = { user: MYSQL_USER, password: MYSQL_PASSWORD, database: MYSQL_DATABASE };

function connect(options = {}) {
  const place = MYSQL_SOCKET ? { socketPath: MYSQL_SOCKET } : { host: MYSQL_HOST, port: Number(MYSQL_PORT) };
  // Its own check of the name takes none that is an address.
  const secure = MYSQL_CA ? { ssl: { ca: readFileSync(MYSQL_CA), verifyIdentity: false } } : {};
  const shape = { multipleStatements: true, dateStrings: true, supportBigNumbers: true, bigNumberStrings: true };
  return mysql.createConnection({ ...place, ...secure, ...who, ...shape, connectTimeout: 20000, ...options });
}

const code = (work) => work.then(() => say('done'), (error) => say(error.code, error.errno, error.sqlState, error.sqlMessage));
const shown = (rows) => md5(JSON.stringify(rows));

const steps = {
  async login() {
    const db = await connect();
    say((await db.query('SELECT current_user() AS me, database() AS d, @@version AS v, @@version_comment AS c, @@character_set_client AS s'))[0]);
    say(db.connection._handshakePacket.serverVersion);
    await db.end();
  },

  async wrong_password() {
    await connect().then(() => say('let in'), (error) => say('refused', error.errno, error.sqlState));
  },

  async untrusted() {
    await connect().then(() => say('let in'), (error) => say('refused', /certificate/.test(error.message)));
  },

  async types() {
    const db = await connect();
    for (const way of ['query', 'execute', 'execute']) {
      const [rows, fields] = await db[way]('SELECT * FROM types ORDER BY id');
      say(fields.map((field) => [field.name, field.columnType, field.columnLength, field.flags, field.characterSet, field.decimals]));
      for (const row of rows) say(shown(row), row.big_u, row.dec_, row.tm, row.vc, row.js);
      const values = [42, "it's \\ ünïcode € 🦀", null, Buffer.from([0, 255, 39, 92]), 1.5];
      say((await db[way]({ sql: 'SELECT ?, ?, ?, ?, ?', values, rowsAsArray: true }))[0]);
    }
    await db.end();
  },

  async transaction() {
    const db = await connect();
    await db.beginTransaction();
    await db.query("INSERT INTO work VALUES (1, 'one')");
    await db.commit();
    await db.beginTransaction();
    await code(db.query("INSERT INTO work VALUES (1, 'again')"));
    await db.execute('INSERT INTO work VALUES (?, ?)', [2, 'two']);
    await db.rollback();
    for (let number = 0; number < 200; number += 1) await db.execute('INSERT INTO work (word) VALUES (?)', [`word ${number}`]);
    say((await db.query('SELECT count(*), max(id) FROM work'))[0]);
    await db.end();
  },

  async results() {
    const db = await connect();
    say((await db.query("SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'"))[0]);
    say((await db.query('CALL several(21, @twice); SELECT @twice'))[0]);
    say((await db.execute('CALL several(?, @twice)', [22]))[0]);
    await code(db.query('CALL failing()'));
    await code(db.query('SELECT 1; SELECT nonsense; SELECT 3'));
    say((await db.query('SELECT 1'))[0]);
    await db.end();
  },

  async streamed() {
    const db = await connect();
    for (const way of ['query', 'execute']) {
      const hash = createHash('md5');
      for await (const row of db.connection[way]('SELECT id, word FROM numbers ORDER BY id').stream()) hash.update(`${row.id}${row.word}`);
      say(hash.digest('hex'));
    }
    await db.end();
  },

  async big() {
    const db = await connect();
    const [[{ text, behind }]] = await db.query("SELECT REPEAT('abcdefghij', 2000000) AS text, 'behind' AS behind");
    say(text.length, md5(text), behind);
    for (const way of ['query', 'execute']) say((await db[way]('SELECT length(?) AS l, sha2(?, 256) AS m', [text, text]))[0]);
    await db.end();
  },

  async infile() {
    const infileStreamFactory = () => createReadStream(MYSQL_FILE, { highWaterMark: 5000 });
    const db = await connect({ flags: ['+LOCAL_FILES'] });
    const sql = `LOAD DATA LOCAL INFILE '${MYSQL_FILE}' INTO TABLE \`lines\``;
    await code(db.query({ sql, infileStreamFactory }));
    await code(db.query(sql)); // without a stream it sends an empty file
    say((await db.query('SELECT count(*), sum(length(line)), sum(crc32(line)) FROM `lines`'))[0]);
    await db.end();
  },

  async no_infile() {
    const db = await connect({ flags: ['+LOCAL_FILES'] });
    const infileStreamFactory = () => createReadStream(MYSQL_FILE);
    await code(db.query({ sql: `LOAD DATA LOCAL INFILE '${MYSQL_FILE}' INTO TABLE \`lines\``, infileStreamFactory }));
    say((await db.query("SELECT 'still here', count(*) FROM `lines`"))[0]);
    await db.end();
  },

  async session() {
    const db = await connect();
    await db.ping();
    await db.query('SET @mine = 42');
    await db.query({ sql: 'CREATE TEMPORARY TABLE mine (id int)' });
    await db.reset();
    say((await db.query('SELECT @mine, database()'))[0]);
    await code(db.query('SELECT * FROM mine'));
    await db.end();
  },

  async change_user() {
    const db = await connect();
    await db.query('SET @mine = 42; CREATE TEMPORARY TABLE mine (id int)');
    await db.changeUser(who);
    say((await db.query('SELECT @mine, database(), current_user()'))[0]);
    await code(db.query('SELECT * FROM mine'));
    say((await db.execute('SELECT count(*) FROM numbers'))[0]);
    await db.end();
  },

  async errors() {
    const db = await connect();
    const all = ['SELEKT 1', 'SELECT * FROM there_is_none_such', "INSERT INTO numbers VALUES (1, 'twice')", 'DROP DATABASE mysql', 'KILL 1'];
    for (const sql of all) {
      await code(db.query(sql));
      await code(db.execute(sql));
    }
    say((await db.query("SELECT cast('abc' AS signed), 1/0; SHOW WARNINGS"))[0]);
    await db.end();
  },
};

steps[process.argv[2]]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
