//! The lock of a host, wanted by many at once, some of whom die while they have it.

#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::chance::setting;

/// The agent up to the loop that takes tasks, then what it does for a lock.
const PERL: &str = r#"
use strict; use warnings; use Fcntl qw(:DEFAULT :mode); use Errno; use Time::HiRes;
BEGIN { *CORE::GLOBAL::sleep = sub { Time::HiRes::sleep(rand 0.002) } }
our %in;
my ($folder, $dies, $helps, @files) = @ARGV;
my $code = join qq(\n), map { local (@ARGV, $/) = $_; <> } @files;
eval "no strict; no warnings; $code; 1" or die $@;
no warnings;
*main::fail = sub { print "failed: @_\n"; kill 9, $$ };
*main::mark = *main::beat = *main::remove_dead_runs = sub { };
$| = 1;
my $base = "$folder/.hostsync/lineage/host";
make_folders($base);
if ($helps) { $in{base} = $base; unlock(); exit }
$in{wait} = 5000;
mkdir(my $work = "$base/run-$$-" . Time::HiRes::time());
my $lock = lock_of($base);
defined lock_out($lock, $work) and die "nobody gave it up\n";
mkdir "$folder/held" or print "two have it\n";
Time::HiRes::sleep(rand 0.002);
-e "$lock/" . lock_name() or print "it was taken away\n";
rmdir "$folder/held";
kill 9, $$ if $dies;
unlink "$lock/" . lock_name();
rmdir $lock;
"#;

/// The same for the scripts: what takes the lock is cut out of the script.
const SHELL: &str = r#"
hs_nonce=lock hs_pulse=5 hs_heart=
. "$1/common.sh"
sleep() { command sleep 0.005; }
hs_home=$HOME/.hostsync/lineage/host hs_run=run-$$-$(date +%s%N) hs_wait=5000
hs_work=$hs_home/$hs_run
mkdir -p "$hs_work"
. "$HOME/take"
mkdir "$HOME/held" || echo 'two have it'
[ -e "$hs_lock/$hs_mine" ] || echo 'it was taken away'
rmdir "$HOME/held"
[ "$2" = 0 ] || kill -9 $$
hs_unlock
"#;

/// Has many take the lock, five at a time, of whom every other one dies with it. Says what they said.
fn contend(folder: &Path, command: impl Fn(usize) -> Command + Sync) -> String {
    let rounds = usize::try_from(setting("STORM_KILLS", 8)).expect("a number") * 2;
    let run = |number: usize| -> Vec<Output> {
        let numbers = (0..rounds).map(|round| round * 5 + number);
        numbers
            .map(|number| {
                let mut command = command(number);
                command.env("HOME", folder).stdin(Stdio::null());
                command.output().expect("it starts")
            })
            .collect()
    };
    let outputs: Vec<Output> = thread::scope(|scope| {
        let running: Vec<_> = (0..5)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        let ended = running.into_iter().map(|it| it.join().expect("it ends"));
        ended.flatten().collect()
    });
    println!("lock: taken {} times", outputs.len());
    let said = outputs.into_iter().flat_map(|it| [it.stdout, it.stderr]);
    String::from_utf8_lossy(&said.flatten().collect::<Vec<u8>>()).into_owned()
}

fn remote(name: &str) -> String {
    format!("{}/src/remote/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn lock_that_the_dying_leave_to_agents_is_held_by_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = contend(folder.path(), |number| {
        let mut command = Command::new("perl");
        command.args(["-e", PERL]).arg(folder.path());
        command.args([number % 2, usize::from(number % 5 == 4)].map(|it| it.to_string()));
        command.args(
            [
                "agent.pl",
                "tasks/commit/commit.pl",
                "tasks/unlock/unlock.pl",
            ]
            .map(remote),
        );
        command
    });
    assert_eq!(said, "");
}

#[test]
fn lock_that_the_dying_leave_to_scripts_is_held_by_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = fs::read_to_string(remote("tasks/commit/commit.sh")).expect("the script");
    let begin = script.find("hs_lock=$(").expect("the lock");
    let end = script.find("hs_has_lock=yes").expect("its end");
    fs::write(folder.path().join("take"), &script[begin..end]).expect("our folder");
    let said = contend(folder.path(), |number| {
        let mut command = Command::new(["dash", "bash"][number / 5 % 2]);
        command.args(["-c", SHELL, "sh", remote("").trim_end_matches('/')]);
        command.arg((number % 2).to_string());
        command
    });
    assert_eq!(said, "");
}
