#!/usr/bin/env bash
# Measures hostsync against other tools, each doing the same work on the same hosts.
#
# The hosts are sshd processes of its own on 127.0.0.51 to 127.0.0.58; trees are made from a seed, and all of it
# lies in memory. Every result is compared with its source. Nothing is left behind.
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat <<'END'
usage: benches/compare.sh [OPTIONS] [SCENARIO]...

  many1     5,000 files (50 MB, 1,000 folders) to one host that has none of them
  many8     the same to eight hosts
  same8     eight hosts that have them already
  edit8     eight hosts that have them already, but 50 files have changed
  tiny50    10,000 files of 1 KiB to one host, round trip 50 ms
  same50    one host that has the 5,000 files already, round trip 50 ms
  big1      a file of 1 GiB to one host that does not have it
  bigedit   a file of 1 GiB of which 1 MiB has changed: bytes sent and received
  small8    100 files of 1 KiB to eight hosts (only with --with-ansible)

All but the last are run when none is named.

  --rounds N       measured rounds, after one that warms up [5]
  --quick          one round with small trees, to see whether it works
  --tree DIR       a copy of this folder instead of the 5,000 files
  --output FILE    also write the table to this file
  --with-old       also the way of the program that hostsync replaces: paramiko and scp from a new Python venv
  --venv DIR       with this Python venv instead of a new one; implies --with-old
  --with-ansible   also Ansible, from PATH or the venv
  --keep           keep the working folder, with the log of every run

HOSTSYNC names another hostsync than target/release/hostsync; BENCH_DIR another place for the working folder than
/dev/shm. It needs sshd, perl and some GB of memory. Peers that are not installed are left out.
END
}

fail() {
  printf 'compare.sh: %s\n' "$*" >&2
  exit 1
}

say() { printf '%s\n' "$*" >&2; }

# --- What was asked for ---------------------------------------------------------------------------

rounds=5
quick=false
user_tree=
output=
with_old=false
with_ansible=false
keep=false
venv=
ansible=
scenarios=()

parse() {
  while (($#)); do
    case $1 in
      --rounds | --tree | --output | --venv)
        [[ $# -ge 2 ]] || fail "$1 needs a value"
        ;;&
      --rounds) rounds=$2 && shift ;;
      --tree) user_tree=$(cd -- "$2" && pwd) && shift ;;
      --output) output=$2 && shift ;;
      --venv) venv=$(cd -- "$2" && pwd) && with_old=true && shift ;;
      --quick) quick=true rounds=1 ;;
      --with-old) with_old=true ;;
      --with-ansible) with_ansible=true ;;
      --keep) keep=true ;;
      -h | --help) usage && exit ;;
      many1 | many8 | same8 | edit8 | tiny50 | same50 | big1 | bigedit) scenarios+=("$1") ;;
      small8) with_ansible=true && scenarios+=("$1") ;;
      *) usage >&2 && fail "unknown: $1" ;;
    esac
    shift
  done
  [[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds takes a number above zero, not $rounds"
  if ((${#scenarios[@]} == 0)); then
    scenarios=(many1 many8 same8 edit8 tiny50 same50 big1 bigedit)
    if $with_ansible; then scenarios+=(small8); fi
  fi
}

# What every tool is held against: scenario, peer, and the highest ratio of hostsync's median to the peer's.
marks() {
  cat <<'END'
many1 rsync 0.9
many1 scp 0.2
many8 rsync 0.75
many8 clush 0.25
same8 rsync 0.4
same8 rsync_c 0.35
edit8 rsync 0.5
tiny50 rsync 0.9
tiny50 scp_o 0.02
same50 rsync 0.4
big1 rsync_w 0.8
big1 scp 1.0
END
}

# What hostsync may take of memory in big1, in KiB.
peak_mark_kib=65536

label() {
  case $1 in
    hostsync) echo 'hostsync apply' ;;
    hostsync_plan) echo 'hostsync plan' ;;
    rsync) echo 'rsync -a' ;;
    rsync_c) echo 'rsync -ac' ;;
    rsync_w) echo 'rsync -aW' ;;
    scp) echo 'scp -r' ;;
    scp_o) echo "scp -O -r (extrapolated)" ;;
    clush) echo 'clush --copy' ;;
    old) echo 'paramiko and scp' ;;
    ansible) echo 'ansible copy' ;;
  esac
}

