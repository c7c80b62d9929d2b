#!/usr/bin/env bash
# Keyward in two minutes: OpenBao, PostgreSQL, MariaDB and sshd on loopback, Keyward in front of them; psql, mariadb and ssh through it.
#
#   docker/demo.sh            shows it, then stays up so that you can try it yourself, until Ctrl-C
#   docker/demo.sh --once     shows it and ends; the exit status says whether every step held
#   docker/demo.sh --debug    builds the dev profile instead of the release one (may be given beside --once)
#
# What is missing is installed first (Debian packages, and OpenBao of a pinned version in a cache folder). Every server is thrown away
# at the end: its data lies in one temporary folder, it listens on 127.0.0.1 only, on a free port, and its passwords are random.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/install.sh

# What the caller's environment says of his own servers is not for these; and a locale of his that this machine lacks is none for initdb.
unset "${!VAULT_@}" "${!BAO_@}" "${!HASHICORP_VAULT_@}" "${!PG@}" "${!MYSQL_@}" SSH_AUTH_SOCK
export LC_ALL=C

once=no profile=release
for option in "$@"; do
  case $option in
    --once) once=yes ;;
    --debug) profile=debug ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done

main() {
  install_servers
  bao=$KEYWARD_CACHE/use/bao postgres=$(readlink -f "$KEYWARD_CACHE/use/postgres-debian")/bin
  mariadb=$(readlink -f "$KEYWARD_CACHE/use/mariadb")
  say "building Keyward ($profile)"
  if [[ $profile == release ]]; then cargo build --quiet --release --bin keyward; else cargo build --quiet --bin keyward; fi
  keyward=$CARGO_TARGET_DIR/$profile/keyward
  "$keyward" --version

  umask 077
  dir=$(mktemp -d "${TMPDIR:-/tmp}/keyward-demo.XXXXXX")
  chmod 711 "$dir" # the server's own user has to reach its data in it
  start_postgres
  start_mariadb
  start_openbao
  seed_openbao
  start_sshd
  configure_keyward
  fill_store
  start_keyward
  show
  [[ $once == yes ]] || stay
}

# --- PostgreSQL: an asset -----------------------------------------------------------------------------------------------------

start_postgres() {
  pg_port=$(free_port)
  say "starting PostgreSQL on 127.0.0.1:$pg_port"
  admin_password=$(random) app_password=$(random) issuer_password=$(random)
  install -d -m 700 "$dir/postgres"
  printf '%s' "$admin_password" > "$dir/postgres.password"
  local own_user=()
  if ((EUID == 0)); then # PostgreSQL refuses to run as root
    own_user=(setpriv --reuid postgres --regid postgres --init-groups)
    chown postgres "$dir/postgres" "$dir/postgres.password"
  fi
  "${own_user[@]}" "$postgres/initdb" --pgdata "$dir/postgres" --username postgres --pwfile "$dir/postgres.password" \
    --auth scram-sha-256 --encoding UTF8 --no-sync > "$dir/initdb.log"
  background postgres "${own_user[@]}" "$postgres/postgres" -D "$dir/postgres" -p "$pg_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
  until_true 30 "PostgreSQL answers" "$postgres/pg_isready" -q -h 127.0.0.1 -p "$pg_port"

  # `orders_app` is the shared login whose password lies in the store. `issuer` is the login with which OpenBao makes short-lived ones.
  admin_sql postgres <<< "CREATE DATABASE orders;"
  admin_sql orders << SQL
CREATE ROLE orders_writers NOLOGIN;
CREATE ROLE orders_app LOGIN PASSWORD '$app_password' IN ROLE orders_writers;
CREATE ROLE issuer LOGIN CREATEROLE PASSWORD '$issuer_password';
GRANT orders_writers TO issuer WITH ADMIN OPTION;
CREATE TABLE orders (id int PRIMARY KEY, item text);
INSERT INTO orders VALUES (1, 'tea'), (2, 'biscuits'), (3, 'milk');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO orders_writers;
SQL
}

admin_sql() {
  PGPASSWORD=$admin_password psql -X -q -A -t -v ON_ERROR_STOP=1 "host=127.0.0.1 port=$pg_port user=postgres dbname=$1 connect_timeout=10"
}

# --- MariaDB: another asset ---------------------------------------------------------------------------------------------------

