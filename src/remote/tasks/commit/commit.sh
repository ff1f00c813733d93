# shellcheck shell=sh disable=SC2154
# Verifies what was uploaded and moves it into place.
#
# The controller sets before common.sh:
#   hs_home       folder of ours on the host, where the listing is kept
#   hs_bases      how many staging folders there are; hs_base_0, which is hs_home, hs_base_1 ...
#   hs_run        name of this run's folder in each of them
#   hs_mappings   how many there are; hs_root_0 ... their destinations; hs_at_0 ... numbers of
#                 the staging folders that serve them
#   hs_serial     names the folder of the backups that this apply makes
#   hs_backups    how many such folders are kept
#   hs_keep       what the paths are: all of the new listing, a part (the rest is as in the kept one),
#                 or nothing (no listing is kept)
#   hs_listing    digest that the kept listing must have (part)
#   hs_wait       seconds to wait for another run on this host
#   hs_block      size of a block of a large file in bytes
#   hs_intent, hs_staged, hs_sums, hs_paths, hs_large   lengths in bytes of the five parts of standard
#                 input
# Standard input, one after the other:
#   intent   what to do, three lines for each step: the step with its number, mapping and arguments;
#            the path below the mapping; what must be there before (or, for "link", the target)
#   staged   the paths of all staged files below the staging folder, one a line, by staging folder
#   sums     their digests, in the same order
#   paths    what is to be looked at for the new listing, one path a line
#   large    the staged files that came in blocks, two lines for each: number of the staging folder, id,
#            size, permission bits, mtime, and whether to move or to copy its partial; its path

umask 077
hs_beat "$((hs_patience + hs_wait))"

# Does something for every staging folder, which is hs_base meanwhile.
hs_each_base() {
  hs_i=0
  while [ "$hs_i" -lt "$hs_bases" ]; do
    eval "hs_base=\$hs_base_$hs_i"
    "$@"
    hs_i=$((hs_i + 1))
  done
}

