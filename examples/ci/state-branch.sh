#!/usr/bin/env bash
# Keeps the state of hostsync on a branch of its own, for jobs that begin with nothing but a checkout.
#
#   state-branch.sh fetch
#       Brings the state folder to the tip of the branch. Needs no right to write.
#   state-branch.sh claim SECONDS WHO
#       Says on the branch that WHO is applying for at most SECONDS, and fetches the state. A claim that
#       is past its time is taken over.
#   state-branch.sh publish MESSAGE
#       Puts the state folder on the branch, which ends the claim. Once more is no error.
#
# Ends with 0 when that is done, with 5 when somebody else has a claim or took ours over, with 1 when
# it failed, with 64 on wrong usage.
#
# Environment: STATE_DIR (state), the folder; STATE_BRANCH (hostsync-state); STATE_REMOTE (origin),
# a remote or a URL; STATE_WAIT (0), seconds that a claim of somebody else is waited for; STATE_GRACE
# (60), seconds by which the clocks of two machines may differ.
#
# The branch holds what the folder holds, without cache/ and lock. A claim is a commit like any other
# whose message says by whom and until when; the branch is claimed while its tip is one. Every push is
# a child of the tip that was fetched and never forced, so the server refuses it where somebody was
# faster: that is the whole lock. Nothing is checked out, and no other branch or file is touched.
set -euo pipefail
unset CDPATH

die() {
  local code=$1
  shift
  printf 'state-branch.sh: %s\n' "$*" >&2
  exit "$code"
}

say() { printf 'state-branch.sh: %s\n' "$*" >&2; }

usage() { die 64 "usage: state-branch.sh fetch | claim SECONDS WHO | publish MESSAGE"; }

is_number() { [[ $1 =~ ^[0-9]{1,12}$ ]]; }

# Where this clone keeps what it knows of the branch: its tip as last seen, and our claim.
tip_ref=refs/hostsync/tip
claim_ref=refs/hostsync/claim

# The commit that a ref names; nothing where there is none.
commit_of() { git rev-parse --quiet --verify "$1^{commit}" || true; }

# A trailer of the message of a commit.
trailer() { git show --no-patch --format="%(trailers:key=$2,valueonly,separator=%x20)" "$1"; }

# Asks the server for the tip of the branch. A branch that is not there is no error; a server that does
# not answer is.
look() {
  local found
  found=$(git ls-remote "$remote" "refs/heads/$branch") || die 1 "cannot read from $shown"
  if [[ -z $found ]]; then
    git update-ref -d "$tip_ref"
    return
  fi
  # One commit is enough: what the branch was before is of no interest here.
  git fetch --quiet --no-tags --depth=1 "$remote" "+refs/heads/$branch:$tip_ref" ||
    die 1 "cannot fetch $branch from $shown"
}

# The state folder as a git tree, whose name is printed.
folder_tree() {
  local -x GIT_INDEX_FILE GIT_DIR
  GIT_INDEX_FILE=$(mktemp -u "$scratch/index.XXXXXX")
  GIT_DIR=$(git rev-parse --absolute-git-dir)
  if [[ -d $dir ]]; then
    # Whatever the checkout ignores, the state is meant here.
    git -C "$dir" --work-tree=. -c core.autocrlf=false -c core.fileMode=false \
      add --all --force -- . ':(exclude)cache' ':(exclude)lock'
  fi
  git write-tree
}

# Makes the state folder what the tip of the branch holds.
bring() {
  local tip ours known
  tip=$(commit_of "$tip_ref")
  if [[ -z $tip ]]; then
    say "there is no branch $branch on $shown yet: this is the first time"
    return
  fi
  ours=$(folder_tree)
  known=$(commit_of refs/hostsync/brought)
  if [[ $ours != "$empty_tree" && $ours != "$(git rev-parse "$tip^{tree}")" &&
    (-z $known || $ours != "$(git rev-parse "$known^{tree}")") ]]; then
    die 1 "$dir holds a state that is not from $branch; move it away, then try again"
  fi
  if git ls-tree -r "$tip" | grep -qv '^100'; then
    die 1 "$branch holds something else than files, which no state has; look at who wrote to it"
  fi
  (umask 077 && mkdir -p -- "$dir")
  find "$dir" -mindepth 1 -maxdepth 1 ! -name cache ! -name lock -exec rm -rf -- {} +
  local -x GIT_INDEX_FILE
  GIT_INDEX_FILE=$(mktemp -u "$scratch/index.XXXXXX")
  git read-tree "$tip"
  # Readable for us alone, as hostsync makes it.
  (umask 077 && git -c core.autocrlf=false checkout-index --all --force --prefix="$dir/")
  git update-ref refs/hostsync/brought "$tip"
}

