#!/usr/bin/env bash
# Everything that must hold: formatting, lints, licences, every test against real servers, whether the benches run, the demo, the fuzz targets.
#
#   tests/run.sh           all of it
#   tests/run.sh --quick   without the licence check and without fuzzing
#
# Installs what it needs (tests/install.sh), prints the time of each stage, and ends with `N passed, N failed, N skipped`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/install.sh

fuzz_seconds=20 failed=no stage= since=0

main() {
  local quick=no
  case ${1:-} in
    '') ;;
    --quick) quick=yes ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
  results=$(mktemp)
  trap 'ended $?' EXIT

  say "versions"
  say_versions
  begin "install"
  install_all
  begin "format"
  cargo fmt --all --check
  rustfmt --edition 2024 --check tests/fuzz/fuzz_targets/*.rs
  begin "lint"
  cargo clippy --workspace --all-targets --quiet -- -D warnings
  if [[ $quick == no ]]; then
    begin "licences, bans, sources"
    cargo deny --log-level error check licenses bans sources
  fi
  begin "build"
  cargo build --workspace --all-targets --quiet
  begin "test"
  test_workspace || failed=yes
  begin "benches"
  benches/run.sh --smoke 2>&1 | tee -a "$results" || failed=yes
  begin "demo"
  docker/demo.sh --once --debug || failed=yes
  if [[ $quick == no && -d tests/fuzz/fuzz_targets ]]; then
    begin "fuzz"
    fuzz || failed=yes
  fi
  finish
  summary || failed=yes
  [[ $failed == no ]]
}

# Stages follow each other under `set -e`, so that the first failed command ends the run; only tests and fuzzing let the others go on.
begin() { finish; stage=$1 since=$SECONDS; say "$stage"; }
finish() {
  if [[ $stage ]]; then say "$stage: $((SECONDS - since)) s"; fi
  stage=
}

ended() {
  allow_services
  rm -f "$results" "$results.fuzz"
  if [[ $stage ]]; then say "$stage: FAILED after $((SECONDS - since)) s"; fi
  exit "$1"
}

# One run of all test programs, so that a failure in one does not hide those of the others. Most tests wait for a client or a server of
# somebody else's: more of them than there are cores keep the cores busy.
test_workspace() {
  local -x RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
  cargo test --workspace --no-fail-fast 2>&1 | tee "$results"
}

# libFuzzer's instrumentation is an unstable flag of rustc; the variable lets the pinned stable compiler take it. What a run finds new is
# kept in the cache, and the next one begins with it; an input that fails is left in tests/fuzz/artifacts.
fuzz() {
  local -x RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$KEYWARD_CACHE/fuzz-target
  local target found
  cargo fuzz build --fuzz-dir tests/fuzz 2> "$results.fuzz" || { cat "$results.fuzz" >&2; return 1; }
  for target in tests/fuzz/fuzz_targets/*.rs; do
    target=$(basename "$target" .rs) found=$KEYWARD_CACHE/fuzz-corpus/$target
    mkdir -p "$found"
    say "fuzz $target"
    cargo fuzz run --fuzz-dir tests/fuzz "$target" "$found" "$PWD/tests/fuzz/seeds/$target" -- \
      -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=1024 -verbosity=0 || return
  done
}

# The sum over the test programs; a run in which no test ran is a failed run. A test whose server could not be had says so, and passes
# for the rest of it: here it counts as skipped too, and is named again, since nobody reads so far up.
summary() {
  local skips
  skips=$(grep -o 'NOTICE: .* is SKIPPED for want of .*' "$results" | sort -u || true)
  if [[ $skips ]]; then printf '%s\n' "$skips" >&2; fi
  awk -v skipped="$(grep -c . <<< "$skips")" '
       /^test result: / {
         for (i = 2; i <= NF; i++) {
           if ($i == "passed;") passed += $(i - 1)
           if ($i == "failed;") failed += $(i - 1)
           if ($i == "ignored;") skipped += $(i - 1)
         }
       }
       END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit passed == 0 || failed > 0 }' "$results"
}

main "$@"
