# shellcheck shell=sh disable=SC2154,SC2034
# Every script on a host begins with this text. It runs under dash, bash and busybox sh. agent.pl has the
# same functions for hosts with perl.
#
# The controller sets before this text:
#   hs_nonce      marks the answers of this task
#   hs_pulse      seconds between two signs of life
#   hs_patience   seconds that all of this may take at the very most
#
# Answers are sections on standard output. A section begins with a line of the marker, the nonce of
# the task and its name, so that nothing a login shell prints can be mistaken for it. Standard error
# carries a heartbeat, so that the controller can tell slow from dead.

hs_mark() { printf 'HOSTSYNC %s %s\n' "$hs_nonce" "$*"; }

# Removes what a task must not leave when it fails or when a signal ends it. Each task that has something
# to remove defines its own. It runs before the answer ends: whoever hears of the end finds nothing of it.
hs_clean_up() { :; }

# Says why the task cannot go on, and ends it.
hs_fail() {
  hs_clean_up
  hs_mark fail
  printf '%s\n' "$*"
  hs_mark end failed
  exit 1
}

hs_heart=
trap 'hs_clean_up; [ -z "$hs_heart" ] || kill "$hs_heart" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM

# Gives signs of life from now on, for so many seconds. Work that takes longer than anything of its kind
# can is taken for dead. They end with this shell, however that ends.
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

# With this, a program of the login makes files and folders.
hs_login_umask=$(umask)

cd || hs_fail 'the login folder does not exist'
hs_login=$(pwd)

for hs_tool in awk cat cut dd diff find head mkdir mv rm rmdir sed sort stat tr wc xargs; do
  command -v "$hs_tool" >/dev/null 2>&1 || hs_fail "this host has no $hs_tool command"
done

# Whether nobody but root and the login can put something else in the place of an entry. Given of the folder:
# owner, group, permission bits; of the entry: its owner. An access list of a folder shows in the bits of its
# group. So root trusts no group; another login trusts the one that many systems make for a user, if nobody else
# is in it.
hs_uid=$(id -u)
hs_own_group=none
if [ "$hs_uid" != 0 ] && [ "$(id -gn)" = "$(id -un)" ]; then
  hs_gid=$(id -g)
  case $(getent group "$hs_gid" 2>/dev/null || grep "^[^:]*:[^:]*:$hs_gid:" /etc/group 2>/dev/null) in
    *:*:"$hs_gid":) hs_own_group=$hs_gid ;;
  esac
fi
hs_is_ours_to_change() {
  case $1 in
    0 | "$hs_uid") ;;
    *) return 1 ;;
  esac
  case $2-$3 in
    *[2367]) ;;
    "$hs_own_group"-*) return 0 ;;
    *[2367]?) ;;
    *) return 0 ;;
  esac
  case $3-$4 in
    [1357]???-0 | [1357]???-"$hs_uid") return 0 ;;
  esac
  return 1
}

# Goes into a folder, name by name, from `/` or the login folder on. Nothing is followed but links that
# root or the login made where nobody else can put another one; and if the second argument is 1, those of a
# login that is not root. With a third argument, makes what is missing.
# Sets hs_open: the first folder in which others can put something else in the place of the next one, if
# there is any. Sets hs_why where it got no further, and returns 1.
hs_walk() {
  hs_rest=$1 hs_trusts=${2:-} hs_makes=${3:-} hs_follows=yes hs_open=''
  case $1 in
    /*) hs_at='' && cd / ;;
    *) hs_at='~' && cd "$hs_login" ;;
  esac && hs_go
}

# Sets for a path: hs_holder, the folder that holds it, and hs_last, its name there. The login folder and `/`
# hold themselves.
hs_split_off() {
  case $1 in
    / | . | ./) hs_holder=$1 hs_last=. ;;
    */*) hs_holder=${1%/*} hs_last=./${1##*/} ;;
    *) hs_holder=. hs_last=./$1 ;;
  esac
  hs_holder=${hs_holder:-/}
}

# The same from the working folder on, and no link is followed.
hs_walk_on() {
  hs_rest=$1 hs_makes='' hs_trusts='' hs_follows=''
  hs_go
}

