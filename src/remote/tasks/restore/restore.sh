# shellcheck shell=sh disable=SC2154
# Stages what is in the backups of this host.
#
# The controller sets before common.sh:
#   hs_base       folder of ours on the host; hs_run: the folder of this run in it, which has had its upload
#   hs_files      length in bytes of what is on standard input
# Standard input, for each file: a line with its size, its permission bits, how many places may have it and
# its digest; its path below the staging folder; the places, one a line, below the folder of ours.
# Nothing is staged where a file has no place that still has what was there: these are answered as `lost`.

umask 077
hs_beat "$hs_patience"
hs_work=$hs_base/$hs_run
hs_make_ours "$hs_base"
# There is no commit without these files, so nothing that was staged is of use.
hs_clean_up() { hs_leave "$hs_work"; }
hs_find_hash
[ -n "$hs_hash" ] || hs_fail 'this host has no tool for sha256 or blake3 any more'
head -c "$hs_files" >"$hs_work/files" || hs_fail "cannot write in $hs_work ($(hs_why_not "$hs_work/files"))"
[ "$(($(wc -c <"$hs_work/files")))" -eq "$hs_files" ] || hs_fail "cannot write in $hs_work"
for hs_list in lost found; do
  true >"$hs_work/$hs_list" || hs_fail "cannot write in $hs_work"
done

while read -r hs_size hs_mode hs_count hs_wanted; do
  IFS= read -r hs_path
  hs_found=
  while [ "$hs_count" -gt 0 ]; do
    hs_count=$((hs_count - 1))
    IFS= read -r hs_place
    hs_place=$hs_base/$hs_place
    if [ -n "$hs_found" ] || [ -L "$hs_place" ] || [ ! -f "$hs_place" ]; then continue; fi
    [ "$(stat -c %s -- "$hs_place")" = "$hs_size" ] || continue
    [ "$(hs_digest <"$hs_place")" = "$hs_algorithm:$hs_wanted" ] || continue
    hs_found=$hs_place
  done
  if [ -n "$hs_found" ]; then
    printf '%s\n%s\n%s\n' "$hs_mode" "$hs_path" "$hs_found" >>"$hs_work/found" || hs_fail "cannot write in $hs_work"
  else
    printf '%s\n' "$hs_path" >>"$hs_work/lost" || hs_fail "cannot write in $hs_work"
  fi
done <"$hs_work/files"

if [ -s "$hs_work/lost" ]; then
  hs_mark lost
  cat "$hs_work/lost"
  hs_clean_up
else
  while read -r hs_mode && IFS= read -r hs_path && IFS= read -r hs_found; do
    hs_said=$(cp -p -- "$hs_found" "$hs_work/up/$hs_path" 2>&1) ||
      hs_fail "cannot copy $hs_found to the staging folder (${hs_said##*: })"
    # The owner as far as the login user may set it. What runs as its owner must not run as another one
    # instead: cp has taken these bits away then.
    case $hs_mode in
      [1-7]???)
        if [ "$(stat -c %u:%g -- "$hs_found")" != "$(stat -c %u:%g -- "$hs_work/up/$hs_path")" ]; then
          hs_mode=0${hs_mode#?}
        fi
        ;;
    esac
    chmod "$hs_mode" "$hs_work/up/$hs_path" || hs_fail "cannot set the permission bits of $hs_path"
  done <"$hs_work/found"
fi
rm -f -- "$hs_work/files" "$hs_work/found" "$hs_work/lost"
# What is staged is for the commit.
hs_clean_up() { :; }
hs_mark end ok
