# shellcheck shell=sh disable=SC2154
# Removes locks of processes that are gone, and what their runs have left.
#
# Set by the controller, before common.sh:
#   hs_base       folder of ours on the host
# No standard input.

hs_beat 600
hs_folder=${hs_base%/*/*}
for hs_lock in "$hs_folder"/lock-*; do
  if [ -L "$hs_lock" ] || [ ! -d "$hs_lock" ]; then continue; fi
  hs_pid=unknown
  hs_result=held
  if hs_is_gone "$hs_lock/owner"; then
    # Moved away first, so that none that is taken in this moment is removed.
    hs_dead=$hs_folder/dead-${hs_lock##*/lock-}
    mv -T -- "$hs_lock" "$hs_dead" || hs_fail "cannot remove $hs_lock"
    if hs_is_gone "$hs_dead/owner"; then
      rm -rf -- "$hs_dead"
      hs_result=removed
    else
      mv -T -- "$hs_dead" "$hs_lock"
    fi
  elif [ "$hs_pid" = unknown ] || [ -z "$hs_pid" ]; then
    # Without an owner it is nobody's.
    hs_pid=unknown
    if rmdir -- "$hs_lock" 2>/dev/null; then hs_result=removed; fi
  fi
  hs_mark "$hs_result" "$hs_pid"
done
if [ -d "$hs_base" ]; then hs_remove_dead_runs "$hs_base" all; fi
hs_mark end ok
