#!/usr/bin/env bash
# Stands in for the command line tool of GitHub: those of its options that the example uses, spoken to
# the server that FORGE names. Whatever else it is asked for is an error.
set -euo pipefail

fail() {
  printf 'gh: %s\n' "$*" >&2
  exit 1
}

request() {
  curl --fail-with-body --silent --show-error --header "Authorization: Bearer $GH_TOKEN" "$@"
}

[[ -n ${GH_TOKEN:-} ]] || fail 'set the GH_TOKEN environment variable'

api() {
  local method=GET paginate=false silent=false filter=. path='' field=''
  while (($#)); do
    case $1 in
      --paginate) paginate=true ;;
      --silent) silent=true ;;
      --method) method=$2 && shift ;;
      --jq) filter=$2 && shift ;;
      --field) field=$2 && shift ;;
      -*) fail "unknown flag: $1" ;;
      *)
        [[ -z $path ]] || fail "accepts 1 arg: $1"
        path=$1
        ;;
    esac
    shift
  done
  local answer page=1
  if [[ -n $field ]]; then
    [[ $field == body=@* && $silent == true ]] || fail "field $field"
    jq --raw-input --slurp '{body: .}' "${field#body=@}" |
      request --request "$method" --data-binary @- --output /dev/null "$FORGE/$path"
    return
  fi
  while true; do
    answer=$(request --request "$method" "$FORGE/$path&page=$page")
    [[ $(jq '(.artifacts? // .) | length' <<<"$answer") != 0 ]] || break
    jq --raw-output "$filter" <<<"$answer"
    [[ $paginate == true ]] || break
    page=$((page + 1))
  done
}

run_download() {
  [[ $# -eq 7 && $2 == --repo && $4 == --name && $6 == --dir ]] || fail "run download $*"
  request --output "$7/plan.json" "$FORGE/repos/$3/download/$1/$5"
}

case "$1 ${2-}" in
  'api '*) shift && api "$@" ;;
  'run download') shift 2 && run_download "$@" ;;
  *) fail "unknown command $*" ;;
esac