# --- Cleaning up ----------------------------------------------------------------------------------

work=

clean_up() {
  local status=$? pid
  trap - EXIT INT TERM
  # The servers, the proxy, and runs that are under way.
  for pid in $(jobs -p); do
    kill "$pid" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  if [[ -n $work ]]; then
    if $keep; then
      say "kept: $work"
    else
      rm -rf -- "$work"
    fi
  fi
  exit "$status"
}

# --- Trees ----------------------------------------------------------------------------------------

# Writes a tree: KIND is `files` or `file`. The same arguments always give the same bytes and times.
make_tree() { # KIND DIR FOLDERS SUBFOLDERS FILES SIZE SPREAD
  perl - "$@" <<'END'
use strict; use warnings;
my ($kind, $dir, $folders, $subfolders, $files, $size, $spread) = @ARGV;
srand(20250101);
my $time = 1700000000;
sub noise { my $words = int(($_[0] + 3) / 4);
  return substr(pack('L*', map { int(rand(4294967296)) } 1 .. $words), 0, $_[0]) }
sub put { my ($path, $chunks) = @_;
  open(my $file, '>:raw', $path) or die "$path: $!\n";
  while (defined(my $chunk = $chunks->())) { print $file $chunk or die "$path: $!\n" }
  close($file) or die "$path: $!\n";
  utime($time, $time, $path) or die "$path: $!\n" }
mkdir($dir) or die "$dir: $!\n";
if ($kind eq 'file') {
  # Each MiB is the same noise under another key, so that no two are alike and it does not take minutes.
  my ($mib, $left) = (noise(1 << 20), $size);
  put("$dir/file", sub {
    return undef unless $left > 0;
    my $key = noise(1021) x 1028;
    $left -= 1 << 20;
    return $mib ^ substr($key, 0, 1 << 20) });
  exit }
my $count = 0;
for my $folder (1 .. $folders) {
  mkdir(my $path = sprintf('%s/d%03d', $dir, $folder)) or die;
  my @all = ($path, map { sprintf('%s/s%02d', $path, $_) } 1 .. $subfolders);
  for my $path (@all) {
    -d $path or mkdir($path) or die;
    for my $file (1 .. $files) {
      # Sizes come in pairs around the mean, so the sum is what it should be.
      my $off = int(rand($spread + 1));
      my $once = noise($size + ($count++ % 2 ? -$spread + $off : $spread - $off));
      put(sprintf('%s/f%03d', $path, $file), sub { my $all = $once; undef $once; $all }) } } }
END
}

# Replaces bytes in COUNT files of a tree, spread over it; their size stays. SEED makes them differ.
edit_tree() { # DIR COUNT BYTES SEED
  perl - "$@" <<'END'
use strict; use warnings; use File::Find;
my ($dir, $count, $bytes, $seed) = @ARGV;
srand($seed);
my @files;
find({ no_chdir => 1, wanted => sub { push @files, $_ if -f $_ && !-l $_ && -s _ } }, $dir);
@files = sort @files;
$count = @files if $count > @files;
for my $index (0 .. $count - 1) {
  my $path = $files[int($index * @files / $count)];
  my $size = -s $path;
  my $length = $bytes < $size ? $bytes : $size;
  open(my $file, '+<:raw', $path) or die "$path: $!\n";
  seek($file, int(($size - $length) / 2), 0) or die "$path: $!\n";
  print $file substr(pack('L*', map { int(rand(4294967296)) } 0 .. $length / 4), 0, $length) or die "$path: $!\n";
  close($file) or die "$path: $!\n";
  utime(1700000000 + $seed, 1700000000 + $seed, $path) or die "$path: $!\n" }
END
}