hs_check_base() {
  hs_make_ours "$hs_base"
  # The steps go from folder to folder.
  case $hs_base in
    /*) ;;
    *) eval "hs_base_$hs_i=\$hs_login/\${hs_base#./}" ;;
  esac
}
hs_each_base hs_check_base
hs_home=$hs_base_0
hs_has_lock=
hs_leave_run() { hs_leave "$hs_base/$hs_run"; }
hs_clean_up() {
  hs_each_base hs_leave_run
  if [ -n "$hs_has_lock" ]; then hs_unlock; fi
  hs_has_lock=
}
hs_find_hash
[ -n "$hs_hash" ] || hs_fail 'this host has no tool for sha256 or blake3 any more'

# Reads exactly so many bytes of standard input into a file.
hs_take() {
  true >"$2" || hs_fail "cannot write in ${2%/*} ($(hs_why_not "$2"))"
  hs_have=0
  while [ "$hs_have" -lt "$1" ]; do
    hs_left=$(($1 - hs_have))
    [ "$hs_left" -le 1048576 ] || hs_left=1048576
    dd bs="$hs_left" count=1 >>"$2" 2>/dev/null || hs_fail "cannot write in ${2%/*}: is the disk full?"
    hs_now=$(($(wc -c <"$2")))
    [ "$hs_now" -gt "$hs_have" ] || hs_fail 'the connection ended early'
    hs_have=$hs_now
  done
}

# Makes room before it needs any.
hs_make_room() { hs_remove_dead_runs "$hs_base"; }
hs_each_base hs_make_room
hs_work=$hs_home/$hs_run
if [ ! -d "$hs_work" ]; then
  mkdir -- "$hs_work" || hs_fail "cannot make a folder in $hs_home"
  hs_sign "$PPID" "$hs_work/owner" || hs_fail "cannot write in $hs_home"
fi
hs_take "$hs_intent" "$hs_work/intent"
hs_take "$hs_staged" "$hs_work/staged"
hs_take "$hs_sums" "$hs_work/sums"
hs_take "$hs_paths" "$hs_work/paths"
hs_take "$hs_large" "$hs_work/partials"

# --- one run at a time -------------------------------------------------------------------------------

hs_lock=$(hs_lock_of "$hs_home")
hs_mine=owner-$$-$(hs_started "$$")
hs_unlock() {
  rm -f -- "$hs_lock/$hs_mine"
  rmdir -- "$hs_lock" 2>/dev/null
}
hs_waited=0
hs_odd=0
# Signed before it is in place: a lock without an owner would never be given up. A folder is moved
# onto another one only while that is empty.
mkdir -- "$hs_work/lock" || hs_fail "cannot make a folder in $hs_work"
hs_sign "$$" "$hs_work/lock/$hs_mine" || hs_fail "cannot write in $hs_work"
until mv -T -- "$hs_work/lock" "$hs_lock" 2>"$hs_work/error"; do
  case $(cat "$hs_work/error") in
    # One of another login may not be replaced at all.
    *'not empty'* | *'File exists'* | *'not permitted'*) ;;
    *)
      # One that goes while mv looks at it makes mv say anything.
      hs_odd=$((hs_odd + 1))
      [ "$hs_odd" -lt 20 ] || hs_fail "cannot make the lock $hs_lock ($(cat "$hs_work/error"))"
      continue
      ;;
  esac
  hs_pid=unknown
  hs_find_owner "$hs_lock"
  if [ -n "$hs_owner" ] && hs_is_gone "$hs_owner"; then
    # Of those that see this at once, the first that moves its own lock there has it.
    rm -f -- "$hs_owner" 2>/dev/null && continue
  fi
  if [ "$hs_waited" -ge "$hs_wait" ]; then
    hs_clean_up
    hs_mark locked
    printf '%s\n' "$hs_pid"
    hs_mark end locked
    exit 1
  fi
  hs_waited=$((hs_waited + 1))
  sleep 1
done
hs_has_lock=yes

# --- large files -------------------------------------------------------------------------------------

# They become staged files like all others. The verification finds what is missing or wrong.
while read -r hs_i hs_id hs_size hs_mode hs_mtime hs_how; do
  IFS= read -r hs_path
  eval "hs_base=\$hs_base_$hs_i"
  hs_partial=$hs_base/$hs_run/large/$hs_id
  hs_new=$hs_base/$hs_run/up/$hs_path
  [ -e "$hs_partial" ] || continue
  hs_merge_extents "$hs_base/$hs_run/large" "$hs_id"
  hs_cut "$hs_partial" "$hs_size"
  if [ "$hs_how" = move ]; then
    mv -T -- "$hs_partial" "$hs_new"
  else
    cp --reflink=auto -- "$hs_partial" "$hs_new" 2>/dev/null || cp -- "$hs_partial" "$hs_new"
  fi
  touch -d "@$hs_mtime" "$hs_new"
  chmod "$hs_mode" "$hs_new"
done <"$hs_work/partials" 2>"$hs_work/error"

# --- verify ------------------------------------------------------------------------------------------

if [ -s "$hs_work/staged" ]; then
  # The staging folder of each file is the first word of its line, the rest is its path.
  sed 's/^\([0-9]*\) .*/\1/' <"$hs_work/staged" | sort -u >"$hs_work/used"
  : >"$hs_work/got"
  while read -r hs_i; do
    eval "hs_base=\$hs_base_$hs_i"
    sed -n "s/^$hs_i //p" <"$hs_work/staged" >"$hs_work/names"
    (
      cd -- "$hs_base/$hs_run/up" || exit 1
      find . -type f -print | wc -l >&4
      # shellcheck disable=SC2086 # The words of the tool are to be split.
      hs_each_line $hs_hash 2>/dev/null | sed -e 's/^\\//' -e 's/[ *].*$//'
    ) <"$hs_work/names" 4>"$hs_work/count" >>"$hs_work/got"
    if [ "$(($(cat "$hs_work/count")))" -ne "$(($(wc -l <"$hs_work/names")))" ]; then
      echo count >>"$hs_work/got"
    fi
  done <"$hs_work/used"
  if ! cmp -s "$hs_work/sums" "$hs_work/got"; then
    hs_n=0
    hs_wrong=$(
      while read -r hs_want <&5; do
        read -r hs_is <&6 || hs_is=
        IFS= read -r hs_name <&7 || hs_name=
        if [ "$hs_want" != "$hs_is" ] && [ "$hs_n" -lt 5 ]; then
          printf '%s\n' "${hs_name#* }"
          hs_n=$((hs_n + 1))
        fi
      done 5<"$hs_work/sums" 6<"$hs_work/got" 7<"$hs_work/staged"
    )
    hs_clean_up
    hs_mark unverified
    printf '%s\n' "$hs_wrong"
    hs_mark end unverified
    exit 1
  fi
fi

# Makes durable what was written to a file system.
hs_sync() {
  if [ -d "$hs_base" ]; then sync -f "$hs_base" 2>/dev/null || sync; fi
}

# Everything that the steps need is on the disk before the first of them.
hs_each_base hs_sync

# --- commit ------------------------------------------------------------------------------------------

# A connection that breaks from here on does not stop it.
trap '' HUP PIPE

# A serial comes twice when an older state was brought back. Its backups are kept apart.
hs_find_taken() {
  if [ -e "$hs_base/backup/$hs_kept" ]; then hs_is_taken=yes; fi
}
hs_kept=$hs_serial
hs_n=1
while
  hs_is_taken=
  hs_each_base hs_find_taken
  [ -n "$hs_is_taken" ]
do
  hs_n=$((hs_n + 1))
  hs_kept=$hs_serial-$hs_n
done

hs_mark steps "$hs_kept"
hs_error=$hs_work/error

hs_current=

# Sets for a path of a mapping: hs_root, hs_new (where it is staged) and hs_old (where its backup goes).
hs_locate() {
  if [ "$1" != "$hs_current" ]; then
    hs_current=$1
    eval "hs_root=\$hs_root_$1"
    eval "hs_base=\$hs_base_$(eval "printf %s \"\$hs_at_$1\"")"
    hs_made=
  fi
  hs_new=$hs_base/$hs_run/up/$1
  hs_old=$hs_base/backup/$hs_kept/$1
  if [ -n "$2" ]; then
    hs_new=$hs_new/$2
    hs_old=$hs_old/$2
  fi
}