start_mariadb() {
  maria_port=$(free_port)
  say "starting MariaDB on 127.0.0.1:$maria_port"
  maria_admin_password=$(random) shop_password=$(random) maria_issuer_password=$(random)
  install -d -m 700 "$dir/mariadb"
  cat > "$dir/mariadb.sql" << SQL
CREATE USER IF NOT EXISTS admin@127.0.0.1 IDENTIFIED BY '$maria_admin_password';
GRANT ALL ON *.* TO admin@127.0.0.1 WITH GRANT OPTION;
SQL
  local own_user=()
  if ((EUID == 0)); then # nor should MariaDB
    own_user=(setpriv --reuid mysql --regid mysql --init-groups)
    chown mysql "$dir/mariadb" "$dir/mariadb.sql"
  fi
  # The test database comes with an anonymous user, which would be taken before any 'name'@'%' for who comes from this machine.
  "${own_user[@]}" "$mariadb/bin/mariadb-install-db" --no-defaults --basedir="$mariadb" --datadir="$dir/mariadb" --skip-test-db \
    --skip-name-resolve > "$dir/mariadb-install-db.log" 2>&1
  background mariadb "${own_user[@]}" "$mariadb/sbin/mariadbd" --no-defaults --basedir="$mariadb" --datadir="$dir/mariadb" \
    --port="$maria_port" --bind-address=127.0.0.1 --skip-name-resolve --socket=socket --pid-file=pid --init-file="$dir/mariadb.sql" \
    --innodb-buffer-pool-size=16M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=2
  printf '[client]\nprotocol=tcp\nhost=127.0.0.1\nport=%s\nskip-ssl\nuser=admin\npassword=%s\n' \
    "$maria_port" "$maria_admin_password" > "$dir/mariadb.cnf"
  until_true 30 "MariaDB answers" mariadb_answers

  # As above: a shared login, and one that makes short-lived ones. It can give away no more than it has itself.
  admin_mariadb << SQL
CREATE DATABASE shop;
CREATE USER shop_app IDENTIFIED BY '$shop_password';
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO shop_app;
CREATE USER issuer IDENTIFIED BY '$maria_issuer_password';
GRANT CREATE USER ON *.* TO issuer;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO issuer WITH GRANT OPTION;
CREATE TABLE shop.goods (id int PRIMARY KEY, name text);
INSERT INTO shop.goods VALUES (1, 'kettle'), (2, 'teapot'), (3, 'cup');
SQL
}

admin_mariadb() { mariadb --defaults-file="$dir/mariadb.cnf" --connect-timeout=10 --batch --skip-column-names; }
mariadb_answers() { admin_mariadb <<< "SELECT 1;"; }

# --- OpenBao: the secret store ------------------------------------------------------------------------------------------------

start_openbao() {
  local bao_port
  bao_port=$(free_port)
  export BAO_ADDR=http://127.0.0.1:$bao_port
  say "starting OpenBao at $BAO_ADDR"
  cat > "$dir/openbao.hcl" << HCL
storage "inmem" {}
listener "tcp" {
  address     = "127.0.0.1:$bao_port"
  tls_disable = true
}
api_addr = "$BAO_ADDR"
HCL
  background openbao "$bao" server -config "$dir/openbao.hcl"
  until_true 30 "OpenBao answers" openbao_answers
  "$bao" operator init -key-shares=1 -key-threshold=1 -format=json > "$dir/openbao.init"
  printf '{"key":"%s"}' "$(json "$dir/openbao.init" unseal_keys_b64 0)" | "$bao" write sys/unseal - > /dev/null
  BAO_TOKEN=$(json "$dir/openbao.init" root_token)
  export BAO_TOKEN
  until_true 30 "OpenBao is unsealed" "$bao" status
}

# `bao status` says 2 when the server answers and is still sealed.
openbao_answers() {
  local status=0
  "$bao" status > /dev/null 2>&1 || status=$?
  ((status == 2))
}

