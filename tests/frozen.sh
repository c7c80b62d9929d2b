#!/usr/bin/env bash
# Runs a command that stands still again and again, with all that it starts: what a machine that is loaded, moved or snapshotted does to tests,
# on purpose. Waits with a time limit are cut short by it (EINTR, signal(7)), and time goes by between any two steps.
#
#   tests/frozen.sh EVERY LONGEST COMMAND…      both in milliseconds, at random up to twice EVERY apart: tests/frozen.sh 300 5 tests/run.sh --quick
#
# Needs root, and the freezer of control groups; ends with the command's own code. That of version 2, which is taken where there is no other,
# ends sshd of Debian 12 now and then: its filter knows no restart_syscall(2).
set -euo pipefail

main() {
  (($# >= 3)) || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
  local every=$1 longest=$2
  shift 2
  find_freezer
  # The shell is in the group before the command is there.
  bash -c 'echo $$ > "$0/cgroup.procs"; exec "$@"' "$group" "$@" &
  command=$! times=0
  trap 'thaw; kill "$command"' INT TERM
  while pause "$((2 * every))"; kill -0 "$command" 2> /dev/null; do
    freeze
    pause "$longest"
    thaw
    times=$((times + 1))
  done
  local code=0
  wait "$command" || code=$?
  echo "it stood still $times times" >&2
  rmdir "$group" 2> /dev/null || true # what the command left behind is still in it
  return "$code"
}

find_freezer() {
  local name=keyward-frozen-$$ two
  two=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  if [[ -d /sys/fs/cgroup/freezer ]]; then
    group=/sys/fs/cgroup/freezer/$name switch=freezer.state on=FROZEN off=THAWED
  else
    group=${two:?no freezer of control groups}/$name switch=cgroup.freeze on=1 off=0
  fi
  mkdir "$group"
}

freeze() { echo "$on" > "$group/$switch"; }
thaw() { echo "$off" > "$group/$switch"; }

# For a random time up to so many milliseconds.
pause() {
  local time=$((RANDOM % ($1 + 1)))
  sleep "$((time / 1000)).$(printf %03d $((time % 1000)))"
}

main "$@"
