#!/usr/bin/env bash
# What no test needs: compiled and run on time that the tests leave over, which wait more than they compute.
#
#   setsid tests/beside.sh [--tools]      --tools: compiles what is missing of cargo's tools, first (tests/tools.sh)
set -euo pipefail
cd "$(dirname "$0")/.."

# Everybody else goes first: within a session, and of sessions (sched(7), autogroup).
chrt --idle --pid 0 $$ || true
[[ ! -w /proc/self/autogroup ]] || echo 19 >/proc/self/autogroup

say() { printf '\n-- %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# Feeds a decoder, the same way each time (to go on from there: tests/fuzz/Cargo.toml): a target, the longest of its
# inputs, and where it begins besides its own seeds.
fuzz() {
  local target=$1 longest=$2
  mkdir -p "tests/fuzz/corpus/$target"
  # Without a sanitizer, which finds what unsafe code does: the decoders have none.
  (cd tests && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" \
    "fuzz/seeds/$target" "${@:3}" -- -seed=1 -max_total_time=60 -max_len="$longest" \
    -verbosity=0 -print_funcs=0 -print_final_stats=1)
}

if [[ ${1:-} == --tools ]]; then
  say "tools"
  tests/tools.sh
fi
say "instructions per message"
bench/instructions
if command -v cargo-fuzz >/dev/null; then
  say "fuzz, a minute each"
  export -f fuzz
  xargs -P "$(nproc)" -L 1 bash -c 'fuzz "$@"' fuzz <<END
ssh_before_keys 8192
ssh_after_keys 8192
run_file 8192 ../docs/examples
http 16384
END
else
  say "more cases of what a fuzzer would feed, for want of cargo-fuzz, which tests/tools.sh compiles"
  PROPTEST_CASES=100000 cargo test -p scale-tests --test decoders --quiet -- ssh::
  PROPTEST_CASES=20000 cargo test -p scale-tests --test decoders --quiet -- files:: listeners::
fi
say "the documentation as a site"
if command -v mdbook >/dev/null; then
  mdbook build docs
else
  echo "skipped: mdbook is not there, which tests/tools.sh compiles"
fi
