//! Hosts without perl get the same through `scp`, those without a working `scp` through `tar`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::main_path::walk;
use hostsync_testkit::scenario::{Scenario, chmod, read_on};
use hostsync_testkit::{Dropbear, Host, Sshd, SshdOptions};

const THROUGH_TAR: &str = "no scp on this host: sending through tar";

/// Fails unless the log says this of a host.
#[track_caller]
fn expect_in_log(scenario: &Scenario, host: &Host, text: &str) {
    let log = fs::read_to_string(scenario.path("logs/hostsync.log")).expect("a log");
    let of_host = format!("host={} ", host.address);
    let is_said = |line: &str| line.contains(&of_host) && line.contains(text);
    assert!(
        log.lines().any(is_said),
        "no `{text}` of {of_host}in\n{log}"
    );
}

/// A folder with every command of this system but some.
fn commands_without(left_out: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    chmod(folder.path(), 0o755);
    for entry in fs::read_dir("/usr/bin").expect("commands").flatten() {
        let name = entry.file_name();
        if left_out.iter().all(|left_out| name != *left_out) {
            symlink(entry.path(), folder.path().join(name)).expect("our folder");
        }
    }
    folder
}

/// What earlier runs have left in staging on a host.
fn left_in_staging(host: &Host) -> Vec<String> {
    let mut left = Vec::new();
    let mut open = vec![host.dir().join(".hostsync")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("run-") {
                left.push(name);
            } else if entry.path().is_dir() {
                open.push(entry.path());
            }
        }
    }
    left
}

/// Puts a command of its own on a host that has nothing but busybox.
fn install(host: &Dropbear, name: &str, script: &str) {
    let path = host.private_dir().join("bin").join(name);
    fs::write(&path, script).expect("our folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our folder");
}

fn remove_command(host: &Dropbear, name: &str) {
    fs::remove_file(host.private_dir().join("bin").join(name)).expect("it was there");
}

#[test]
fn hosts_with_gnu_tar_and_busybox_tar_get_everything_and_then_just_the_edit() {
    let commands = commands_without(&["perl", "scp"]);
    let options = SshdOptions {
        path: Some(commands.path().display().to_string()),
        ..SshdOptions::default()
    };
    let sshd = Sshd::start_with("127.2.9.1", &options);
    let dropbear = Dropbear::start("127.2.9.2");
    let scenario = walk(&[&sshd, &dropbear]);
    for host in [&*sshd, &*dropbear] {
        expect_in_log(&scenario, host, THROUGH_TAR);
        assert!(left_in_staging(host).is_empty());
    }
}

#[test]
fn host_without_perl_gets_through_scp_what_one_with_perl_gets() {
    let commands = commands_without(&["perl", "tar"]);
    let options = SshdOptions {
        path: Some(commands.path().display().to_string()),
        ..SshdOptions::default()
    };
    let host = Sshd::start_with("127.2.9.9", &options);
    let other = Sshd::start("127.2.9.11");
    walk(&[&host, &other]);
    assert!(left_in_staging(&host).is_empty());
}

#[test]
fn scp_that_does_not_start_is_made_up_for_by_tar() {
    let host = Dropbear::start("127.2.9.3");
    install(&host, "scp", "#!/bin/sh\necho broken >&2\nexit 127\n");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/sub/file", "text");
    scenario.apply();
    assert_eq!(read_on(&host, "dest/sub/file").as_deref(), Some("text"));
    expect_in_log(&scenario, &host, "`scp` does not work on the host");
    assert!(left_in_staging(&host).is_empty());
    scenario.expect_nothing_to_do();
}

#[test]
fn scp_that_does_not_start_on_a_host_without_tar_is_named() {
    let host = Dropbear::start("127.2.9.4");
    install(&host, "scp", "#!/bin/sh\nexit 127\n");
    remove_command(&host, "tar");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text");
    let output = scenario.run(&["apply", "--auto-approve"]).expect(3);
    output.expect_stdout(&["`scp` does not work on the host (status 127)"]);
    assert!(!host.dir().join("dest").exists());
}

#[test]
fn host_with_neither_says_what_is_missing_and_is_left_alone() {
    let host = Dropbear::start("127.2.9.5");
    remove_command(&host, "tar");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text");
    for args in [
        &["check", "--connect"][..],
        &["plan"],
        &["apply", "--auto-approve"],
    ] {
        let output = scenario.run(args).expect(3);
        output.expect_stdout(&["neither an scp nor a tar command", "install"]);
    }
    assert!(!host.dir().join("dest").exists());
    assert!(!host.dir().join(".hostsync").exists());
}

#[test]
fn changes_without_an_upload_need_neither() {
    let host = Dropbear::start("127.2.9.6");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text");
    scenario.apply();
    remove_command(&host, "tar");
    scenario.chmod("src/file", 0o600);
    scenario.apply();
    scenario.expect_nothing_to_do();
    scenario.write("src/other", "text");
    let output = scenario.run(&["plan"]).expect(3);
    output.expect_stdout(&["nothing can be sent"]);
}