# Sets `tree` to a tree, which is made where it is not there yet.
need_tree() { # NAME
  tree=$work/trees/$1
  [[ ! -d $tree ]] || return 0
  say "making the tree '$1' ..."
  case $1 in
    many)
      if [[ -n $user_tree ]]; then
        cp -a -- "$user_tree" "$tree"
      elif $quick; then
        make_tree files "$tree" 4 24 5 10000 9000
      else
        make_tree files "$tree" 40 24 5 10000 9000
      fi
      ;;
    tiny) make_tree files "$tree" "$($quick && echo 5 || echo 100)" 0 100 1024 0 ;;
    small) make_tree files "$tree" 5 0 20 1024 0 ;;
    big) make_tree file "$tree" 0 0 0 "$($quick && echo $((16 << 20)) || echo $((1 << 30)))" 0 ;;
  esac
}

# --- Hosts ----------------------------------------------------------------------------------------

all_hosts=(127.0.0.51 127.0.0.52 127.0.0.53 127.0.0.54 127.0.0.55 127.0.0.56 127.0.0.57 127.0.0.58)
port=
far_port=
sshds=()

listens() { # ADDRESS PORT
  (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

# Prints a port that nobody uses on any of the addresses, beginning at PORT.
free_port() { # PORT
  local candidate host
  for ((candidate = $1; candidate < $1 + 500; candidate++)); do
    for host in "${all_hosts[@]}"; do
      if listens "$host" "$candidate"; then continue 2; fi
    done
    echo "$candidate"
    return
  done
  fail "no free port above $1"
}

wait_for() { # ADDRESS PORT
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    if listens "$1" "$2"; then return; fi
    sleep 0.05
  done
  fail "nothing listens on $1:$2; see $work/logs"
}

sftp_server() {
  local path
  for path in /usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec /usr/lib/misc; do
    if [[ -x $path/sftp-server ]]; then
      echo "$path/sftp-server"
      return
    fi
  done
  fail 'sftp-server is missing'
}

start_hosts() {
  local host sshd sftp
  sshd=$(command -v sshd) || fail 'sshd is missing; on Debian, apt-get install openssh-server'
  sftp=$(sftp_server)
  # sshd insists on it, and only the service would make it.
  if ((EUID == 0)); then mkdir -p /run/sshd; fi
  ssh-keygen -q -t ed25519 -N '' -C 'hostsync compare' -f "$work/key"
  port=$(free_port 22022)
  far_port=$(free_port $((port + 1)))
  for host in "${all_hosts[@]}"; do
    mkdir -p "$(home "$host")"
    ssh-keygen -q -t ed25519 -N '' -f "$work/host_key.$host"
    cat >"$work/sshd_config.$host" <<END
ListenAddress $host:$port
HostKey $work/host_key.$host
AuthorizedKeysFile $work/key.pub
StrictModes no
PidFile none
LogLevel VERBOSE
UsePAM no
MaxStartups 500
MaxSessions 100
Subsystem sftp $sftp
SetEnv HOME=$(home "$host")
ForceCommand cd; exec /bin/sh -c "\$SSH_ORIGINAL_COMMAND"
END
    "$sshd" -D -e -f "$work/sshd_config.$host" </dev/null 2>"$(sshd_log "$host")" &
    sshds+=($!)
    local key
    key=$(cut -d ' ' -f 1,2 "$work/host_key.$host.pub")
    printf '[%s]:%s %s\n' "$host" "$port" "$key" "$host" "$far_port" "$key" >>"$work/known_hosts"
  done
  for host in "${all_hosts[@]}"; do wait_for "$host" "$port"; done
  ssh_config "$port" >"$work/ssh_config.near"
  ssh_config "$far_port" >"$work/ssh_config.far"
}

ssh_config() { # PORT
  cat <<END
Host *
  Port $1
  User $(id -un)
  IdentityFile $work/key
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
  StrictHostKeyChecking yes
  BatchMode yes
END
}

home() { echo "$work/hosts/$1"; }
sshd_log() { echo "$work/logs/sshd.$1"; }

# The proxy needs one file of the test kit and the standard library, so it is compiled with these alone: cargo
# would build all that tests depend on first.
compile_proxy() {
  printf '#[path = "%s/testkit/src/latency.rs"]\npub mod latency;\n' "$repository" >"$work/hostsync_testkit.rs"
  rustc --edition 2024 -O --crate-type rlib --out-dir "$work" "$work/hostsync_testkit.rs" &&
    rustc --edition 2024 -O -o "$work/latency_proxy" --extern "hostsync_testkit=$work/libhostsync_testkit.rlib" \
      "$repository/examples/latency_proxy.rs"
}

# Lets the first host be reached through the proxy, too, on `far_port`.
start_proxy() { # ONE_WAY_MS
  local name=proxy.$1
  if [[ ! -x $work/latency_proxy ]]; then
    compile_proxy 2>"$work/logs/rustc" || fail "cannot compile the proxy: $(cat "$work/logs/rustc")"
  fi
  stop_proxy
  mkfifo "$work/$name.asks" "$work/$name.answers"
  # Opened for both directions, a pipe neither blocks nor ends.
  exec {proxy_asks}<>"$work/$name.asks" {proxy_answers}<>"$work/$name.answers"
  "$work/latency_proxy" "${all_hosts[0]}:$far_port" "${all_hosts[0]}:$port" "$1" \
    <"$work/$name.asks" >"$work/$name.answers" &
  proxy=$!
  read -r -t 10 -u "$proxy_answers" || fail 'the proxy does not start'
  rm -- "$work/$name.asks" "$work/$name.answers"
}

stop_proxy() {
  [[ -n $proxy ]] || return 0
  kill "$proxy"
  wait "$proxy" 2>/dev/null || true
  proxy=
  exec {proxy_asks}>&- {proxy_answers}>&-
}

proxy=
proxy_asks=
proxy_answers=

# --- Tools ----------------------------------------------------------------------------------------
#
# `copy_TOOL` brings `tree` to `to/TOOL` in the home folders of `hosts`, as somebody would who knows the tool.

# The scenario that is being run.
scenario=
tree=
hosts=()
ssh_config=
host_port=

installed() { # TOOL
  case $1 in
    hostsync*) true ;;
    rsync*) command -v rsync >/dev/null ;;
    clush) command -v clush >/dev/null ;;
    scp*) command -v scp >/dev/null ;;
    old) $with_old ;;
    ansible) $with_ansible ;;
  esac
}

