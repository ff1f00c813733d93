# shellcheck shell=sh disable=SC2154
# Takes an upload into a fresh private folder. What follows this text on standard input is the stream.
#
# Set by the controller, before common.sh:
#   hs_base   folder of ours on the host, on the file system of the destinations
#   hs_run    name of this run's folder in it
#   hs_with   what takes the stream: scp or tar

umask 077
hs_make_ours "$hs_base"
hs_remove_dead_runs "$hs_base"

if ! { mkdir -- "$hs_base/$hs_run" && mkdir -- "$hs_base/$hs_run/up"; } 2>/dev/null; then
  hs_fail "cannot make a folder in $hs_base ($(mkdir -p -- "$hs_base/$hs_run/up" 2>&1))"
fi
hs_sign "$PPID" "$hs_base/$hs_run/owner" || hs_fail "cannot write in $hs_base"

# A connection that breaks must not keep us from cleaning up.
trap '' HUP PIPE
hs_mark "$hs_with"
case $hs_with in
  scp)
    scp -rpt "$hs_base/$hs_run/up"
    hs_status=$?
    ;;
  tar)
    # No umask: a busybox tar that is not run by root sets no permission bits afterwards. Nobody else
    # gets into the folder.
    (umask 000 && exec tar -xpof - -C "$hs_base/$hs_run/up") 2>&1
    hs_status=$?
    # GNU tar may say that not all of a file was written, and not why. The next write knows.
    [ "$hs_status" -eq 0 ] || { head -c 65536 /dev/zero >"$hs_base/$hs_run/more"; } 2>&1 | sed 's/.*: //'
    ;;
esac
# Half an upload is of no use.
[ "$hs_status" -eq 0 ] || hs_remove_tree "$hs_base/$hs_run"
hs_mark end "$hs_status"