# Says that a step was taken, and when that changed the entry, so that any later change can be told.
hs_done() {
  hs_steps_done="$hs_steps_done $hs_step "
  printf 'done %s %s\n' "$hs_step" "$(stat -c %z -- "$hs_dest" 2>/dev/null)"
}

# Goes to the folder that holds the entry of a step. Sets hs_dest: its name there. Returns 1 where it cannot be
# reached; hs_why says why where something above the root of the mapping is in the way.
hs_in='' hs_holders=''
hs_go_to_entry() {
  case $hs_path in
    */*) hs_folder=/${hs_path%/*} ;;
    '') hs_folder='' ;;
    *) hs_folder=/ ;;
  esac
  hs_split_off "$hs_root"
  hs_dest=$hs_last
  [ -z "$hs_path" ] || hs_dest=./${hs_path##*/}
  [ "$hs_in" != "$hs_mapping$hs_folder" ] || return 0
  hs_in=
  eval "hs_walk \"\$hs_holder\" \"\$hs_trust_$hs_mapping\"" || return 1
  # It stays the same folder from the first step to the last.
  hs_is=$(stat -c %d:%i .)
  case $hs_holders in
    *" $hs_mapping=$hs_is "*) ;;
    *" $hs_mapping="*) return 1 ;;
    *) hs_holders="$hs_holders $hs_mapping=$hs_is " ;;
  esac
  if [ -n "$hs_folder" ]; then
    hs_walk_on "$hs_last$hs_folder" || { hs_why=; return 1; }
  fi
  # A shell cannot work on an entry without following what appears in its place meanwhile.
  if [ "$hs_uid" = 0 ] && hs_can_be_exchanged "$hs_dest"; then
    hs_why="others can change ${hs_open:-its folder}, and this host has no perl to work there safely"
    return 1
  fi
  hs_in=$hs_mapping$hs_folder
}

