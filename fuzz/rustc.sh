#!/usr/bin/env bash
# What cargo runs for the crates of this workspace instead of rustc when targets are built: the same
# with the counters that libFuzzer looks at. Other crates are built as ever, so nothing of them is
# built twice. tests/fuzz.sh says where libfuzzer.a is.
set -euo pipefail

exec "$@" \
  --cfg fuzzing \
  -Copt-level=1 \
  -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares \
  -Lnative="${LIBFUZZER_DIR:?the folder of libfuzzer.a}"