# Secrets reach `bao` on its standard input, never in its arguments.
seed_openbao() {
  say "seeding OpenBao: a place for secrets, roles for short-lived logins to each database, an authority for sshd, an AppRole for Keyward"
  "$bao" secrets enable -path=prod_db -version=2 kv
  until_true 30 "the KV mount is ready" "$bao" read prod_db/config

  "$bao" secrets enable -path=orders_db database
  "$bao" write orders_db/config/orders - << JSON > /dev/null
{"plugin_name": "postgresql-database-plugin", "allowed_roles": ["orders_rw", "orders_brief"], "username": "issuer", "password": "$issuer_password",
 "connection_url": "postgresql://{{username}}:{{password}}@127.0.0.1:$pg_port/orders?sslmode=disable"}
JSON
  orders_role orders_rw 10m 1h
  orders_role orders_brief 15s 15s # to see the end of one

  "$bao" secrets enable -path=shop_db database
  "$bao" write shop_db/config/shop - << JSON > /dev/null
{"plugin_name": "mysql-database-plugin", "allowed_roles": ["shop_rw"], "username": "issuer", "password": "$maria_issuer_password",
 "connection_url": "{{username}}:{{password}}@tcp(127.0.0.1:$maria_port)/"}
JSON
  "$bao" write shop_db/roles/shop_rw - << 'JSON' > /dev/null
{"db_name": "shop", "default_ttl": "10m", "max_ttl": "1h",
 "creation_statements": ["CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}';",
                         "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO '{{name}}'@'%';"],
 "revocation_statements": ["DROP USER IF EXISTS '{{name}}'@'%';"]}
JSON

  # An authority that lives in OpenBao alone. The role certifies keys for this one user, for as long as it is asked to.
  linux_user=$(id -un)
  if ((EUID == 0)); then linux_user=postgres; fi # sshd does not need root to let the user in as whom it runs
  "$bao" secrets enable ssh
  "$bao" write ssh/config/ca generate_signing_key=true key_type=ed25519 > /dev/null
  "$bao" write ssh/roles/deploy - << JSON > /dev/null
{"key_type": "ca", "allow_user_certificates": true, "allowed_users": "$linux_user", "max_ttl": "2m", "default_extensions": {"permit-pty": ""}}
JSON

  "$bao" auth enable approle
  "$bao" write auth/approle/role/keyward token_policies=keyward token_period=1h > /dev/null
  role_id=$("$bao" read -field=role_id auth/approle/role/keyward/role-id)
  "$bao" write -force -field=secret_id auth/approle/role/keyward/secret-id > "$dir/secret_id"
}

# Logins that live so long at first, and so long at the most.
orders_role() {
  "$bao" write "orders_db/roles/$1" - << JSON > /dev/null
{"db_name": "orders", "default_ttl": "$2", "max_ttl": "$3",
 "creation_statements": ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE orders_writers;"],
 "revocation_statements": ["DROP ROLE IF EXISTS \"{{name}}\";"]}
JSON
}

# --- sshd: a server -----------------------------------------------------------------------------------------------------------

# It knows no password and no key of anybody: it lets in who has a certificate of OpenBao's authority.
start_sshd() {
  sshd_port=$(free_port)
  say "starting sshd on 127.0.0.1:$sshd_port"
  install -d -m 700 "$dir/sshd"
  ssh-keygen -q -t ed25519 -N '' -C web-1 -f "$dir/sshd/host_key"
  "$bao" read -field=public_key ssh/config/ca > "$dir/sshd/user_ca.pub"
  cat > "$dir/sshd/config" << SSHD
Port $sshd_port
ListenAddress 127.0.0.1
HostKey $dir/sshd/host_key
TrustedUserCAKeys $dir/sshd/user_ca.pub
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
SSHD
  local own_user=()
  if ((EUID == 0)); then
    own_user=(setpriv --reuid "$linux_user" --regid "$linux_user" --init-groups)
    chown -R "$linux_user" "$dir/sshd"
  fi
  background sshd "${own_user[@]}" /usr/sbin/sshd -D -e -f "$dir/sshd/config"
  until_true 30 "sshd answers" sshd_answers
}

sshd_answers() { (: < "/dev/tcp/127.0.0.1/$sshd_port"); }

# --- Keyward ------------------------------------------------------------------------------------------------------------------

