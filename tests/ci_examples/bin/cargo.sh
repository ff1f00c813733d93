#!/usr/bin/env bash
# Stands in for `cargo install`: it installs the program that HOSTSYNC_BIN names.
set -euo pipefail
root=$HOME/.cargo
[[ $1 == install && $2 == --locked ]]
shift 2
if [[ $1 == --root ]]; then
  root=$2
  shift 2
fi
[[ $# -eq 5 && $1 == --git && -n $2 && $3 == --tag && -n $4 && $5 == hostsync ]]
mkdir -p "$root/bin"
ln -s "$HOSTSYNC_BIN" "$root/bin/hostsync"