# Runs a function for all hosts at the same time; fails when one has failed.
on_all_hosts() { # FUNCTION [ARGUMENT]...
  local host pid pids=() status=0
  for host in "${hosts[@]}"; do
    "$@" "$host" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || status=1
  done
  return "$status"
}

joined() { # SEPARATOR WORD...
  local IFS=$1
  shift
  echo "$*"
}

hostsync_folder() { echo "$work/config/$scenario"; }

# Settings that are not the defaults only say where things are.
configure_hostsync() {
  local folder host separator=
  folder=$(hostsync_folder)
  mkdir -p "$folder/path_mapper"
  printf '[DEFAULT]\nknown_hosts_path = %s\nlog_path = %s\n' \
    "$work/known_hosts" "$work/logs/hostsync.$scenario" >"$folder/config.ini"
  {
    printf '['
    for host in "${hosts[@]}"; do
      printf '%s\n{ "ip_address": "%s", "port": %s, "user": "%s", "identity_file": "%s" }' \
        "$separator" "$host" "$host_port" "$(id -un)" "$work/key"
      separator=,
      printf '[{ "src": "%s", "dest": "~/to/hostsync" }]\n' "$tree" >"$folder/path_mapper/$host.json"
    done
    printf ']\n'
  } >"$folder/connection_info.json"
}

run_hostsync() { # COMMAND...
  local folder
  folder=$(hostsync_folder)
  "${memory_meter[@]}" "$hostsync" --config "$folder/config.ini" --progress none "$@"
}