# Sets permission bits, and never through a link that appears meanwhile: of a folder from inside it, of a file
# that others can exchange by another name for it that is ours.
hs_set_mode() {
  if [ -d "$hs_dest" ] && [ ! -L "$hs_dest" ]; then
    (hs_walk_on "$hs_dest" && chmod "$1" .) 2>"$hs_error"
    return
  fi
  if ! hs_can_be_exchanged "$hs_dest"; then
    chmod "$1" "$hs_dest" 2>"$hs_error"
    return
  fi
  hs_pin=$hs_base/$hs_run/pin
  ln -T -- "$hs_dest" "$hs_pin" 2>"$hs_error" || return 1
  [ ! -L "$hs_pin" ] && chmod "$1" "$hs_pin" 2>"$hs_error"
  hs_is=$?
  rm -f -- "$hs_pin"
  return "$hs_is"
}

# The first line of what a command complained about, or a text.
hs_refuse() {
  hs_why=
  if [ -s "$hs_error" ]; then IFS= read -r hs_why <"$hs_error" || :; fi
  printf 'refused %s %s%s\n' "$hs_step" "$1" "${hs_why:+: ${hs_why##*: }}"
  : >"$hs_error"
}

# Whether the host still has what it had when it was looked at.
hs_as_expected() {
  if [ "$hs_expected" = - ]; then
    if [ ! -e "$hs_dest" ] && [ ! -L "$hs_dest" ]; then return 0; fi
  elif [ "$(stat -c "$hs_format_before" -- "$hs_dest" 2>/dev/null)" = "$hs_expected" ]; then
    return 0
  fi
  printf 'moved %s\n' "$hs_step"
  return 1
}