#[test]
fn check_that_connects_names_tools_that_are_missing_and_leaves_nothing_behind() {
    let host = Dropbear::start("127.2.9.17");
    let scenario = Scenario::of_folder(&host);
    let output = scenario.run(&["check", "--connect"]).expect(0);
    output.expect_stdout(&["have what is needed"]);
    remove_command(&host, "sha256sum");
    let output = scenario.run(&["check", "--connect"]).expect(3);
    output.expect_stdout(&["127.2.9.17: ", "no tool for sha256", "1 host has a problem"]);
    remove_command(&host, "stat");
    let output = scenario.run(&["check", "--connect"]).expect(3);
    output.expect_stdout(&["127.2.9.17: ", "stat command"]);
    assert!(!host.dir().join(".hostsync").exists());
}

/// An apply of one large file on a host where no file can become larger than 4 KiB; everything that
/// is small gets through.
fn expect_full_disk(host: &Host) -> Scenario {
    let scenario = Scenario::of_folder(host);
    scenario.write("src/large", vec![1; 3 << 20]);
    let output = scenario.run(&["apply", "--auto-approve"]).expect(3);
    output.expect_stdout(&[
        "the host could not write: ",
        "File too large",
        "~/.hostsync/",
    ]);
    assert!(!host.dir().join("dest").exists());
    // Room that nobody has use for is given back.
    let started = std::time::Instant::now();
    while !left_in_staging(host).is_empty() {
        assert!(started.elapsed().as_secs() < 20, "half an upload stays");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    scenario
}

#[test]
fn full_disk_is_named_by_an_agent() {
    let options = SshdOptions {
        start_file: "ulimit -f 8; trap \"\" XFSZ".to_owned(),
        ..SshdOptions::default()
    };
    expect_full_disk(&Sshd::start_with("127.2.9.10", &options));
}

/// An apply of a file that is sent as blocks, on a host where no file can become so large.
fn expect_destination_of_blocks(host: &Host) {
    let scenario = Scenario::of_folder(host);
    scenario.write("src/disk.img", "");
    let file = fs::File::options()
        .write(true)
        .open(scenario.path("src/disk.img"))
        .and_then(|file| file.set_len(65 << 20));
    file.expect("it may have holes");
    let output = scenario.run(&["apply", "--auto-approve"]).expect(3);
    let output = output.expect_stdout(&["~/dest/disk.img: ", "File too large", "~/.hostsync/"]);
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut words = output.stdout.split(|c: char| !c.is_alphanumeric());
    assert!(!words.any(is_id), "{output}");
}

/// No file can become larger than 4 KiB.
fn tiny_files(left_out: &[&str]) -> (tempfile::TempDir, SshdOptions) {
    let commands = commands_without(left_out);
    let options = SshdOptions {
        path: Some(commands.path().display().to_string()),
        start_file: "ulimit -f 8; trap \"\" XFSZ".to_owned(),
        ..SshdOptions::default()
    };
    (commands, options)
}

#[test]
fn large_file_for_which_there_is_no_room_is_named_by_its_destination() {
    for (address, left_out) in [
        ("127.2.9.12", &[][..]),
        ("127.2.9.13", &["perl"]),
        ("127.2.9.14", &["perl", "scp"]),
    ] {
        let (_commands, options) = tiny_files(left_out);
        expect_destination_of_blocks(&Sshd::start_with(address, &options));
    }
}

#[test]
fn small_file_for_which_there_is_no_room_is_named_by_its_destination() {
    for (address, left_out) in [("127.2.9.15", &[][..]), ("127.2.9.16", &["perl"])] {
        let (_commands, options) = tiny_files(left_out);
        let host = Sshd::start_with(address, &options);
        let scenario = Scenario::of_folder(&host);
        scenario.write("src/sub/file", vec![1; 3 << 20]);
        let output = scenario.run(&["apply", "--auto-approve"]).expect(3);
        output.expect_stdout(&["the host could not write: ~/dest/sub/file: "]);
    }
}

#[test]
fn full_disk_is_named_where_gnu_tar_says_only_how_much_it_wrote() {
    let (_commands, options) = tiny_files(&["perl", "scp"]);
    let host = Sshd::start_with("127.2.9.7", &options);
    let scenario = expect_full_disk(&host);
    expect_in_log(&scenario, &host, THROUGH_TAR);
}

#[test]
fn full_disk_is_named_by_busybox_tar() {
    let host = Dropbear::start("127.2.9.8");
    remove_command(&host, "tar");
    let limited = "#!/bin/sh\nulimit -f 8\ntrap '' XFSZ\nexec /bin/busybox tar \"$@\"\n";
    install(&host, "tar", limited);
    let scenario = expect_full_disk(&host);
    expect_in_log(&scenario, &host, THROUGH_TAR);
}
