# shellcheck shell=sh disable=SC2154,SC2034
# What every script on a host begins with. Runs under dash, bash and busybox sh.
#
# Set by the controller, before this text:
#   hs_nonce   marks the answers of this run
#   hs_pulse   seconds between two signs of life
#
# Answers are sections on standard output. A section begins with a line of the marker, the nonce of
# the run and its name, so that nothing a login shell prints can be mistaken for it. Standard error
# carries a heartbeat, so that the controller can tell slow from dead.

hs_mark() { printf 'HOSTSYNC %s %s\n' "$hs_nonce" "$*"; }

# Takes back what a task has begun. A task that stages something puts its own in the place of this.
hs_undo() { :; }

# Says why it cannot go on, and ends.
hs_fail() {
  hs_undo
  hs_mark fail
  printf '%s\n' "$*"
  hs_mark end failed
  exit 1
}

# Gives signs of life from now on, for so many seconds: work that takes longer than anything of its
# kind can is taken for dead. Ends with this shell, however that ends.
hs_heart=
hs_beat() {
  [ -z "$hs_heart" ] || kill "$hs_heart" 2>/dev/null
  (
    hs_left=$1
    while [ "$hs_left" -gt 0 ] && sleep "$hs_pulse" >/dev/null 2>&1 && kill -0 "$$" 2>/dev/null; do
      printf . >&2
      hs_left=$((hs_left - hs_pulse))
    done
  ) </dev/null >/dev/null &
  hs_heart=$!
  trap 'kill "$hs_heart" 2>/dev/null' EXIT
}

# One line for what is found at a path: type and permission bits (hexadecimal), size, mtime, ctime,
# inode, uid, gid, device, path. A time is three words (date, time of day, zone), so twelve words
# stand before the path.
hs_format='%f %s %y %z %i %u %g %d %n'

# From lines to the arguments of a command, as many at once as the system takes.
hs_each_line() { tr '\n' '\0' | xargs -0 -r "$@"; }

# The paths of such lines.
hs_paths() { cut -d' ' -f13-; }

# The paths of those whose type and permission bits begin with a digit.
hs_paths_of_type() { sed -n "/^$1/p" | hs_paths; }

# A file that is larger than a login may have is to be an error with a reason, also of what is started.
# shellcheck disable=SC3048 # Where it has another name, nothing can be done.
if (trap '' XFSZ) 2>/dev/null; then trap '' XFSZ; fi

cd || hs_fail 'the login folder does not exist'

for hs_tool in awk cat cut dd diff find head mkdir mv rm rmdir sed sort stat tr wc xargs; do
  command -v "$hs_tool" >/dev/null 2>&1 || hs_fail "this host has no $hs_tool command"
done