configure_keyward() {
  say "making a user, alice, and Keyward's file"
  local password verifier
  password=$(random)
  printf '*:*:*:alice:%s\n' "$password" > "$dir/alice.pgpass"
  printf '[client]\nuser=alice\npassword=%s\n' "$password" > "$dir/alice.cnf"
  verifier=$("$keyward" user hash <<< "$password")
  ssh-keygen -q -t ed25519 -N '' -C alice -f "$dir/alice_key"
  cat > "$dir/keyward.yaml" << YAML
state: $dir/state
log: { format: json }
limits: { drain_timeout: 1s }                    # Ctrl-C here does not wait for a psql there
listeners:
  - { protocol: postgres, address: "127.0.0.1:0" }
  - { protocol: mysql, address: "127.0.0.1:0" }
  - { protocol: ssh, address: "127.0.0.1:0" }
stores:
  corp:
    type: vault
    address: $BAO_ADDR
    auth: { method: approle, role_id: $role_id, secret_id: { file: $dir/secret_id } }
connections:
  orders:                                        # a shared login, from a KV secret
    protocol: postgres
    address: 127.0.0.1:$pg_port
    database: orders
    store: corp
    username: prod_db/data/postgres?username
    password: prod_db/data/postgres?password
  orders_rw:                                     # a login of its own for every session, from a lease
    protocol: postgres
    address: 127.0.0.1:$pg_port
    database: orders
    store: corp
    credential: orders_db/creds/orders_rw
  orders_brief:                                  # the same, soon at its end
    protocol: postgres
    address: 127.0.0.1:$pg_port
    database: orders
    store: corp
    credential: orders_db/creds/orders_brief
    limits: { end_warnings: [4s] }
  shop:                                          # the same two, in MariaDB
    protocol: mysql
    address: 127.0.0.1:$maria_port
    database: shop
    store: corp
    username: prod_db/data/mariadb?username
    password: prod_db/data/mariadb?password
  shop_rw:
    protocol: mysql
    address: 127.0.0.1:$maria_port
    database: shop
    store: corp
    credential: shop_db/creds/shop_rw
  web-1:                                         # a server: a key for every session, which OpenBao certifies
    protocol: ssh
    address: 127.0.0.1:$sshd_port
    store: corp
    host_keys: ["$(cut -d ' ' -f 1,2 "$dir/sshd/host_key.pub")"]
    accounts:
      deploy: { username: { literal: $linux_user }, credential: ssh/sign/deploy }
users:
  alice:
    password: "$verifier"
    public_keys: ["$(cat "$dir/alice_key.pub")"]
    groups: [payments]
access:
  - { allow: [payments], connections: ["orders*", "shop*", web-1] }
YAML
}

# What an operator does, with a token of his own: the passwords go from standard input into the store, and what Keyward may do there is what
# its file needs.
fill_store() {
  say "keyward secret put, keyward policy: an operator writes both passwords, and the policy of Keyward's AppRole"
  local -x KEYWARD_CONFIG=$dir/keyward.yaml
  printf 'orders_app\n%s\n' "$app_password" | "$keyward" secret put corp:prod_db/data/postgres username password
  printf 'shop_app\n%s\n' "$shop_password" | "$keyward" secret put corp:prod_db/data/mariadb username password
  "$keyward" policy corp > "$dir/policy.hcl"
  "$bao" policy write keyward "$dir/policy.hcl"
  grep '^path' "$dir/policy.hcl"
  unset BAO_TOKEN # Keyward has its AppRole; nothing below needs the root token
}

start_keyward() {
  say "keyward check"
  "$keyward" check --config "$dir/keyward.yaml"
  say "starting Keyward"
  background keyward "$keyward" run --config "$dir/keyward.yaml"
  until_true 30 "Keyward is ready" grep -q '"ready"' "$dir/keyward.log"
  postgres_port=$(listener postgres) mysql_port=$(listener mysql) ssh_port=$(listener ssh)
  [[ $postgres_port && $mysql_port && $ssh_port ]] || die "Keyward's log names no listener"
  "$keyward" ca --config "$dir/keyward.yaml" > "$dir/keyward-ca.pem"
  # Not `localhost`, which means a unix socket to them.
  mysql_options=(--defaults-file="$dir/alice.cnf" --host=127.0.0.1 --port="$mysql_port" --ssl-ca="$dir/keyward-ca.pem")
  mariadb_options=("${mysql_options[@]}" --ssl-verify-server-cert) mysql_options+=(--ssl-mode=VERIFY_IDENTITY)

  # What she would add to her ~/.ssh/config and ~/.ssh/known_hosts: Keyward is known by its own key, web-1 by Keyward's authority.
  local ssh_config=("$keyward" ssh-config alice --config "$dir/keyward.yaml" --address "127.0.0.1:$ssh_port")
  "${ssh_config[@]}" --known-hosts > "$dir/known_hosts"
  "${ssh_config[@]}" > "$dir/ssh_config"
  cat >> "$dir/ssh_config" << SSH
Host *
  IdentityFile $dir/alice_key
  IdentitiesOnly yes
  UserKnownHostsFile $dir/known_hosts
  StrictHostKeyChecking yes
SSH
}

