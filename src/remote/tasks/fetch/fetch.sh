# shellcheck shell=sh disable=SC2154
# Reads files, for people who want to see how they differ. Writes nothing.
#
# The controller sets before common.sh:
#   hs_files      length in bytes of what is on standard input
# Standard input, two lines for each file: the size that it had when it was looked at; its path.

hs_beat "$hs_patience"
hs_wanted=$(head -c "$hs_files")
hs_i=0
printf '%s\n' "$hs_wanted" | while IFS= read -r hs_size && IFS= read -r hs_path; do
  hs_split_off "$hs_path"
  if ! hs_walk "$hs_holder" || [ -L "$hs_last" ] || [ ! -f "$hs_last" ]; then
    hs_mark none "$hs_i" gone
  elif [ ! -r "$hs_last" ] || hs_can_be_exchanged "$hs_last"; then
    hs_mark none "$hs_i" closed
  else
    hs_mark file "$hs_i"
    # One byte more tells that it is larger now.
    head -c "$((hs_size + 1))" 2>/dev/null <"$hs_last"
  fi
  hs_i=$((hs_i + 1))
done
hs_mark end ok