# Goes on by the names in hs_rest.
hs_go() {
  hs_why='' hs_hops=0 hs_entered=''
  while [ -n "$hs_rest" ]; do
    hs_next=${hs_rest%%/*}
    case $hs_rest in
      */*) hs_rest=${hs_rest#*/} ;;
      *) hs_rest= ;;
    esac
    case $hs_next in '' | .) continue ;; esac
    if [ -n "$hs_makes" ] && [ ! -e "./$hs_next" ] && [ ! -L "./$hs_next" ]; then
      hs_is_entered || return 1
      hs_said=$(mkdir -- "./$hs_next" 2>&1) || hs_why="cannot make $hs_at/$hs_next: ${hs_said##*: }"
    fi
    # shellcheck disable=SC2046 # Two lines of five words each.
    set -- $(stat -c '%d:%i %u %g %a %f' -- . "./$hs_next" 2>/dev/null)
    if [ $# -ne 10 ] || [ "${hs_entered:-$1}" != "$1" ]; then
      hs_why=${hs_why:-cannot reach $hs_at/$hs_next}
      return 1
    fi
    hs_is_ours_to_change "$2" "$3" "$4" "$7" || hs_open=${hs_open:-${hs_at:-/}}
    case ${10} in
      a???)
        hs_hops=$((hs_hops + 1))
        hs_is_safe=no
        if hs_is_ours_to_change "$2" "$3" "$4" nobody; then hs_is_safe=yes; fi
        if [ "$hs_trusts" = 1 ] && [ "$hs_uid" != 0 ]; then hs_is_safe=yes; fi
        case $hs_follows-$hs_is_safe-$7-$hs_hops in
          *-41) hs_why="$hs_at/$hs_next leads nowhere" ;;
          yes-yes-0-* | yes-yes-"$hs_uid"-*) ;;
          *) hs_why="$hs_at/$hs_next is a link that somebody else may have made" ;;
        esac
        [ -z "$hs_why" ] || return 1
        hs_to=$(readlink -- "./$hs_next")
        hs_rest=$hs_to/$hs_rest hs_entered=''
        case $hs_to in /*) cd / && hs_at='' ;; esac
        ;;
      *)
        cd -P -- "./$hs_next" 2>/dev/null || {
          hs_why="$hs_at/$hs_next is no folder that can be entered"
          return 1
        }
        hs_at=$hs_at/$hs_next hs_entered=$6
        ;;
    esac
  done
  hs_is_entered
}

# Whether the working folder is the one that was to be entered, and no other one that came into its place.
hs_is_entered() {
  [ -z "$hs_entered" ] || [ "$(stat -c %d:%i .)" = "$hs_entered" ] || {
    hs_why="$hs_at was exchanged meanwhile"
    return 1
  }
}

# Removes a file or folder of ours. Only folders are made writable: a file may have another name outside.
# A link goes, and what it leads to stays. A folder of somebody else is none of ours: its owner could exchange
# what is in it meanwhile.
hs_remove_tree() {
  if [ -d "$1" ] && [ ! -L "$1" ]; then
    [ -z "$(find "$1" -type d ! -user "$hs_uid" 2>/dev/null | head -n 1)" ] || return
    find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
    # The owner of a run goes last: until then the next run can tell that this one is dead.
    for hs_inner in "$1"/*; do
      if [ "$hs_inner" != "$1/owner" ]; then rm -rf -- "$hs_inner"; fi
    done
  fi
  rm -rf -- "$1"
}

# Fails because a folder of ours is not ours alone. Others could lead what is removed elsewhere, so nothing
# is.
hs_fail_not_ours() {
  hs_clean_up() { :; }
  hs_fail "$@"
}

# Goes through a folder of ours and those above it, from the one named .hostsync or the configured one on, and
# makes what is missing; with a second argument, nothing, and returns 1 where something is.
# They must be ours alone: what is staged in them becomes what hosts run.
hs_make_ours() {
  hs_only_checks=${2:-}
  hs_lineage=${1%/*}
  hs_topmost=${hs_lineage%/*}
  hs_split_off "$hs_topmost"
  hs_makes=makes
  [ -z "$hs_only_checks" ] || hs_makes=
  if ! hs_walk "$hs_holder" '' "$hs_makes"; then
    cd "$hs_login" || hs_fail 'the login folder does not exist'
    case $hs_only_checks-$hs_why in
      ?*-'cannot reach '*) return 1 ;;
    esac
    hs_fail_not_ours "cannot make the folder $hs_topmost: $hs_why"
  fi
  for hs_ours in "$hs_topmost" "$hs_lineage" "$1"; do
    hs_last=./${hs_ours##*/}
    hs_level=below
    [ "$hs_ours" != "$hs_topmost" ] || hs_level=top
    if [ ! -e "$hs_last" ] && [ ! -L "$hs_last" ]; then
      if [ -n "$hs_only_checks" ]; then
        cd "$hs_login" || hs_fail 'the login folder does not exist'
        return 1
      fi
      hs_said=$(mkdir -- "$hs_last" 2>&1) || [ -d "$hs_last" ] || hs_fail "cannot make the folder $hs_ours (${hs_said##*: })"
    fi
    if [ -L "$hs_last" ] || [ ! -d "$hs_last" ]; then hs_fail_not_ours "$hs_ours is not a folder; move it away"; fi
    # The topmost one may be a place for all logins, as long as nobody can rename what is in it.
    case $hs_level-$(stat -c '%u-%a' -- "$hs_last") in
      top-0-1??? | top-"$hs_uid"-1???) ;;
      *-*-*[2367] | *-*-*[2367]?) hs_fail_not_ours "$hs_ours can be written by others; take that permission away" ;;
      *-"$hs_uid"-* | top-0-*) ;;
      *) hs_fail_not_ours "$hs_ours belongs to another login; set staging_path to another place" ;;
    esac
    # What is above the topmost one decides what its name leads to.
    if [ "$hs_level" = top ] && hs_can_be_exchanged "$hs_last"; then
      hs_fail_not_ours "others can put another folder in the place of $hs_ours, since they can write to \
${hs_open:-$hs_at}; take that permission away or set staging_path to another place"
    fi
    hs_walk_on "$hs_last" || hs_fail_not_ours "$hs_ours was exchanged meanwhile"
  done
  cd "$hs_login" || hs_fail 'the login folder does not exist'
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