copy_hostsync() { run_hostsync apply --auto-approve; }
copy_hostsync_plan() { run_hostsync plan; }

rsync_one() { # OPTIONS TOOL HOST
  rsync "$1" -e "ssh -F $ssh_config" "$tree/" "$3:to/$2/"
}
copy_rsync() { on_all_hosts rsync_one -a rsync; }
copy_rsync_c() { on_all_hosts rsync_one -ac rsync_c; }
copy_rsync_w() { on_all_hosts rsync_one -aW rsync_w; }

scp_one() { scp -q -F "$ssh_config" -r "$tree" "$1:to/scp"; }
copy_scp() { on_all_hosts scp_one; }

copy_clush() {
  clush -q -o "-F $ssh_config" -f "${#hosts[@]}" -w "$(joined , "${hosts[@]}")" \
    --copy "$tree" --dest to/clush
}

copy_old() { "$venv/bin/python" "$work/old.py" "$tree" to/old "$host_port" "${hosts[@]}"; }

copy_ansible() {
  # A relative destination would be in the account's home folder, which all hosts share.
  local dest="$work/hosts/{{ inventory_hostname }}/to/ansible/"
  ANSIBLE_CONFIG=$work/ansible.cfg "$ansible" all -i "$(joined , "${hosts[@]}")," -f "${#hosts[@]}" \
    -m copy -a "src=$tree/ dest=$dest mode=preserve"
}

# The program that hostsync replaces: one thread for each host, and a recursive put in each.
prepare_old() {
  if [[ -z $venv ]]; then
    say 'making a Python venv ...'
    venv=$work/venv
    local packages=(paramiko scp)
    if $with_ansible && ! command -v ansible >/dev/null; then packages+=(ansible-core); fi
    { python3 -m venv "$venv" && "$venv/bin/pip" install "${packages[@]}"; } >"$work/logs/venv" 2>&1 ||
      fail "cannot make a Python venv: $(tail -n 3 "$work/logs/venv")"
  fi
  cat >"$work/old.py" <<END
import concurrent.futures
import sys

import paramiko
import scp

source, dest, port, *hosts = sys.argv[1:]


def push(host):
    client = paramiko.SSHClient()
    client.load_host_keys("$work/known_hosts")
    client.connect(host, int(port), "$(id -un)", key_filename="$work/key", allow_agent=False, look_for_keys=False)
    with client, scp.SCPClient(client.get_transport()) as transfer:
        transfer.put(source, dest, recursive=True)


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(push, hosts))
END
}

prepare_ansible() {
  ansible=$(command -v ansible || echo "$venv/bin/ansible")
  [[ -x $ansible ]] || fail 'ansible is missing; with --with-old it is installed in the venv'
  cat >"$work/ansible.cfg" <<END
[defaults]
interpreter_python = $(command -v python3)
local_tmp = $work/ansible
[ssh_connection]
ssh_args = -F $work/ssh_config.near -o ControlMaster=auto -o ControlPersist=2s
control_path_dir = $work/ansible/cp
pipelining = true
END
}

# --- Measuring ------------------------------------------------------------------------------------

memory_meter=()
use_memory_meter() {
  # GNU time; busybox has one that cannot do this.
  if command -v /usr/bin/time >/dev/null && /usr/bin/time -f %M -o "$work/peak" true 2>/dev/null; then
    memory_meter=(/usr/bin/time -f %M -o "$work/peak")
  else
    say 'GNU time is missing: memory is not measured'
  fi
}

record() { # TOOL KIND VALUE
  printf '%s\t%s\t%s\t%s\n' "$scenario" "$1" "$2" "$3" >>"$work/results"
}

# Removes what a tool has left on the hosts and remembers here, as if it had never run.
forget() { # TOOL
  local host
  for host in "${hosts[@]}"; do
    mkdir -p "$(home "$host")/to"
    rm -rf -- "$(home "$host")/to/$1"
    if [[ $1 == hostsync ]]; then rm -rf -- "$(home "$host")/.hostsync"; fi
  done
  if [[ $1 == hostsync ]]; then rm -rf -- "$(hostsync_folder)/state"; fi
}