listener() { sed -n "/\"listening\"/{/\"protocol\":\"$1\"/s/.*\"127\.0\.0\.1:\([0-9]*\)\".*/\1/p}" "$dir/keyward.log"; }

# What alice types; her password comes from a file that only she can read.
connect_string() {
  printf 'host=localhost hostaddr=127.0.0.1 port=%s user=alice dbname=%s sslmode=verify-full sslrootcert=%s' "$postgres_port" "$1" "$dir/keyward-ca.pem"
}

alice() {
  PGPASSFILE=$dir/alice.pgpass psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$(connect_string "$1") connect_timeout=30" -c "$2"
}

# The clients of MariaDB and MySQL read theirs from a file of their own.
alice_mariadb() { mariadb "${mariadb_options[@]}" --batch --skip-column-names "$1" -e "$2"; }
alice_mysql() { "$mysql" "${mysql_options[@]}" --batch --skip-column-names "$1" -e "$2"; }

alice_ssh() { ssh -F "$dir/ssh_config" -o BatchMode=yes "$@" < /dev/null; }

show() {
  show_postgres
  show_mariadb
  show_ssh

  say "the audit record of these sessions"
  cat "$dir/state/audit.jsonl"
  local secrets=("$app_password" "$shop_password" "$(cut -d : -f 5 "$dir/alice.pgpass")")
  if printf '%s\n' "${secrets[@]}" | grep -qF -f - "$dir/keyward.log" "$dir/state/audit.jsonl"; then
    die "a password is in the log or in the audit record"
  fi
  say "every step held"
}

show_postgres() {
  local who
  say "alice → Keyward → PostgreSQL, with the KV credential (connection: orders)"
  who=$(alice orders "SELECT current_user")
  [[ $who == orders_app ]] || die "expected to be orders_app upstream, and was '$who'"
  printf 'alice is %s there, and sees: %s\n' "$who" "$(alice orders "SELECT string_agg(item, ', ' ORDER BY id) FROM orders")"

  say "alice → Keyward → PostgreSQL, with a login made for this session (connection: orders_rw)"
  who=$(alice orders_rw "SELECT current_user")
  [[ $who == v-approle-orders_* ]] || die "expected a short-lived login upstream, and was '$who'"
  printf 'alice was %s there\n' "$who"
  until_true 30 "that login is gone from pg_roles" role_is_gone "$who"
  printf 'gone from pg_roles: %s\n' "$who"

  say "alice → Keyward → PostgreSQL, with a login that lives for fifteen seconds (connection: orders_brief)"
  who=$(alice orders_brief "SELECT pg_sleep(30)" 2>&1) && die "a session outlived its credential"
  [[ $who == *WARNING*"ends in "*" second"*FATAL*"come to its end"* ]] || die "expected a warning and an end: $who"
  printf '%s\n' "$who"
}

show_mariadb() {
  local who goods="SELECT group_concat(name ORDER BY id SEPARATOR ', ') FROM goods"
  say "alice → Keyward → MariaDB, with the KV credential (connection: shop)"
  who=$(alice_mariadb shop "SELECT CURRENT_USER()")
  [[ $who == shop_app@% ]] || die "expected to be shop_app@% upstream, and was '$who'"
  printf 'alice is %s there, and sees: %s\n' "$who" "$(alice_mariadb shop "$goods")"
  mysql=$KEYWARD_CACHE/use/mysql-9/bin/mysql
  if [[ -x $mysql ]]; then # only there where the tests have been
    printf 'with the mysql client of MySQL 9 she sees: %s\n' "$(alice_mysql shop "$goods")"
  fi

  say "alice → Keyward → MariaDB, with a login made for this session (connection: shop_rw)"
  who=$(alice_mariadb shop_rw "SELECT CURRENT_USER()")
  [[ $who == v-approle-shop_rw-*@% ]] || die "expected a short-lived login upstream, and was '$who'"
  printf 'alice was %s there\n' "$who"
  until_true 30 "that login is gone from mysql.user" user_is_gone "${who%@%}"
  printf 'gone from mysql.user: %s\n' "$who"
}