# Removes a folder of ours. Only folders are made writable: a file in it may have another name outside.
hs_remove_tree() {
  # The loop below would empty what a link leads to.
  if [ -L "$1" ]; then
    rm -f -- "$1"
    return
  fi
  find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
  # Whose a run was is known to the end.
  for hs_inner in "$1"/*; do
    if [ "$hs_inner" != "$1/owner" ]; then rm -rf -- "$hs_inner"; fi
  done
  rm -rf -- "$1"
}

# Removes what a run has staged in a folder of ours, but not what has come of large files.
hs_remove_staged() {
  if [ -L "$1/$hs_run" ]; then return; fi
  if [ -d "$1/$hs_run/large" ]; then hs_remove_tree "$1/$hs_run/up"; else hs_remove_tree "$1/${hs_run:?}"; fi
}

# Makes a folder of ours and those above it, from the one named .hostsync or the configured one on.
# They must be ours alone: what is staged in them becomes what hosts run.
hs_make_ours() {
  hs_uid=$(id -u)
  mkdir -p -- "$1" 2>/dev/null || hs_fail "cannot make the folder $1 ($(mkdir -p -- "$1" 2>&1 | sed 's/.*: //'))"
  hs_at=$1
  for hs_level in host lineage top; do
    if [ -L "$hs_at" ] || [ ! -d "$hs_at" ]; then hs_fail "$hs_at is not a folder; move it away"; fi
    # The topmost one may be a place for all logins, as long as nobody can rename what is in it.
    case $hs_level-$(stat -c '%u-%a' -- "$hs_at") in
      top-0-1??? | top-"$hs_uid"-1???) ;;
      *-*-*[2367] | *-*-*[2367]?) hs_fail "$hs_at can be written by others; take that permission away" ;;
      *-"$hs_uid"-* | top-0-*) ;;
      *) hs_fail "$hs_at belongs to another login; set staging_path to another place" ;;
    esac
    hs_at=${hs_at%/*}
  done
}

# Picks the fastest tool that gives the right answer for a known text.
hs_find_hash() {
  hs_hash='' hs_algorithm=''
  if command -v b3sum >/dev/null 2>&1 && [ "$(printf abc | b3sum 2>/dev/null | cut -c1-16)" = 6437b3ac38465133 ]; then
    hs_hash='b3sum' hs_algorithm=blake3
    return
  fi
  for hs_try in 'openssl dgst -sha256 -r' 'sha256sum' 'shasum -a 256'; do
    command -v "${hs_try%% *}" >/dev/null 2>&1 || continue
    # shellcheck disable=SC2086 # The words of the tool are to be split.
    case $(printf abc | $hs_try 2>/dev/null) in
      ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad*)
        hs_hash=$hs_try hs_algorithm=sha256
        return
        ;;
    esac
  done
}

# Digest of standard input, with the name of its algorithm.
hs_digest() {
  # shellcheck disable=SC2086
  hs_sum=$($hs_hash)
  printf '%s:%s\n' "$hs_algorithm" "${hs_sum%%[ *]*}"
}

# A process is known by its pid, its start time (0 where the system does not say) and the boot it
# belongs to.
hs_boot=unknown
if [ -r /proc/sys/kernel/random/boot_id ]; then read -r hs_boot </proc/sys/kernel/random/boot_id; fi
hs_started() {
  hs_ticks=$(sed 's/^.*) //; /^[ZX]/d' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20)
  printf '%s\n' "${hs_ticks:-0}"
}

# Writes down which process something belongs to.
hs_sign() {
  printf '%s %s %s\n' "$1" "$(hs_started "$1")" "$hs_boot" >"$2.new" && mv -fT -- "$2.new" "$2"
}

# Says why a file cannot be written. Some shells do not.
hs_why_not() { { echo x | cat >"$1"; } 2>&1 | sed 's/.*: //'; }

# Whether the process that signed is gone. When in doubt, it is not.
hs_is_gone() {
  read -r hs_pid hs_start hs_where 2>/dev/null <"$1" || return 1
  [ "$hs_where" = "$hs_boot" ] || return 0
  if [ -r /proc/self/stat ] && [ "$hs_start" != 0 ]; then
    [ "$(hs_started "$hs_pid")" != "$hs_start" ]
  else
    ! kill -0 "$hs_pid" 2>/dev/null
  fi
}

# Removes what runs that are gone have left in a folder of ours. A run lasts as long as its connection,
# which is the parent of its scripts. One that nobody has signed is given an hour. What such a run had
# put in place in its last moment may have a second name there. That stays unless all is to go: to take
# one of a file's names away changes its times, and it may be one that is about to be compared.
hs_remove_dead_runs() {
  for hs_dead in "$1"/run-*; do
    if [ -L "$hs_dead" ] || [ ! -d "$hs_dead" ] || [ "$hs_dead" = "$1/${hs_run:-}" ]; then continue; fi
    if [ -s "$hs_dead/owner" ]; then
      hs_is_gone "$hs_dead/owner" || continue
    else
      [ -n "$(find "$hs_dead" -prune -mmin +60 2>/dev/null)" ] || continue
    fi
    # Whose it was is known to the end.
    for hs_part in "$hs_dead/up" "$hs_dead/large"; do
      if [ "${2:-}" = all ]; then
        hs_remove_tree "$hs_part"
      else
        find "$hs_part" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
        find "$hs_part" ! -type d -links 1 -exec rm -f -- {} + 2>/dev/null
        find "$hs_part" -depth -type d -exec rmdir {} + 2>/dev/null
      fi
    done
    if [ ! -e "$hs_dead/up" ] && [ ! -e "$hs_dead/large" ]; then hs_remove_tree "$hs_dead"; fi
  done
}

# The lock that commits are made under: one for each login and machine, since several hosts of a
# configuration, and several configurations, may lead to the same place.
hs_lock_of() { printf '%s/lock-%s\n' "${1%/*/*}" "$hs_boot"; }

# Sets hs_owner, the file in a lock that says who has it: empty where nobody does. The file is named after
# the process. So to remove that of one that is gone never takes the lock from another one, which may have
# it by then.
hs_find_owner() {
  for hs_owner in "$1"/owner*; do
    if [ -e "$hs_owner" ]; then return; fi
  done
  hs_owner=
}

# Puts extents, which scp and tar have received as files of their own, into the partial of a file.
hs_merge_extents() {
  for hs_extent in "$1/$2".*; do
    [ -e "$hs_extent" ] || continue
    hs_start=${hs_extent##*.}
    # Never moved: a receiver that stalled may still have it open when the file is in place.
    dd if="$hs_extent" of="$1/$2" bs="$hs_block" seek="$hs_start" conv=notrunc 2>/dev/null
    rm -f -- "$hs_extent"
  done
}

# Makes a file at most so many bytes long.
hs_cut() {
  if [ "$(stat -c %s -- "$1")" -gt "$2" ]; then dd if=/dev/null of="$1" bs=1 seek="$2" 2>/dev/null; fi
}