# Puts a commit on the branch, or says that somebody was faster (5). A push whose answer was lost may
# have got through, so what counts is where the branch is afterwards.
push() {
  local commit=$1 attempt tip
  for attempt in 1 2 3; do
    if git -c advice.pushUpdateRejected=false push --quiet --no-verify "$remote" "$commit:refs/heads/$branch"; then
      git update-ref "$tip_ref" "$commit"
      return 0
    fi
    tip=$(git ls-remote "$remote" "refs/heads/$branch" | cut -f 1) || tip=unknown
    [[ $tip != "$commit" ]] || return 0
    # It moved, so trying again is of no use.
    [[ $tip == unknown || $tip == "$(commit_of "$tip_ref")" ]] || return 5
    [[ $attempt == 3 ]] || sleep "$attempt"
  done
  return 1
}

# A commit with this tree and message on top of the tip, whose name is printed.
commit() {
  local tip
  tip=$(commit_of "$tip_ref")
  git -c user.name="${GIT_AUTHOR_NAME:-hostsync}" -c user.email="${GIT_AUTHOR_EMAIL:-hostsync@localhost}" \
    -c commit.gpgSign=false commit-tree ${tip:+-p "$tip"} -m "$2" "$1"
}

claim() {
  local seconds=$1 who=$2 wait_until=$((SECONDS + wait)) tip tree holder deadline now message code
  while true; do
    look
    tip=$(commit_of "$tip_ref")
    tree=$empty_tree
    if [[ -n $tip ]]; then
      tree=$(git rev-parse "$tip^{tree}")
      holder=$(trailer "$tip" Claimed-By)
      deadline=$(trailer "$tip" Claimed-Until)
      if is_number "$deadline"; then
        now=$(date +%s)
        if ((now <= deadline + grace)); then
          ((SECONDS < wait_until)) ||
            die 5 "the state is claimed by $holder, for $((deadline + grace - now)) seconds more at most"
          sleep 5
          continue
        fi
        say "the claim of $holder ended $((now - deadline)) seconds ago without a result: taken over"
      fi
    fi
    # What is on the branch is looked at before it is claimed, so that a folder which is not from
    # there is no reason to lock others out.
    bring
    message=$(printf '%s\n' "claim: $who [skip ci]" '' "Claimed-By: $who" \
      "Claimed-Until: $(($(date +%s) + seconds))" "Claim-Id: $(new_id)")
    tip=$(commit "$tree" "$message")
    code=0
    push "$tip" || code=$?
    case $code in
      0)
        git update-ref "$claim_ref" "$tip"
        say "claimed for $who"
        return
        ;;
      # Somebody was faster: look whether with a claim.
      5) ;;
      *) die 1 "cannot push to $branch on $shown" ;;
    esac
  done
}

# Tells two claims of the same second apart.
new_id() { od -An -N8 -tx1 /dev/urandom | tr -d ' \n'; }

publish() {
  local claimed tree code result
  claimed=$(commit_of "$claim_ref")
  if [[ -z $claimed ]]; then
    say 'nothing is claimed here, so there is nothing to publish'
    return
  fi
  # A run that is still at it, as in a job that was cancelled, is waited for.
  if [[ -f $dir/lock ]] && command -v flock >/dev/null; then
    exec 9>>"$dir/lock"
    flock --timeout 60 9 || say "a run is still writing to $dir; publishing what there is"
  fi
  tree=$(folder_tree)
  git update-ref "$tip_ref" "$claimed"
  result=$(commit "$tree" "$1 [skip ci]")
  code=0
  push "$result" || code=$?
  case $code in
    0) ;;
    5) die 5 "somebody took the claim over; $dir is not on $branch, keep it" ;;
    *) die 1 "cannot push to $branch on $shown; $dir is not there, keep it" ;;
  esac
  git update-ref refs/hostsync/brought "$result"
  git update-ref -d "$claim_ref"
  say "published as $result"
}

dir=${STATE_DIR:-state}
branch=${STATE_BRANCH:-hostsync-state}
remote=${STATE_REMOTE:-origin}
# For messages: a URL may have a token in it.
shown=${remote##*@}
grace=${STATE_GRACE:-60}
wait=${STATE_WAIT:-0}
is_number "$grace" || die 64 "STATE_GRACE is no number: $grace"
is_number "$wait" || die 64 "STATE_WAIT is no number: $wait"
top=$(git rev-parse --show-toplevel) || die 1 'this is not a git checkout'
case $dir in
  /*) ;;
  *) dir=$PWD/$dir ;;
esac
cd -- "$top"
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
empty_tree=$(git hash-object -t tree -w --stdin </dev/null)

case ${1-} in
  fetch)
    [[ $# -eq 1 ]] || usage
    look
    bring
    ;;
  claim)
    [[ $# -eq 3 ]] || usage
    is_number "$2" || usage
    [[ -n $3 && $3 != *$'\n'* ]] || usage
    claim "$2" "$3"
    ;;
  publish)
    [[ $# -eq 2 && -n $2 ]] || usage
    publish "$2"
    ;;
  *) usage ;;
esac
