# shellcheck shell=sh disable=SC2154
# Takes an upload into a fresh private folder. What follows this text on standard input is the SCP stream.
#
# Set by the controller, before common.sh:
#   hs_base   folder of ours on the host, on the file system of the destinations
#   hs_run    name of this run's folder in it

umask 077
hs_make_ours "$hs_base"

hs_remove_dead_runs "$hs_base"

if ! { mkdir -- "$hs_base/$hs_run" && mkdir -- "$hs_base/$hs_run/up"; } 2>/dev/null; then
  hs_fail "cannot make a folder in $hs_base ($(mkdir -p -- "$hs_base/$hs_run/up" 2>&1))"
fi
hs_sign "$PPID" "$hs_base/$hs_run/owner" || hs_fail "cannot write in $hs_base"

# Whatever becomes of the connection, what is left here is removed.
trap '' HUP PIPE
hs_mark scp
scp -rpt "$hs_base/$hs_run/up"
hs_status=$?
if [ "$hs_status" -ne 0 ]; then hs_remove_tree "$hs_base/$hs_run"; fi
hs_mark end "$hs_status"
