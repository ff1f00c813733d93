#!/usr/bin/env bash
# Everything that has to hold before a change is merged: format, scripts, lints, docs, tests, fuzzing.
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
ssh-keygen openssh-client
dropbear dropbear-bin
dropbearkey dropbear-bin
busybox busybox-static
mkfs.btrfs btrfs-progs
shellcheck shellcheck
git git
curl curl
jq jq
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

heading 'lints'
cargo clippy --locked --all-targets -- -D warnings
cargo clippy --locked --package hostsync-fuzz -- -D warnings

heading 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

heading 'tests'
if [[ $EUID -eq 0 ]]; then
  cargo test --locked
else
  # Dropbear reads ~/.ssh/authorized_keys alone, and that of whoever runs this is not to be touched.
  echo 'not root: the tests that need dropbear are left out'
  cargo test --locked -- --skip dropbear
fi

heading 'fuzzing'
tests/fuzz.sh

heading 'everything holds'
