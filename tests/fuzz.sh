#!/usr/bin/env bash
# Fuzzes everything that hostsync reads: each target of fuzz/ for so many seconds.
#
#   tests/fuzz.sh                     all targets, ten seconds each
#   tests/fuzz.sh 600 plan mapper     these, ten minutes each
#
# Ends with 1 when a target failed; it then says with what, and how to run that again.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

seconds=${1:-10}
shift || true
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for source in fuzz/src/bin/*.rs; do
    targets+=("$(basename "$source" .rs)")
  done
fi

# The folder in which the build script of libFuzzer has left it.
engine_dir() {
  cargo build --locked --quiet --package hostsync-fuzz-engine --message-format json |
    sed -n 's/.*"build-script-executed".*"out_dir":"\([^"]*\/libfuzzer-sys-[^"]*\)".*/\1/p'
}

# The programs, one a line.
build() {
  LIBFUZZER_DIR=$(engine_dir) RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc.sh \
    cargo build --locked --package hostsync-fuzz --bins \
    --message-format json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

mapfile -t programs < <(build)
[[ ${#programs[@]} -gt 0 ]] || exit 1

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
crashes=target/fuzz
mkdir -p "$crashes"

# What the engine says last: how often the target was run, and how much of the code was reached.
figures() {
  sed -n 's/^#\([0-9]*\)\t[A-Za-z]* *cov: \([0-9]*\) .*/\1 \2/p' "$1"
}

failed=0
for target in "${targets[@]}"; do
  program=
  for candidate in "${programs[@]}"; do
    [[ $(basename "$candidate") == "$target" ]] && program=$candidate
  done
  if [[ -z $program ]]; then
    printf 'tests/fuzz.sh: there is no target %s\n' "$target" >&2
    exit 64
  fi
  log=$work/$target.log
  mkdir -p "$work/$target"
  if TMPDIR=$work "$program" \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=16384 \
    -dict=fuzz/words.dict -artifact_prefix="$crashes/$target-" \
    "$work/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
    read -r _ seeded < <(figures "$log" | head -n 1)
    read -r runs reached < <(figures "$log" | tail -n 1)
    printf '%s: %s runs, %s places reached (%s by the samples)\n' \
      "$target" "$runs" "$reached" "$seeded"
  else
    failed=1
    tail -n 60 "$log"
    file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    printf '%s failed. To run it again:\n  %s %s\n' "$target" "$program" "$file"
  fi
done
exit "$failed"