check_one() { # SOURCE DEST HOST
  diff -rq --no-dereference "$1" "$(home "$3")/to/$2" >&2
}

# Waits until no session is left on any host: servers go on for a moment after their clients.
wait_for_sessions() {
  local tries pid children
  for ((tries = 0; tries < 100; tries++)); do
    for pid in "${sshds[@]}"; do
      children=$(cat "/proc/$pid/task/$pid/children")
      [[ -z $children ]] || break
    done
    [[ -n $children ]] || return 0
    sleep 0.02
  done
}

# Processor time that this machine has spent so far, in hundredths of a second. All of it, since a command may outlive
# the session that it was started by, and would then be counted nowhere else.
processor_time() {
  local cpu user nice system idle iowait irq softirq rest
  # shellcheck disable=SC2034 # Words that are of no interest have a name, too.
  read -r cpu user nice system idle iowait irq softirq rest </proc/stat
  echo $((user + nice + system + irq + softirq))
}

# Runs a function, fails with its output when it fails, and sets `elapsed_us` and `processor_ticks`.
timed() { # FUNCTION [ARGUMENT]...
  local start log=$work/logs/$scenario.$1 ticks
  wait_for_sessions
  ticks=$(processor_time)
  start=${EPOCHREALTIME/./}
  if ! "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "$scenario: $1 has failed"
  fi
  elapsed_us=$((${EPOCHREALTIME/./} - start))
  wait_for_sessions
  processor_ticks=$(($(processor_time) - ticks))
}

seconds() { # MICROSECONDS
  printf '%d.%06d\n' $(($1 / 1000000)) $(($1 % 1000000))
}

# Bytes that the proxy has carried in both directions; a moment later, so that goodbyes count, too.
bytes_on_the_wire() {
  local count
  sleep 0.5
  echo >&"$proxy_asks"
  read -r count <&"$proxy_answers"
  echo "$count"
}

