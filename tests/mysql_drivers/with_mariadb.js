// MariaDB's connector for node, one step a run; tests/mysql_drivers.rs says what the steps are and which variables say where and who.
'use strict';
const { createHash } = require('crypto');
const { createReadStream, readFileSync } = require('fs');
const mariadb = require('mariadb');

const plain = (_, value) => (typeof value === 'bigint' ? `${value}n` : value);
const say = (...words) => console.log(...words.map((word) => (typeof word === 'object' ? JSON.stringify(word, plain) : word)));
const md5 = (text) => createHash('md5').update(text).digest('hex');
const { MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD, MYSQL_DATABASE, MYSQL_SOCKET, MYSQL_CA, MYSQL_FILE } = process.env;
const who = { user: MYSQL_USER, password: MYSQL_PASSWORD, database: MYSQL_DATABASE };

function connect(options = {}) {
  const place = MYSQL_SOCKET ? { socketPath: MYSQL_SOCKET } : { host: MYSQL_HOST, port: Number(MYSQL_PORT) };
  const secure = MYSQL_CA ? { ssl: { ca: readFileSync(MYSQL_CA), rejectUnauthorized: true } } : { allowPublicKeyRetrieval: true };
  const shape = { multipleStatements: true, dateStrings: true };
  return mariadb.createConnection({ ...place, ...secure, ...who, ...shape, connectTimeout: 20000, ...options });
}

const code = (work) => work.then((answer) => say('done', answer), (error) => say(error.code, error.errno, error.sqlState, error.sqlMessage));
const shown = (rows) => md5(JSON.stringify(rows, plain));

const steps = {
  async login() {
    const db = await connect();
    say(db.serverVersion(), db.info.isMariaDB());
    say(await db.query('SELECT current_user() AS me, database() AS d, @@version AS v, @@version_comment AS c, @@character_set_client AS s'));
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
      const rows = await db[way]('SELECT * FROM types ORDER BY id');
      say(rows.meta.map((field) => [field.name(), field.type, field.columnLength, field.flags, field.collation.name, field.scale]));
      for (const row of rows) say(shown(row), row.big_u, row.dec_, row.tm, row.vc, row.js);
      const values = [42, "it's \\ ünïcode € 🦀", null, Buffer.from([0, 255, 39, 92]), 1.5];
      say(await db[way]({ sql: 'SELECT ?, ?, ?, ?, ?', rowsAsArray: true }, values));
    }
    const statement = await db.prepare('SELECT word FROM numbers WHERE id = ?');
    for (const number of [1, 2, 3]) say(await statement.execute([number]));
    statement.close();
    await db.end();
  },

  async transaction() {
    const db = await connect();
    await db.beginTransaction();
    await db.query("INSERT INTO work VALUES (1, 'one')");
    await db.commit();
    await db.beginTransaction();
    await code(db.query("INSERT INTO work VALUES (1, 'again')"));
    await db.rollback();
    const words = Array.from({ length: 3000 }, (_, number) => [`word ${number}`]);
    say(await db.batch('INSERT INTO work (word) VALUES (?)', words)); // of MariaDB's own: COM_STMT_BULK_EXECUTE
    await code(db.batch('INSERT INTO work (id, word) VALUES (?, ?)', [[900001, 'a'], [1, 'again'], [900002, 'b']]));
    say(await db.query('SELECT count(*), max(id) FROM work'));
    await db.end();
  },

  async results() {
    const db = await connect();
    say(await db.query("SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'"));
    say(await db.query('CALL several(21, @twice)'), await db.query('SELECT @twice'));
    say(await db.execute('CALL several(?, @twice)', [22]));
    await code(db.query('CALL failing()'));
    say(await db.query('SELECT 1'));
    await db.end();
  },

  async pipelined() {
    const db = await connect();
    const all = Array.from({ length: 1000 }, (_, number) => (number % 2 ? db.query(`SELECT ${number} AS n`) : db.execute('SELECT ? AS n', [number])));
    say((await Promise.all(all)).reduce((sum, rows) => sum + Number(rows[0].n), 0));
    const mixed = [db.query('SELECT 1 AS one'), db.query('SELECT nonsense'), db.ping(), db.reset(), db.query('SELECT 2 AS two')];
    say((await Promise.allSettled(mixed)).map(({ value, reason }) => (reason ? reason.errno : value || 'done')));
    await db.end();
  },

  async streamed() {
    const db = await connect();
    const hash = createHash('md5');
    for await (const row of db.queryStream('SELECT id, word FROM numbers ORDER BY id')) hash.update(`${row.id}${row.word}`);
    say(hash.digest('hex'));
    await db.end();
  },

  async big() {
    const db = await connect({ maxAllowedPacket: 64 << 20 });
    const [{ text, behind }] = await db.query("SELECT REPEAT('abcdefghij', 2000000) AS text, 'behind' AS behind");
    say(text.length, md5(text), behind);
    for (const way of ['query', 'execute']) say(await db[way]('SELECT length(?) AS l, sha2(?, 256) AS m', [text, text]));
    await db.end();
  },

  async infile() {
    const infileStreamFactory = () => createReadStream(MYSQL_FILE, { highWaterMark: 5000 });
    const db = await connect({ permitLocalInfile: true });
    await code(db.query({ sql: `LOAD DATA LOCAL INFILE '${MYSQL_FILE}' INTO TABLE \`lines\``, infileStreamFactory }));
    say(await db.query('SELECT count(*), sum(length(line)), sum(crc32(line)) FROM `lines`'));
    await db.end();
  },

  async no_infile() {
    const db = await connect({ permitLocalInfile: true });
    await code(db.query(`LOAD DATA LOCAL INFILE '${MYSQL_FILE}' INTO TABLE \`lines\``));
    say(await db.query("SELECT 'still here', count(*) FROM `lines`"));
    await db.end();
  },

  async session() {
    const db = await connect();
    await db.ping();
    await db.query('SET @mine = 42');
    await db.query('CREATE TEMPORARY TABLE mine (id int)');
    await db.reset();
    say(await db.query('SELECT @mine, database()'));
    await code(db.query('SELECT * FROM mine'));
    await db.end();
  },

  async change_user() {
    const db = await connect();
    await db.query('SET @mine = 42');
    await db.query('CREATE TEMPORARY TABLE mine (id int)');
    await code(db.changeUser(who)); // not of a MySQL server
    say(await db.query('SELECT @mine, database(), current_user()'));
    await code(db.query('SELECT * FROM mine'));
    say(await db.execute('SELECT count(*) FROM numbers'));
    await db.end();
  },

  async errors() {
    const db = await connect();
    const all = ['SELEKT 1', 'SELECT * FROM there_is_none_such', "INSERT INTO numbers VALUES (1, 'twice')", 'DROP DATABASE mysql', 'KILL 1'];
    for (const sql of all) {
      await code(db.query(sql));
      await code(db.execute(sql));
    }
    say(await db.query("SELECT cast('abc' AS signed), 1/0"), await db.query('SHOW WARNINGS'));
    await db.end();
  },
};

steps[process.argv[2]]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
