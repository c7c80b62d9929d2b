#!/usr/bin/env bash
# 1 GiB down, up and both ways at once through Keyward by SSH, by either way, with equal checksums and in bounded memory; then again while
# every end makes new keys every 5 MB. Too slow for tests/run.sh, which moves 64 MiB.
#
#   tests/ssh_bulk.sh         1 GiB at a time (needs 6 GB of /tmp; some minutes)
#   tests/ssh_bulk.sh 200     200 MiB at a time
#
# Builds for release, and installs what it needs (tests/install.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/install.sh

mebibytes=${1:-1024}
[[ $mebibytes =~ ^[1-9][0-9]*$ ]] || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
trap allow_services EXIT
install_all
say "$mebibytes MiB at a time"
KEYWARD_BULK_MIB=$mebibytes cargo test --release --test keyward ssh_bulk::much -- --test-threads 1