# Says why a file cannot be written, which not every shell tells.
hs_why_not() { { echo x | cat >"$1"; } 2>&1 | sed 's/.*: //'; }

# Whether the process that signed is gone. When in doubt, it is not. Sets hs_pid: `unknown` where the file
# does not say which process it is.
hs_is_gone() {
  hs_pid='' hs_start='' hs_where=''
  # Somebody may have put a pipe there, which would be waited for.
  if [ -f "$1" ] && [ ! -L "$1" ]; then read -r hs_pid hs_start hs_where 2>/dev/null <"$1"; fi
  case $hs_where:$hs_pid$hs_start in
    :* | *:*[!0-9]* | *' '*)
      hs_pid=unknown
      return 1
      ;;
  esac
  [ "$hs_where" = "$hs_boot" ] || return 0
  if [ -r /proc/self/stat ] && [ "$hs_start" != 0 ]; then
    [ "$(hs_started "$hs_pid")" != "$hs_start" ]
  else
    # A process of another login may not be signalled, and lives.
    case $(kill -0 "$hs_pid" 2>&1) in
      *'No such process'*) return 0 ;;
      *) return 1 ;;
    esac
  fi
}

# Whether a path is the folder of a run that is dead. A run lasts as long as its connection, which is the
# parent of its scripts. One that does not say whose it is, is given an hour.
hs_is_dead() {
  if [ -L "$1" ] || [ ! -d "$1" ] || [ "${1##*/}" = "${hs_run:-}" ]; then return 1; fi
  if hs_is_gone "$1/owner"; then return 0; fi
  [ "$hs_pid" = unknown ] && [ -n "$(find "$1" -prune -mmin +60 2>/dev/null)" ]
}

# Removes what dead runs have left in a folder of ours. A file that such a run put in place in its last
# moment may have a second name there. This name stays unless all is to go: to take one of a file's names
# away changes its times, and a commit may be about to compare them.
hs_remove_dead_runs() {
  hs_links='-links 1'
  if [ "${2:-}" = all ]; then hs_links=; fi
  for hs_dead in "$1"/run-*; do
    hs_is_dead "$hs_dead" || continue
    (
      cd -- "$hs_dead" || exit
      find . -type d ! -perm -700 -exec chmod u+rwx {} +
      # shellcheck disable=SC2086 # Two words or none.
      find . ! -type d ! -path ./owner $hs_links -exec rm -f -- {} +
      find . -depth -type d ! -path . -exec rmdir -- {} +
    ) 2>/dev/null
    case $(ls -A -- "$hs_dead") in
      owner | '') hs_remove_tree "$hs_dead" ;;
    esac
  done
}

# Removes from the folder of a run that ends early what the next run cannot use. Partials of large files
# stay, for the next attempt to go on with.
hs_leave() {
  if [ -L "$1" ] || [ ! -d "$1" ]; then return; fi
  rmdir -- "$1/large" 2>/dev/null
  if [ ! -e "$1/large" ]; then
    hs_remove_tree "$1"
    return
  fi
  for hs_part in "$1"/*; do
    case ${hs_part##*/} in
      owner | large) ;;
      *) hs_remove_tree "$hs_part" ;;
    esac
  done
}

# The lock that commits are made under. There is one for each login and boot, since several hosts of a
# configuration, and several configurations, may lead to the same place.
hs_lock_of() { printf '%s/lock-%s\n' "${1%/*/*}" "$hs_boot"; }

# Sets hs_owner: the file in a lock that says who has it, or nothing where nobody has it. The file is named
# after the process. So whoever removes the file of a dead process never takes the lock from another one
# that has it by then.
hs_find_owner() {
  for hs_owner in "$1"/owner*; do
    if [ -e "$hs_owner" ]; then return; fi
  done
  hs_owner=
}

# Whether others can put something else in the place of an entry of the working folder, to which hs_walk went.
# A shell cannot open a file without following a link that appears there.
hs_can_be_exchanged() {
  # shellcheck disable=SC2046 # Three words, and one.
  set -- $(stat -c "%u %g %a" .) $(stat -c %u -- "$1" 2>/dev/null)
  [ -n "$hs_open" ] || ! hs_is_ours_to_change "$1" "$2" "$3" "${4:-$hs_uid}"
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
