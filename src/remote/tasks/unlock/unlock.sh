# shellcheck shell=sh disable=SC2154
# Removes the locks of processes that are gone, and what their runs have left.
#
# The controller sets before common.sh:
#   hs_base       folder of ours on the host
# No standard input.

hs_beat "$hs_patience"
hs_is_there=yes
hs_make_ours "$hs_base" checks || hs_is_there=
hs_folder=${hs_base%/*/*}
for hs_lock in "$hs_folder"/lock-*; do
  if [ -L "$hs_lock" ] || [ ! -d "$hs_lock" ]; then continue; fi
  hs_pid=unknown
  hs_result=held
  hs_find_owner "$hs_lock"
  if [ "$(stat -c %u -- "$hs_lock")" != "$hs_uid" ]; then
    # The folder of another login is for that one to remove.
    [ -z "$hs_owner" ] || hs_is_gone "$hs_owner"
  elif [ -z "$hs_owner" ]; then
    if rmdir -- "$hs_lock" 2>/dev/null; then hs_result=removed; fi
  elif hs_is_gone "$hs_owner"; then
    rm -f -- "$hs_owner" 2>/dev/null || hs_fail "cannot remove $hs_lock"
    # Another run may have it by now.
    rmdir -- "$hs_lock" 2>/dev/null
    hs_result=removed
  fi
  hs_mark "$hs_result" "$hs_pid"
done
if [ -n "$hs_is_there" ]; then hs_remove_dead_runs "$hs_base" all; fi
hs_mark end ok
