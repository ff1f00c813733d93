# shellcheck shell=sh disable=SC2154
# Looks at a host and answers what is there. Writes nothing.
#
# The controller sets before common.sh:
#   hs_mode       quick: trust what has not moved since the kept listing was made; full: look at all
#   hs_base       folder of ours on the host, where the listing is kept
#   hs_listing    digest that the kept listing must have (quick)
#   hs_roots      how many mappings there are; hs_root_0, hs_root_1 ... are their destinations
#   hs_mirrors    numbers of the mappings of which everything below is looked at
#   hs_staging    the folder that is proposed for staging
#   hs_paths      length in bytes of what is on standard input
# Standard input: the paths to look at, each ended by a NUL.

# The nearest folder that exists at or above a path.
hs_anchor() {
  hs_at=$1
  while [ ! -e "$hs_at" ] && [ ! -L "$hs_at" ]; do
    case $hs_at in
      */*) hs_at=${hs_at%/*} ;;
      *) hs_at=. ;;
    esac
    [ -n "$hs_at" ] || hs_at=/
  done
}

# Where a path lies: device, type, whether it may be written, and what exists of it.
hs_place() {
  hs_anchor "$1"
  hs_writable=ro
  if [ -w "$hs_at" ]; then hs_writable=rw; fi
  printf '%s %s ' "$2" "$hs_writable"
  stat -L -c '%d %f %n' -- "$hs_at" 2>/dev/null || printf '0 0 %s\n' "$hs_at"
}

# What others can do above a destination or a folder of ours: a line for the first folder in which they can put
# something else in its place; one for the first in which they could in that of a folder of ours beside it, and one
# for where ours is safe then; and one for what keeps us from getting there.
hs_open_places() {
  hs_split_off "$1"
  hs_anchor "$hs_holder"
  hs_there=$hs_at
  hs_walk "$hs_there" "${3:-}"
  hs_above=$hs_open hs_beside=$hs_open hs_obstacle=$hs_why hs_shelter=''
  if [ -z "$hs_obstacle" ]; then
    hs_path=$hs_at
    hs_is_free "$hs_path" "$2" || hs_beside=$hs_free
    # Where folders are missing above it, their first one will be ours.
    if [ "$hs_there" = "$hs_holder" ] && { [ -e "$hs_last" ] || [ -L "$hs_last" ]; }; then
      if hs_can_be_exchanged "$hs_last"; then hs_above=${hs_above:-${hs_path:-/}}; fi
      # Others can exchange what is in the destination itself, too.
      if [ -d "$hs_last" ] && [ ! -L "$hs_last" ]; then
        # shellcheck disable=SC2046 # Three words.
        hs_is_ours_to_change $(stat -c '%u %g %a' -- "$hs_last") "$hs_uid" || hs_above=${hs_above:-$1}
      fi
    elif [ -n "$hs_beside" ]; then
      # shellcheck disable=SC2046 # Three words.
      hs_is_ours_to_change $(stat -c '%u %g %a' .) "$hs_uid" || hs_above=${hs_above:-${hs_path:-/}}
    fi
    if [ -n "$hs_beside" ]; then hs_find_shelter "$hs_there" "$(stat -c %d .)"; fi
  fi
  cd "$hs_login" || hs_fail 'the login folder does not exist'
  [ -z "$hs_above" ] || printf 'above %s %s\n' "$2" "$hs_above"
  [ -z "$hs_beside" ] || printf 'beside %s %s\n' "$2" "$hs_beside"
  [ -z "$hs_shelter" ] || printf 'shelter %s %s\n' "$2" "$hs_shelter"
  [ -z "$hs_obstacle" ] || printf 'obstacle %s %s\n' "$2" "$hs_obstacle"
}

# Whether a folder of ours is safe in the working folder, which is shown so; hs_free is what is in the way.
hs_is_free() {
  hs_free=$hs_open
  # shellcheck disable=SC2046 # Three words.
  hs_is_ours_to_change $(stat -c '%u %g %a' .) "$hs_uid" || hs_free=${hs_free:-${1:-/}}
  # In a sticky folder, anybody can be the first to take the name of our folder.
  case ${2:-}-$(stat -c %u ./.hostsync 2>/dev/null) in
    staging-* | *- | *-0 | *-"$hs_uid") ;;
    *) hs_free=$1/.hostsync ;;
  esac
  [ -z "$hs_free" ]
}

# The nearest folder above on the same file system in which nobody can exchange a folder of ours.
hs_find_shelter() {
  hs_up=$1
  while :; do
    case $hs_up in
      /?*) hs_up=${hs_up%/*} ;;
      *) return ;;
    esac
    hs_up=${hs_up:-/}
    hs_walk "$hs_up" || return
    [ "$(stat -c %d .)" = "$2" ] || return
    if [ -w . ] && hs_is_free "$hs_at"; then
      hs_shelter=$hs_up
      return
    fi
  done
}

hs_parent() {
  case $1 in
    */*) hs_up=${1%/*} ;;
    *) hs_up=. ;;
  esac
  [ -n "$hs_up" ] || hs_up=/
}

hs_links() {
  while IFS= read -r hs_link; do
    hs_target=$(readlink "$hs_link" && echo x) || continue
    # readlink ends its answer with a newline, and a target may end with one, too.
    hs_target=${hs_target%x}
    printf '%s\0%s\0' "$hs_link" "${hs_target%?}"
  done
}

# The sum of numbers, one a line.
hs_add() {
  hs_total=0
  while read -r hs_number; do hs_total=$((hs_total + ${hs_number:-0})); done
  printf '%s\n' "$hs_total"
}

# Complains about what cannot be looked at, but not about what is not there.
hs_stat() {
  {
    xargs -0 -r stat -c "$hs_format" -- 2>&1 >&3 3>&- |
      sed -e '/No such file or directory/d' -e '/Not a directory/d' \
        -e '/Too many levels of symbolic links/d' -e '/Symbolic link loop/d' >&2
  } 3>&1
}

hs_beat "$hs_patience"
stat -c %f / >/dev/null 2>&1 || hs_fail 'this host has no stat command that knows -c'
printf 'x\0' | xargs -0 -r true >/dev/null 2>&1 || hs_fail 'this host has no xargs command that knows -0 and -r'
[ "$(printf '/\n' | tr '\n' '\0' | hs_stat | sed -n p | hs_paths)" = / ] ||
  hs_fail 'the tools of this host (tr, xargs, stat, sed, cut) do not work together'
hs_find_hash
[ -n "$hs_hash" ] || hs_fail 'this host has no tool for sha256 or blake3 (sha256sum, openssl, shasum, b3sum)'
hs_scp=
if command -v scp >/dev/null 2>&1 && [ ! -e /etc/ssh/disable_scp ]; then hs_scp=yes; fi
hs_tar=
if command -v tar >/dev/null 2>&1; then hs_tar=yes; fi

# Waits for what another run is in the middle of. A lock without an owner is nobody's.
hs_lock=$(hs_lock_of "$hs_base")
hs_waited=0
while [ "$hs_waited" -lt 10 ]; do
  hs_find_owner "$hs_lock"
  if [ -z "$hs_owner" ] || hs_is_gone "$hs_owner"; then break; fi
  sleep 1
  hs_waited=$((hs_waited + 1))
done

hs_left=
for hs_dead in "$hs_base"/run-*; do
  if hs_is_dead "$hs_dead"; then hs_left=yes; fi
done

hs_mark facts
printf 'algorithm=%s\ntool=%s\nuid=%s\ngid=%s\nscp=%s\ntar=%s\nleft=%s\n' \
  "$hs_algorithm" "${hs_hash%% *}" "$(id -u)" "$(id -g)" "$hs_scp" "$hs_tar" "$hs_left"

hs_mark places
hs_any_root=
hs_i=0
while [ "$hs_i" -lt "$hs_roots" ]; do
  eval "hs_dest=\$hs_root_$hs_i"
  if [ -e "$hs_dest" ] || [ -L "$hs_dest" ]; then hs_any_root=yes; fi
  hs_parent "$hs_dest"
  hs_place "$hs_up" "parent $hs_i"
  if [ -d "$hs_dest" ] && [ ! -L "$hs_dest" ]; then hs_place "$hs_dest" "inside $hs_i"; fi
  hs_i=$((hs_i + 1))
done
hs_place "$hs_staging" 'staging 0'

hs_mark open
hs_i=0
while [ "$hs_i" -lt "$hs_roots" ]; do
  eval "hs_open_places \"\$hs_root_$hs_i\" $hs_i \"\$hs_trust_$hs_i\""
  hs_i=$((hs_i + 1))
done
hs_open_places "$hs_staging" staging

hs_lines=
hs_answer=full
if [ "$hs_mode" = quick ]; then
  hs_answer=lost
  if [ -r "$hs_base/listing" ] && [ "$(hs_digest <"$hs_base/listing")" = "$hs_listing" ]; then
    hs_fresh=$(hs_paths <"$hs_base/listing" | tr '\n' '\0' | hs_stat)
    hs_moved=$(printf '%s\n' "$hs_fresh" | diff -a -U0 "$hs_base/listing" -)
    # Only what diff itself says counts: 0 is the same, 1 is different, anything else is nothing.
    case $? in
      0) hs_answer=same ;;
      1) hs_answer=moved ;;
    esac
  fi
  if [ "$hs_answer" = moved ]; then
    hs_moved=$(printf '%s\n' "$hs_moved" | sed -e '1,2d' -e '/^@@/d')
    hs_lines=$(printf '%s\n' "$hs_moved" | sed -n 's/^+//p')
    [ -n "$hs_moved" ] || hs_answer=lost
  fi
fi
hs_mark listing "$hs_answer"
if [ "$hs_answer" = lost ]; then
  hs_mark end ok
  exit 0
fi
if [ "$hs_answer" = moved ]; then
  hs_mark gone
  printf '%s\n' "$hs_moved" | sed -n 's/^-//p'
fi

# All paths that were asked for, and all below the mirrored destinations.
hs_asked=$(
  {
    # Where no destination is there yet, there is nothing below any of them.
    if [ -n "$hs_any_root" ]; then head -c "$hs_paths"; else head -c "$hs_paths" >/dev/null; fi
    if [ "$hs_mode" = full ]; then
      for hs_i in $hs_mirrors; do
        eval "hs_dest=\$hs_root_$hs_i"
        # A name with a newline cannot be told from two names. What is ours is not theirs.
        find "$hs_dest" -name .hostsync -prune -o -name '*
*' -prune -o -print0 2>/dev/null
      done
    fi
  } | hs_stat
)
if [ -n "$hs_asked" ]; then
  hs_lines="${hs_lines:+$hs_lines
}$hs_asked"
fi

# What is in these, a mirror does not see.
if [ "$hs_mode" = full ] && [ -n "$hs_mirrors" ]; then
  hs_mark closed
  printf '%s\n' "$hs_lines" | hs_paths_of_type 4 | while IFS= read -r hs_at; do
    if [ ! -r "$hs_at" ] || [ ! -x "$hs_at" ]; then printf '%s\n' "$hs_at"; fi
  done
fi

hs_mark stat
if [ -n "$hs_lines" ]; then
  printf '%s\n' "$hs_lines"
  hs_mark links
  printf '%s\n' "$hs_lines" | hs_paths_of_type a | hs_links
  hs_mark sums
  # Two megabytes a second is slow for any disk.
  hs_beat "$((hs_patience + $(printf '%s\n' "$hs_lines" | sed -n '/^8/s/^[^ ]* \([0-9]*\)[0-9]\{6\} .*/\1/p' | hs_add) / 2))"
  hs_files=$(printf '%s\n' "$hs_lines" | hs_paths_of_type 8)
  if [ -n "$hs_files" ]; then
    # shellcheck disable=SC2086 # The words of the tool are to be split.
    printf '%s\n' "$hs_files" | hs_each_line $hs_hash 2>/dev/null
  fi
fi
hs_mark end ok
