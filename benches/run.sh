#!/usr/bin/env bash
# Speed and memory of Keyward beside no proxy and beside other proxies: benches/README.md says what is measured and how to read it.
#
#   benches/run.sh [--write] [--rounds N] [--seconds S] [--only TEXT] [GROUP …]   builds for release and measures; an hour or two
#   benches/run.sh --smoke [GROUP …]   everything once and small, judging nothing; some minutes
#
# --write puts the report, with the date, the machine and the versions of the contestants, at the end of benches/README.md.
# Installs what it needs (tests/install.sh). Root is best: only root may raise the limit of open files, and has sshd let in by password.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/install.sh

readonly readme=benches/README.md marker='<!-- benches/run.sh --write: all below is its own -->'

main() {
  local write=no smoke=no arguments=() argument
  for argument in "$@"; do
    case $argument in
      --write) write=yes ;;
      --smoke) smoke=yes ;;
      -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
      *) arguments+=("$argument") ;;
    esac
  done
  [[ $write == no || $smoke == no ]] || die "--smoke measures nothing that could be written"
  trap 'ended $?' EXIT
  install_benches
  allow_files
  if [[ $smoke == yes ]]; then
    cargo test --quiet --bench keyward -- "${arguments[@]}"
  elif [[ $write == no ]]; then
    cargo bench --bench keyward -- "${arguments[@]}"
  else
    report=$(mktemp)
    # What missed its goal is to be read, too; what failed, not.
    cargo bench --bench keyward -- "${arguments[@]}" --out "$report"
    write_report
  fi
}

ended() {
  allow_services
  if [[ ${report:-} ]]; then rm -f "$report"; fi
  exit "$1"
}

# Ten thousand sessions are twenty thousand sockets of Keyward's and as many of the clients' and the server's.
allow_files() {
  ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -Hn)"
}

write_report() {
  local kept
  kept=$(sed "\|^$marker\$|q" "$readme" 2> /dev/null) || die "there is no $readme"
  [[ $kept == *"$marker" ]] || die "$readme has lost the line $marker"
  { printf '%s\n\n' "$kept"; say_machine; cat "$report"; } > "$report.all"
  mv "$report.all" "$readme"
  say "written: $readme"
}

say_machine() {
  local model memory
  model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
  memory=$(awk '$1 == "MemTotal:" { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
  printf '## The last run\n\n%s, %s cores, %s, %s of memory, Linux %s.\n\n' "$(date -u +%F)" "$(nproc)" "${model:-unknown CPU}" "$memory" "$(uname -r | grep -o "^[0-9.]*[0-9]")"
  contestants_versions | sed 's/^/- /'
}

contestants_versions() {
  printf 'Keyward %s\n' "$(git describe --always --dirty 2> /dev/null || echo 'of no repository')"
  "$KEYWARD_CACHE/use/postgres-debian/bin/postgres" --version
  "$(server_of_mariadb)" --version | sed 's/^[^ ]*/MariaDB/'
  ssh -V 2>&1
  PATH="$PATH:/usr/sbin" haproxy -v | head -n 1 | sed 's/ - http.*//'
  PATH="$PATH:/usr/sbin" pgbouncer --version | sed 's/^libevent.*/(&)/' | paste -s -d ' ' | cut -c -120
  sysbench --version
  valgrind --version
}

main "$@"
