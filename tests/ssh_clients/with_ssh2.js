// ssh2 of Node, one step a run; tests/ssh_clients.rs says what the steps are and which variables say where and who.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const { once } = require('node:events');
const { Client } = require('ssh2');

const env = process.env;
const say = (...words) => console.log(...words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))));
const md5 = (data) => crypto.createHash('md5').update(data).digest('hex');

const open = (options) => {
  const client = new Client();
  return new Promise((resolve, reject) => {
    client.on('ready', () => resolve(client)).on('error', reject);
    client.on('keyboard-interactive', (name, instructions, language, prompts, answer) => {
      say(prompts.length, prompts.map((prompt) => prompt.echo));
      answer(prompts.map(() => env.SSH_PASSWORD));
    });
    client.connect({ readyTimeout: 20000, ...options });
  });
};

async function connect(options = { privateKey: fs.readFileSync(env.SSH_KEY) }) {
  const known = Buffer.from(env.SSH_HOST_KEY.split(' ')[1], 'base64');
  const place = { host: env.SSH_HOST, port: Number(env.SSH_PORT), username: env.SSH_USER, hostVerifier: (key) => key.equals(known) };
  const outer = await open({ ...place, ...options });
  if (!env.SSH_TARGET) return outer;
  const sock = await promised(outer, 'forwardOut', '127.0.0.1', 0, env.SSH_TARGET, 22);
  // It knows nothing of certificates of hosts: Keyward's own key is what it expects there.
  const inner = await open({ sock, username: env.SSH_TARGET_USER, authHandler: ['none'], hostVerifier: (key) => key.equals(known) });
  inner.outer = outer;
  return inner;
}

const promised = (of, name, ...words) =>
  new Promise((resolve, reject) => of[name](...words, (error, value) => (error ? reject(error) : resolve(value))));

async function all(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

// What a short command says comes with the word that it runs: whoever does not listen by then misses it.
function run(client, command, input, options = {}) {
  return new Promise((resolve, reject) => {
    client.exec(command, options, (error, channel) => {
      if (error) return reject(error);
      const [ended, errors, out] = [once(channel, 'exit'), all(channel.stderr), all(channel)];
      channel.end(input);
      return resolve(Promise.all([out, errors, ended]));
    });
  });
}

const echo = async () => {
  const server = net.createServer({ allowHalfOpen: true }, (one) => {
    one.on('data', (piece) => one.write(piece.toString().toUpperCase())).on('end', () => one.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return server.address().port;
};

const steps = {
  async login() {
    const [out, errors, [code]] = await run(await connect(), 'id -un; echo err >&2; cat; exit 3', 'from here');
    say(out.toString(), errors.toString(), code);
  },
  async password() {
    say((await run(await connect({ password: env.SSH_PASSWORD }), 'id -un'))[0].toString());
  },
  async keyboard_interactive() {
    say((await run(await connect({ tryKeyboard: true }), 'id -un'))[0].toString());
  },
  async wrong_key() {
    try {
      await connect({ privateKey: fs.readFileSync(env.SSH_OTHER_KEY) });
      say('in');
    } catch (error) {
      say(error.level, error.message);
    }
  },
  async ciphers() {
    for (const cipher of ['aes256-gcm@openssh.com', 'aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com']) {
      const client = await connect({ privateKey: fs.readFileSync(env.SSH_KEY), algorithms: { cipher: [cipher] } });
      say(cipher, (await run(client, 'echo in'))[0].toString());
      client.end();
    }
  },
  async signal() {
    const [, , ended] = await run(await connect(), 'kill -KILL $$');
    say(ended.slice(0, 3));
  },
  async terminal() {
    const client = await connect();
    const said = await new Promise((resolve, reject) => {
      client.exec('stty size; read line; stty size; echo $TERM', { pty: { rows: 31, cols: 97, term: 'vt220' } }, (error, channel) => {
        if (error) return reject(error);
        channel.once('data', () => {
          channel.setWindow(40, 120, 0, 0);
          channel.write('\n');
        });
        return resolve(Promise.all([all(channel), once(channel, 'exit')]));
      });
    });
    say(said[0].toString().split(/\s+/), said[1][0]);
  },
  async environment() {
    say((await run(await connect(), 'echo $LC_MINE', '', { env: { LC_MINE: 'ünïcode' } }))[0].toString());
  },
  async sftp() {
    const files = await promised(await connect(), 'sftp');
    const there = `${env.SSH_FOLDER}/file`;
    const data = crypto.randomBytes(5 << 20);
    await promised(files, 'writeFile', there, data);
    say(md5(await promised(files, 'readFile', there)) === md5(data), (await promised(files, 'stat', there)).size);
    say((await promised(files, 'readdir', env.SSH_FOLDER)).map((entry) => entry.filename));
    await promised(files, 'unlink', there);
    try {
      await promised(files, 'stat', there);
    } catch (error) {
      say(error.message);
    }
  },
  async many() {
    const client = await connect();
    const one = async (number) => {
      const [out, , [code]] = await run(client, `seq ${number * 1000} | md5sum; exit ${number}`);
      return [out.toString(), code];
    };
    say(await Promise.all([...Array(30).keys()].map(one)));
  },
  async forward() {
    const channel = await promised(await connect(), 'forwardOut', '127.0.0.1', 0, '127.0.0.1', await echo());
    channel.end('hello');
    say((await all(channel)).toString());
  },
  async socket() {
    const path = `${env.SSH_OWN_FOLDER}/echo.socket`;
    const server = net.createServer({ allowHalfOpen: true }, (one) => one.on('data', (piece) => one.end(piece.toString().toUpperCase())));
    server.listen(path);
    await once(server, 'listening');
    server.unref();
    fs.chmodSync(path, 0o777);
    const channel = await promised(await connect(), 'openssh_forwardOutStreamLocal', path);
    channel.end('hello');
    say((await all(channel)).toString());
    fs.rmSync(path);
  },
  async refused() {
    try {
      await promised(await connect(), 'forwardOut', '127.0.0.1', 0, '127.0.0.1', 1);
    } catch (error) {
      say(error.reason, error.message);
    }
  },
  async reverse() {
    const client = await connect();
    const port = await promised(client, 'forwardIn', '127.0.0.1', 0);
    client.on('tcp connection', (details, accept) => {
      const channel = accept();
      channel.on('data', (piece) => channel.end(piece.toString().toUpperCase()));
    });
    const outside = net.connect(port, '127.0.0.1');
    outside.write('hello');
    say((await all(outside)).toString());
    await promised(client, 'unforwardIn', '127.0.0.1', port);
  },
  async rekey() {
    const client = await connect();
    say(md5((await run(client, 'seq 1500000'))[0]));
    say((await run(client, 'md5sum', '0123456789'.repeat(500000)))[0].toString());
    say(md5((await run(client, 'seq 1500000'))[0]));
  },
  async unread() {
    const client = await connect();
    const stalled = await promised(client, 'exec', 'yes');
    for (let number = 0; number < 3; number += 1) say((await run(client, 'seq 100000 | md5sum'))[0].toString());
    stalled.destroy();
  },
};

steps[process.argv[2]]().then(
  () => process.exit(0),
  (error) => {
    console.log(String(error));
    process.exit(1);
  },
);