hs_make_room_for_backup() {
  hs_folder=${hs_old%/*}
  [ "$hs_folder" != "$hs_made" ] || return 0
  mkdir -p -- "$hs_folder" 2>"$hs_error" && hs_made=$hs_folder
}

# Moves what is in place to the backups. It is gone from its place then.
hs_move_to_backup() {
  hs_make_room_for_backup || return 1
  if [ "$(stat -c %d -- "$hs_dest")" != "$(stat -c %d -- "${hs_old%/*}")" ]; then
    echo 'it lies on another file system' >"$hs_error"
    return 1
  fi
  mv -fT -- "$hs_dest" "$hs_old" 2>"$hs_error" || return 1
  # What came into its place meanwhile goes back: a folder of somebody else must not be among ours.
  if [ -d "$hs_old" ] && [ ! -L "$hs_old" ]; then
    mv -nT -- "$hs_old" "$hs_dest" 2>/dev/null
    echo 'somebody has exchanged it' >"$hs_error"
    return 1
  fi
}

# Keeps what is in place in the backups, too.
hs_keep_in_backup() {
  hs_make_room_for_backup || return 1
  [ ! -L "$hs_dest" ] || { cp -pPR -- "$hs_dest" "$hs_old" 2>"$hs_error"; return; }
  ln -T -- "$hs_dest" "$hs_old" 2>/dev/null || cp -pPR -- "$hs_dest" "$hs_old" 2>"$hs_error"
}

# Whether what is staged can be renamed to its place: mv would copy it across file systems.
hs_is_near() {
  [ "$(stat -c %d -- "$hs_new" 2>/dev/null)" = "$(stat -c %d . 2>/dev/null)" ] ||
    { echo 'it lies on another file system' >"$hs_error"; false; }
}

# Puts what is staged where nothing is. A link is made only where there really is nothing.
hs_place() {
  hs_is_near || return 1
  if [ -L "$hs_new" ]; then
    mv -nT -- "$hs_new" "$hs_dest" 2>"$hs_error" && [ ! -L "$hs_new" ]
  elif [ -d "$hs_new" ]; then
    mv -T -- "$hs_new" "$hs_dest" 2>"$hs_error"
  elif ln -T -- "$hs_new" "$hs_dest" 2>"$hs_error"; then
    rm -f -- "$hs_new"
  else
    # File systems without hard links.
    mv -nT -- "$hs_new" "$hs_dest" 2>"$hs_error" && [ ! -e "$hs_new" ]
  fi
}

# The moment after which whatever changes is visible: what was staged is older.
hs_begin() {
  hs_begun=yes
  sleep 0.02 2>/dev/null || sleep 1
  : >"$hs_work/begun"
  printf 'begun - %s\n' "$(stat -c %z -- "$hs_work/begun")"
}

# Some processes for each step.
hs_take_steps() {
  hs_steps_done=
  hs_begun=
  while read -r hs_what hs_step hs_mapping hs_arg hs_arg2; do
    IFS= read -r hs_path
    IFS= read -r hs_expected
    hs_locate "$hs_mapping" "$hs_path"
    hs_format_before='%f %s %y %z %i %u %g %d'
    case $hs_what in
      link | touch | bits) ;;
      *) [ -n "$hs_begun" ] || hs_begin ;;
    esac
    case $hs_what in
      parents | link | touch | bits) ;;
      *)
        if ! hs_go_to_entry; then
          # What lies below the root of a mapping has moved; what lies above is told.
          case $hs_what-$hs_why in
            relock-*) ;;
            *-) printf 'moved %s\n' "$hs_step" ;;
            *) printf 'refused %s %s\n' "$hs_step" "$hs_why" ;;
          esac
          continue
        fi
        ;;
    esac
    case $hs_what in
      parents)
        # The folders above a destination that is not there yet; as any program would make them.
        hs_in=
        umask "$hs_login_umask"
        hs_split_off "$hs_root"
        eval "hs_walk \"\$hs_holder\" \"\$hs_trust_$hs_mapping\" makes" || hs_refuse "$hs_why"
        umask 077
        ;;
      link)
        # Symbolic links are not in the upload.
        ln -s -- "$hs_expected" "$hs_new" 2>"$hs_error" ||
          hs_fail "cannot make a symbolic link in $hs_base ($(cat "$hs_error"))"
        ;;
      touch)
        # A staged folder, after links were made in it.
        touch -d "@$hs_arg" "$hs_new" 2>/dev/null
        ;;
      bits)
        # A staged file that lost its setuid or setgid bit when it was written. A digit more than usual takes
        # such bits away from folders, too.
        chmod "0$hs_arg" "$hs_new" 2>/dev/null
        ;;
      new)
        hs_as_expected || continue
        if [ "$hs_arg" != = ]; then
          # The group that a folder gives to what is made in it.
          chgrp -R "$hs_arg" "$hs_new" 2>/dev/null
          [ -L "$hs_new" ] || chmod "$hs_arg2" "$hs_new" 2>/dev/null
        fi
        if hs_place; then hs_done; else hs_refuse 'cannot put it in place'; fi
        ;;
      replace)
        hs_as_expected || continue
        if [ "$hs_arg" != = ] && [ ! -L "$hs_new" ]; then
          # The owner and group of what is replaced, as far as the login user may set them.
          chown "$hs_arg" "$hs_new" 2>/dev/null || chgrp "${hs_arg#*:}" "$hs_new" 2>/dev/null
          chmod "$hs_arg2" "$hs_new" 2>/dev/null
        fi
        hs_keep_in_backup || { hs_refuse 'cannot keep a backup of it'; continue; }
        if hs_is_near && mv -fT -- "$hs_new" "$hs_dest" 2>"$hs_error"; then hs_done; else hs_refuse 'cannot put it in place'; fi
        ;;
      retype)
        hs_as_expected || continue
        hs_move_to_backup || { hs_refuse 'cannot keep a backup of it'; continue; }
        if hs_place; then
          hs_done
        else
          mv -nT -- "$hs_old" "$hs_dest" 2>/dev/null
          hs_refuse 'cannot put it in place'
        fi
        ;;
      clear)
        # A folder that makes room: only while it is empty.
        hs_format_before='%f %i'
        hs_as_expected || continue
        if rmdir -- "$hs_dest" 2>"$hs_error"; then
          if hs_place; then hs_done; else hs_refuse 'cannot put it in place'; fi
        elif [ -n "$(ls -A -- "$hs_dest" 2>/dev/null)" ]; then
          : >"$hs_error"
          hs_refuse 'the folder holds what hostsync has not written; move that away'
        else
          hs_refuse 'cannot remove the folder'
        fi
        ;;
      delete)
        hs_as_expected || continue
        if hs_move_to_backup; then hs_done; else hs_refuse 'cannot move it to the backups'; fi
        ;;
      rmdir)
        hs_format_before='%f %i'
        hs_as_expected || continue
        if rmdir -- "$hs_dest" 2>"$hs_error"; then
          hs_done
        elif [ "$hs_arg" = spare ] && [ -n "$(ls -A -- "$hs_dest" 2>/dev/null)" ]; then
          # Somebody else keeps something in it.
          printf 'spared %s\n' "$hs_step"
          : >"$hs_error"
        else
          hs_refuse 'cannot remove the folder'
        fi
        ;;
      chmod)
        [ "$hs_arg2" != folder ] || hs_format_before='%f %i'
        hs_as_expected || continue
        if hs_set_mode "0$hs_arg"; then hs_done; else hs_refuse 'cannot set the permission bits'; fi
        ;;
      unlock)
        # A folder of ours that may not be written, while its entries change.
        hs_format_before='%f %i'
        hs_as_expected || continue
        if hs_set_mode u+rwx; then hs_done; else hs_refuse 'cannot open the folder'; fi
        ;;
      relock)
        # Only what the step that is named second has put there, or has opened.
        case $hs_steps_done in
          *" $hs_arg2 "*) if [ -d "$hs_dest" ] && [ ! -L "$hs_dest" ]; then hs_set_mode "0$hs_arg"; fi ;;
        esac
        ;;
    esac
  done <"$hs_work/intent"
}

hs_take_steps
cd "$hs_login" || hs_fail 'the login folder does not exist'

# --- what is there now -------------------------------------------------------------------------------

hs_each_base hs_sync

# Whether times have fractions of a second on all file systems that lines of a listing are about. Where
# they are whole seconds, a change within the second that an entry was put in place would not show.
hs_has_fractions() {
  awk '{ seen[$12]; if ($6 !~ /[.]0+$/) fine[$12] }
    END { for (device in seen) if (!(device in fine)) exit 1 }' "$1"
}

# Lines of a listing without those of the paths in a file.
hs_without() {
  awk 'NR == FNR { drop[$0]; next }
    {
      path = $0
      for (i = 0; i < 12; i++) path = substr(path, index(path, " ") + 1)
      if (!(path in drop)) print
    }' "$1" "$2"
}

if [ "$hs_keep" = part ] && { [ ! -r "$hs_home/listing" ] || [ "$(hs_digest <"$hs_home/listing")" != "$hs_listing" ]; }; then
  # It is not the one that the plan was made with.
  hs_keep=nothing
fi
# That of an agent, which this host had before, is out of date.
rm -f -- "$hs_home/listing.agent"
if [ "$hs_keep" != nothing ]; then
  # Whatever changes after the listing was made must get a later ctime than what is in it.
  sleep 0.05 2>/dev/null || sleep 1
  hs_each_line stat -c "$hs_format" -- <"$hs_work/paths" >"$hs_work/fresh" 2>/dev/null
  hs_has_fractions "$hs_work/fresh" || hs_keep=nothing
fi
if [ "$hs_keep" = nothing ]; then
  # Every plan looks at everything then.
  rm -f -- "$hs_home/listing"
else
  if [ "$hs_keep" = part ]; then
    hs_without "$hs_work/paths" "$hs_home/listing" >"$hs_work/listing" || hs_fail 'cannot write the listing'
  fi
  cat "$hs_work/fresh" >>"$hs_work/listing" || hs_fail 'cannot write the listing'
  hs_mark listing "$hs_keep"
  cat "$hs_work/fresh"
  hs_mark digest
  hs_digest <"$hs_work/listing"
  mv -fT -- "$hs_work/listing" "$hs_home/listing"
fi

# --- clean up ----------------------------------------------------------------------------------------

# Under the lock: what another run does from then on has to stay.
hs_tidy() {
  hs_remove_tree "${hs_base:?}/${hs_run:?}"
  hs_remove_dead_runs "$hs_base" all
  [ -d "$hs_base/backup" ] || return
  # The one that was just made stays, then the newest: not by serial, since an older state may come back.
  hs_n=0
  if [ -d "$hs_base/backup/$hs_kept" ]; then hs_n=1; fi
  for hs_old in $(cd -- "$hs_base/backup" && ls -1t); do
    [ "$hs_old" != "$hs_kept" ] || [ "$hs_backups" -eq 0 ] || continue
    hs_n=$((hs_n + 1))
    if [ "$hs_n" -gt "$hs_backups" ]; then hs_remove_tree "$hs_base/backup/$hs_old"; fi
  done
}
hs_each_base hs_tidy
hs_clean_up
hs_mark end ok