# One run of a tool, checked. Round 0 is not recorded.
run_once() { # ROUND TOOL
  local round=$1 tool=$2 before=0 folder=$2
  if [[ $tool == scp_o ]]; then
    run_scp_sample "$round"
    return
  fi
  if [[ $tool == hostsync_plan ]]; then folder=hostsync; fi
  if [[ $measure == wire ]]; then before=$(bytes_on_the_wire); fi
  timed "copy_$tool"
  on_all_hosts check_one "$tree" "$folder" || fail "$scenario: $tool has not written what it should"
  if ((round == 0)); then return; fi
  record "$tool" time "$(seconds "$elapsed_us")"
  record "$tool" processor "$(seconds $((processor_ticks * 10000)))"
  if [[ $measure == wire ]]; then record "$tool" wire $(($(bytes_on_the_wire) - before)); fi
  if [[ $tool == hostsync && ${#memory_meter[@]} -gt 0 ]]; then record "$tool" peak "$(tail -n 1 "$work/peak")"; fi
  say "  $scenario round $round: $(label "$tool") $(seconds "$elapsed_us") s"
}

# scp's old protocol waits for an answer after every file, so a whole tree takes an hour over a long line. One
# file, and a folder of a hundred, tell what it would take.
run_scp_sample() { # ROUND
  local one_us many_us files sample=$tree/d001
  files=$(find "$tree" -type f | wc -l)
  timed scp_sample "$sample/f001"
  one_us=$elapsed_us
  forget scp_o
  timed scp_sample "$sample"
  many_us=$elapsed_us
  diff -rq "$sample" "$(home "${hosts[0]}")/to/scp_o" >&2 || fail "$scenario: scp -O has not written what it should"
  forget scp_o
  if (($1 == 0)); then return; fi
  elapsed_us=$((one_us + (many_us - one_us) * (files - 1) / 99))
  record scp_o time "$(seconds "$elapsed_us")"
  say "  $scenario round $1: $(label scp_o) $(seconds "$elapsed_us") s"
}

scp_sample() { scp -q -O -r -F "$ssh_config" "$1" "${hosts[0]}:to/scp_o"; }

# Lets the tools take turns: one round that warms up, then the measured ones.
compete() { # first|again|edit TOOL...
  local kind=$1 tool round tools=()
  shift
  for tool in "$@"; do
    if installed "$tool"; then tools+=("$tool"); fi
  done
  configure_hostsync
  if [[ $kind != first ]]; then
    for tool in "${tools[@]}"; do
      if [[ $tool == hostsync_plan ]]; then continue; fi
      forget "$tool"
      timed "copy_$tool"
    done
  fi
  for ((round = 0; round <= rounds; round++)); do
    if [[ $kind == edit ]]; then
      edits=$((edits + 1))
      edit_tree "$tree" "$edit_files" "$edit_bytes" "$edits"
    fi
    for tool in "${tools[@]}"; do
      if [[ $kind == first ]]; then forget "$tool"; fi
      run_once "$round" "$tool"
    done
  done
  # Room for the next scenario.
  for tool in "${tools[@]}"; do forget "$tool"; done
}

edits=0
edit_files=50
edit_bytes=4096
measure='time'

near() { # COUNT
  hosts=("${all_hosts[@]:0:$1}")
  ssh_config=$work/ssh_config.near
  host_port=$port
}

far() { # ONE_WAY_MS
  start_proxy "$1"
  hosts=("${all_hosts[0]}")
  ssh_config=$work/ssh_config.far
  host_port=$far_port
}

run_scenario() { # NAME
  scenario=$1
  measure='time'
  say "$scenario"
  case $1 in
    many1) near 1 && need_tree many && compete first hostsync rsync scp old ;;
    many8) near 8 && need_tree many && compete first hostsync rsync clush old ;;
    same8) near 8 && need_tree many && compete again hostsync hostsync_plan rsync rsync_c ;;
    edit8) near 8 && need_tree many && compete edit hostsync rsync ;;
    tiny50) far 25 && need_tree tiny && compete first hostsync rsync scp_o ;;
    same50) far 25 && need_tree many && compete again hostsync hostsync_plan rsync ;;
    big1) near 1 && need_tree big && compete first hostsync rsync_w scp ;;
    bigedit)
      far 0 && need_tree big
      measure=wire edit_files=1 edit_bytes=$((1 << 20))
      compete edit hostsync rsync
      ;;
    small8) near 8 && need_tree small && compete first hostsync ansible ;;
  esac
}

# --- The table ------------------------------------------------------------------------------------

