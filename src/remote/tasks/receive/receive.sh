# shellcheck shell=sh disable=SC2154
# Takes an upload into a private folder. What follows this text on standard input is the stream.
#
# The controller sets before common.sh:
#   hs_base   folder of ours on the host, on the file system of the destinations
#   hs_run    name of this run's folder in it
#   hs_into   up: a fresh folder in that one. large: the one that blocks.sh has made, for extents of
#             large files, named by id and number of the first block; for several sessions at a time
#   hs_block  size of a block in bytes
#   hs_with   what takes the stream: scp or tar

umask 077
hs_top=$hs_base/$hs_run
hs_make_ours "$hs_base"
# Half an upload is of no use, except for large files.
hs_clean_up() { [ "$hs_into" != up ] || hs_leave "$hs_top"; }
if [ "$hs_into" = up ]; then
  hs_remove_dead_runs "$hs_base"
  [ ! -e "$hs_top/up" ] || hs_remove_tree "$hs_top/up"
  if ! mkdir -p -- "$hs_top/up" 2>/dev/null; then
    hs_fail "cannot make a folder in $hs_base ($(mkdir -p -- "$hs_top/up" 2>&1 | sed 's/.*: //'))"
  fi
  hs_sign "$PPID" "$hs_top/owner" || hs_fail "cannot write in $hs_base ($(hs_why_not "$hs_top/owner.new"))"
fi

# A connection that breaks must not keep us from cleaning up.
trap '' HUP PIPE
hs_mark "$hs_with"
case $hs_with in
  scp)
    # Other users can see the arguments of a process, so they name nothing.
    (cd -- "$hs_top/$hs_into" && exec scp -rpt .)
    hs_status=$?
    ;;
  tar)
    # No umask: a busybox tar that is not run by root sets no permission bits afterwards. Nobody else
    # gets into the folder.
    (umask 000 && cd -- "$hs_top/$hs_into" && exec tar -xpof -) 2>&1
    hs_status=$?
    # GNU tar may say that not all of a file was written, and not why. The next write knows.
    if [ "$hs_status" -ne 0 ]; then
      { head -c 65536 /dev/zero >"$hs_top/more"; } 2>&1 | sed 's/.*: //'
      rm -f -- "$hs_top/more"
    fi
    ;;
esac
[ "$hs_status" -eq 0 ] || hs_clean_up
# What has arrived whole is for the commit.
hs_clean_up() { :; }
hs_mark end "$hs_status"
