# shellcheck shell=sh disable=SC2154
# Says what a host already has of large files: what an earlier run has sent, and the digests of the
# blocks of files that are in place.
#
# Set by the controller, before common.sh:
#   hs_base    folder of ours on the host, on the file system of the destinations
#   hs_block   size of a block in bytes
# Standard input: for each large file its name among the extents, then the file in place or nothing,
# each on a line.

hs_beat
hs_find_hash
[ -n "$hs_hash" ] || hs_fail 'this host has no tool for sha256 or blake3 any more'

hs_wanted=$(cat)

# What was sent for files that are not wanted any more.
if [ -d "$hs_base/extents" ]; then
  for hs_extent in "$hs_base"/extents/*; do
    hs_name=${hs_extent##*/}
    case "
$hs_wanted
" in
      *"
${hs_name%.*}
"*) ;;
      *) rm -f -- "$hs_extent" ;;
    esac
  done
fi

hs_mark extents
if [ -d "$hs_base/extents" ]; then
  (cd -- "$hs_base/extents" && find . -type f -print | sed 's/^\.\///' | hs_each_line stat -c '%s %n' --)
fi

printf '%s\n' "$hs_wanted" | while IFS= read -r hs_name; do
  IFS= read -r hs_file || break
  if [ -z "$hs_file" ] || [ ! -f "$hs_file" ] || [ ! -r "$hs_file" ]; then continue; fi
  hs_mark old "$hs_name"
  hs_size=$(stat -L -c %s -- "$hs_file")
  hs_i=0
  while [ "$((hs_i * hs_block))" -lt "$hs_size" ]; do
    # shellcheck disable=SC2086 # The words of the tool are to be split.
    dd if="$hs_file" bs="$hs_block" skip="$hs_i" count=1 2>/dev/null | $hs_hash
    hs_i=$((hs_i + 1))
  done | sed -e 's/^\\//' -e 's/[ *].*$//'
done
hs_mark end ok