table() {
  local tool
  {
    marks | sed 's/^/mark /'
    for tool in hostsync hostsync_plan rsync rsync_c rsync_w scp scp_o clush old ansible; do
      printf 'label %s %s\n' "$tool" "$(label "$tool")"
    done
    printf 'peak %s\n' "$peak_mark_kib"
    sed 's/^/result\t/' "$work/results"
  } | perl -e '
use strict; use warnings;
my (%mark, %label, %values, @order, $peak);
while (<STDIN>) {
  chomp;
  if (/^mark (\S+) (\S+) (\S+)/) { $mark{$1}{$2} = $3 }
  elsif (/^label (\S+) (.*)/) { $label{$1} = $2 }
  elsif (/^peak (\d+)/) { $peak = $1 }
  elsif (/^result\t(\S+)\t(\S+)\t(\S+)\t(\S+)/) {
    push @order, [$1, $2] unless $values{$1}{$2};
    push @{ $values{$1}{$2}{$3} }, $4 } }
sub median { my @all = sort { $a <=> $b } @_;
  return @all % 2 ? $all[@all / 2] : ($all[@all / 2 - 1] + $all[@all / 2]) / 2 }
sub seconds { return sprintf($_[0] < 10 ? "%.3f" : "%.1f", $_[0]) }
sub verdict { return $_[0] <= $_[1] ? "kept" : "missed" }
print "| scenario | tool | median s | min | max | CPU s | hostsync : tool | mark | |\n|---|---|--:|--:|--:|--:|--:|--:|---|\n";
for (@order) {
  my ($scenario, $tool) = @$_;
  my @times = sort { $a <=> $b } @{ $values{$scenario}{$tool}{time} };
  my $processor = $values{$scenario}{$tool}{processor};
  my $own = $values{$scenario}{hostsync}{time};
  my @cells = ("", "", "");
  if ($tool !~ /^hostsync/ && $own) {
    my $ratio = median(@$own) / median(@times);
    my $mark = $mark{$scenario}{$tool};
    @cells = (sprintf("%.3f", $ratio), defined $mark ? ($mark, verdict($ratio, $mark)) : ("", "")) }
  print "| ", join(" | ", $scenario, $label{$tool}, seconds(median(@times)), seconds($times[0]), seconds($times[-1]),
    $processor ? sprintf("%.2f", median(@$processor)) : "", @cells), " |\n" }
if (my $used = $values{big1}{hostsync}{peak}) {
  my $kib = median(@$used);
  printf "\nPeak memory of hostsync in big1: %.1f MiB; mark: %.0f MiB, %s.\n", $kib / 1024, $peak / 1024, verdict($kib, $peak) }
if (my $wire = $values{bigedit}) {
  print "\n| bigedit | bytes sent and received |\n|---|--:|\n";
  printf "| %s | %d |\n", $label{$_}, median(@{ $wire->{$_}{wire} }) for sort keys %$wire;
  if ($wire->{rsync}) {
    my $allowed = median(@{ $wire->{rsync}{wire} }) * 1.2 + (8 << 20);
    printf "\nMark for hostsync: 1.2 times rsync and 8 MiB, which is %d: %s.\n", $allowed,
      verdict(median(@{ $wire->{hostsync}{wire} }), $allowed) } }'
}

machine() {
  printf '%s, ' "$(date -u +%Y-%m-%d)"
  printf '%s cores, ' "$(nproc)"
  printf '%s, ' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
  printf 'Linux %s, ' "$(uname -r)"
  printf '%s, ' "$(ssh -V 2>&1 | cut -d ' ' -f 1 | tr -d ,)"
  if installed rsync; then printf '%s, ' "$(rsync --version | sed -n '1s/ *protocol.*//p' | tr -s ' ')"; fi
  if installed clush; then printf '%s, ' "$(clush --version)"; fi
  printf 'rounds: %s, load before: %s' "$rounds" "$load_before"
  if [[ -n $user_tree ]]; then printf ', a tree of the user instead of the 5,000 files'; fi
  if $quick; then printf ', small trees'; fi
  printf '\n'
}

# --------------------------------------------------------------------------------------------------

parse "$@"
for program in perl ssh scp ssh-keygen diff rustc cargo; do
  command -v "$program" >/dev/null || fail "$program is missing"
done
# What the caller has set for itself is not to be measured.
unset SSH_AUTH_SOCK HOSTSYNC_CONFIG HOSTSYNC_LOG RSYNC_RSH
load_before=$(cut -d ' ' -f 1 /proc/loadavg)

hostsync=${HOSTSYNC:-$repository/target/release/hostsync}
if [[ ! -x $hostsync ]]; then
  [[ -z ${HOSTSYNC:-} ]] || fail "HOSTSYNC is not a program: $hostsync"
  say 'building hostsync ...'
  cargo build --release --locked --manifest-path "$repository/Cargo.toml" >&2
fi

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${BENCH_DIR:-/dev/shm}/hostsync-compare.XXXXXX")
mkdir "$work/trees" "$work/logs" "$work/config" "$work/hosts"
: >"$work/results"
use_memory_meter
if $with_old; then prepare_old; fi
if $with_ansible; then prepare_ansible; fi
start_hosts
for name in "${scenarios[@]}"; do run_scenario "$name"; done

report() {
  table
  printf '\n%s\n' "$(machine)"
}
if [[ -n $output ]]; then
  report | tee -- "$output"
else
  report
fi
