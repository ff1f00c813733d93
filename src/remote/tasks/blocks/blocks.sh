# shellcheck shell=sh disable=SC2154
# Prepares the partials of large files, and answers the digests of their blocks. A partial is what this
# host has of a file so far; an upload of the blocks that are wrong or missing completes it.
#
# The controller sets before common.sh:
#   hs_base       folder of ours on the host, on the file system of the destinations
#   hs_run        name of this run's folder in it
#   hs_block      size of a block in bytes
#   hs_files      length in bytes of what is on standard input
# Standard input, two lines for each file: its id and the size that it is to have; the path of what is in
# its place.

umask 077
hs_beat "$hs_patience"
# The time between these two is a round trip.
hs_mark begun
hs_wanted=$(head -c "$hs_files")
# Whatever is not wanted is removed, so the list has to be whole.
[ "$(($(printf '%s\n' "$hs_wanted" | wc -c)))" -eq "$hs_files" ] || hs_fail 'the connection ended early'
hs_mark taken
hs_find_hash
[ -n "$hs_hash" ] || hs_fail 'this host has no tool for sha256 or blake3 any more'
hs_make_ours "$hs_base"
hs_top=$hs_base/$hs_run
mkdir -p -- "$hs_top/large" || hs_fail "cannot make a folder in $hs_base"
# Takes over what dead runs have left of these files.
for hs_dead in "$hs_base"/run-*; do
  if [ ! -d "$hs_dead/large" ] || ! hs_is_dead "$hs_dead"; then continue; fi
  for hs_left in "$hs_dead/large"/*; do
    hs_name=${hs_left##*/}
    case "
$hs_wanted" in
      *"
${hs_name%%.*} "*) [ -e "$hs_top/large/$hs_name" ] || mv -T -- "$hs_left" "$hs_top/large/$hs_name" ;;
    esac
  done
done
# Makes room before it needs any.
hs_remove_dead_runs "$hs_base"
# Also where an earlier session of this run did: it may be gone.
hs_sign "$PPID" "$hs_top/owner" || hs_fail "cannot write in $hs_base ($(hs_why_not "$hs_top/owner.new"))"

hs_i=0
printf '%s\n' "$hs_wanted" | while read -r hs_id hs_size; do
  IFS= read -r hs_path || hs_path=
  hs_partial=$hs_top/large/$hs_id
  hs_copy=$hs_top/large/copy-$$
  if [ -L "$hs_partial" ] || [ ! -f "$hs_partial" ]; then hs_remove_tree "$hs_partial"; fi
  if [ ! -e "$hs_partial" ] && [ -f "$hs_path" ] && [ ! -L "$hs_path" ] &&
    (hs_split_off "$hs_path" && hs_walk "$hs_holder" && ! hs_can_be_exchanged "$hs_last"); then
    # Never a link: what is written into the copy must not change the file.
    if {
      if [ "$(stat -c %s -- "$hs_path")" -gt "$hs_size" ]; then
        head -c "$hs_size" <"$hs_path" >"$hs_copy"
      else
        cp --reflink=auto -- "$hs_path" "$hs_copy" || cp -- "$hs_path" "$hs_copy"
      fi
    } 2>/dev/null; then
      chmod 600 "$hs_copy" && mv -T -- "$hs_copy" "$hs_partial"
    else
      rm -f -- "$hs_copy"
    fi
  fi
  true >>"$hs_partial" || hs_fail "cannot write in $hs_base ($(hs_why_not "$hs_partial"))"
  hs_merge_extents "$hs_top/large" "$hs_id"
  hs_cut "$hs_partial" "$hs_size"
  hs_mark blocks "$hs_i"
  hs_i=$((hs_i + 1))
  hs_now=$(stat -c %s -- "$hs_partial")
  hs_n=0
  while [ "$((hs_n * hs_block))" -lt "$hs_now" ]; do
    # shellcheck disable=SC2086 # The words of the tool are to be split.
    dd if="$hs_partial" bs="$hs_block" skip="$hs_n" count=1 2>/dev/null | $hs_hash
    hs_n=$((hs_n + 1))
  done | sed -e 's/^\\//' -e 's/[ *].*$//'
done
hs_mark end ok