show_ssh() {
  local who
  say "alice → Keyward → sshd, with a key that OpenBao certified for this session (connection: web-1, account: deploy)"
  who=$(alice_ssh alice+web-1@keyward id -un)
  [[ $who == "$linux_user" ]] || die "expected to be $linux_user upstream, and was '$who'"
  printf 'ssh alice+web-1@keyward: she is %s there\n' "$who"
  who=$(alice_ssh deploy@web-1 id -un)
  [[ $who == "$linux_user" ]] || die "expected to be $linux_user upstream, and was '$who'"
  printf 'ssh deploy@web-1, which is ssh -J alice@keyward deploy@web-1: she is %s there\n' "$who"
  # One for the check, and one for each session.
  [[ $(grep -c "Accepted publickey for $linux_user .* ID vault-" "$dir/sshd.log") == 3 ]] || die "sshd saw no three certificates: $(cat "$dir/sshd.log")"
  grep "Accepted publickey" "$dir/sshd.log" | tail -n 2
  printf '[127.0.0.1]:%s %s\n' "$sshd_port" "$(cat "$dir/sshd/host_key.pub")" > "$dir/past_keyward"
  who=$(alice_ssh -o UserKnownHostsFile="$dir/past_keyward" -p "$sshd_port" "$linux_user@127.0.0.1" id -un 2>&1) && die "sshd lets alice in without Keyward"
  [[ $who == *"Permission denied"* ]] || die "expected sshd to refuse alice's own key: $who"
  printf 'past Keyward: %s\n' "$who"
}

role_is_gone() { [[ $(admin_sql orders <<< "SELECT count(*) FROM pg_roles WHERE rolname = '$1'") == 0 ]]; }
user_is_gone() { [[ $(admin_mariadb <<< "SELECT count(*) FROM mysql.user WHERE user = '$1'") == 0 ]]; }

stay() {
  printf '\nTry it yourself (Ctrl-C ends it all):\n\n'
  local connection
  for connection in orders orders_rw; do
    printf "  PGPASSFILE=%s psql '%s'\n" "$dir/alice.pgpass" "$(connect_string "$connection")"
  done
  for connection in shop shop_rw; do
    printf '  mariadb%s %s\n' "$(printf ' %q' "${mariadb_options[@]}")" "$connection"
  done
  printf '  ssh -F %s alice+web-1@keyward\n' "$dir/ssh_config"
  printf '  ssh -F %s deploy@web-1\n' "$dir/ssh_config"
  printf '\n  %s\n\n' "config: $dir/keyward.yaml   log: $dir/keyward.log   audit: $dir/state/audit.jsonl"
  wait "${pids[-1]}" || true
  die "Keyward has ended by itself; its last words: $(tail -n 5 "$dir/keyward.log")"
}

# --- processes ----------------------------------------------------------------------------------------------------------------

pids=() dir=

# Starts a server with its output in NAME.log, and out of reach of the terminal's Ctrl-C: clean_up ends the servers in order.
background() {
  local name=$1
  shift
  setsid "$@" > "$dir/$name.log" 2>&1 < /dev/null &
  pids+=("$!")
}

until_true() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < end)) || die "not within $seconds s: $what; $(last_words)"
    sleep 0.1
  done
}

last_words() { tail -n 5 "$dir"/*.log; }
# Not of those that outgoing connections are given: it is some seconds until a server has it.
free_port() { python3 -c 'import random, socket
for port in random.sample(range(20000, 32000), 100):
    try: socket.create_server(("127.0.0.1", port)).close()
    except OSError: continue
    print(port); break'; }
random() { python3 -c 'import secrets; print(secrets.token_hex(16))'; }
json() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1]))
for key in sys.argv[2:]: v = v[int(key) if key.isdigit() else key]
print(v)' "$@"; }

# Last started, first ended; each gets ten seconds, then no more.
clean_up() {
  local status=$? i pid tries
  trap - EXIT
  trap '' INT TERM # a second Ctrl-C must not leave the servers and their secrets behind
  set +e
  allow_services
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    pid=${pids[i]}
    kill -s TERM "$pid" 2> /dev/null || continue
    for ((tries = 0; tries < 100; tries++)); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -s KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  [[ -z $dir ]] || rm -rf "$dir"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

main
