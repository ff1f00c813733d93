//! From nothing to everything in place, and one edit later.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use hostsync_testkit::copied::assert_same;
use hostsync_testkit::scenario::{Scenario, chmod, install_scp};
use hostsync_testkit::{Dropbear, Host, Sshd};

/// Names that a shell, a pattern, a format or a hash tool could trip over.
const ODD_NAMES: [&[u8]; 33] = [
    b"a name with spaces",
    b" leading and trailing ",
    b"trailing tab\t",
    b"carriage\rreturn",
    b"bell\x07 and \x1b[31mescape",
    b"single'quote",
    b"double\"quote",
    b"$HOME",
    b"${IFS}",
    b"`id`",
    b"$(id)",
    b"back\\slash",
    b"back\\nslash",
    b"trailing\\",
    b"-rf",
    b"--help",
    b"-",
    b"~",
    b"*",
    b"[a-z]?",
    b"{a,b}",
    b"semi;colon & ampersand | pipe > out",
    b"#comment",
    b"%s%n%d",
    b"!history!!",
    b"a=b",
    b".hidden",
    b"...",
    b"SHA256 (x) = y",
    "Gr\u{fc}\u{df}e \u{2713} \u{65e5}\u{672c}\u{8a9e} \u{1f980}".as_bytes(),
    b"latin1 \xe9\xff",
    b"\xc3",
    b"0 1 2",
];

/// A source that has one of everything.
fn write_everything(root: &Path) {
    let folders = [
        "sub/deeper/deepest",
        "empty",
        "nested empty/also empty",
        "read-only",
        "private",
        "public",
        "shared",
    ];
    for folder in folders {
        fs::create_dir_all(root.join(folder)).expect("our folder");
    }
    let files = [
        ("plain.txt", 0o644),
        ("script", 0o755),
        ("secret", 0o600),
        ("read-only file", 0o444),
        ("group", 0o664),
        ("setuid", 0o4755),
        ("sub/deeper/deepest/file", 0o640),
        ("read-only/file", 0o400),
        ("private/file", 0o644),
    ];
    for (name, mode) in files {
        let path = root.join(name);
        fs::write(&path, format!("This is {name}.\n")).expect("our folder");
        chmod(&path, mode);
    }
    fs::write(root.join("empty file"), "").expect("our folder");
    let noise: Vec<u8> = (0..3_000_017_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    fs::write(root.join("three megabytes"), noise).expect("our folder");
    for odd in ODD_NAMES {
        let name = OsStr::from_bytes(odd);
        fs::write(root.join(name), odd).expect("our folder");
        fs::create_dir_all(root.join("sub").join(name)).expect("our folder");
        fs::write(root.join("sub").join(name).join(name), odd).expect("our folder");
        let link = [b"link to ", odd].concat();
        symlink(name, root.join(OsStr::from_bytes(&link))).expect("our folder");
    }
    // Paths around and far above the lengths that archives and commands once had as limits.
    for len in [80, 100, 255] {
        let name = "long ".repeat(len / 5);
        let folder = root.join(&name).join(&name);
        fs::create_dir_all(&folder).expect("our folder");
        fs::write(folder.join(&name), &name).expect("our folder");
    }
    let links = [
        ("to nowhere", "/no/such/place"),
        ("to a file", "sub/deeper/deepest/file"),
        ("to a folder", "sub"),
        ("upwards", "../../.."),
    ];
    for (name, target) in links {
        symlink(target, root.join(name)).expect("our folder");
    }
    let times = [
        ("plain.txt", 1_000_000_000),
        ("empty file", 1),
        ("script", 2_000_000_000),
    ];
    for (name, seconds) in times {
        // A fraction of a second is not sent, and must not make a difference.
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
        let file = File::options().write(true).open(root.join(name));
        file.and_then(|file| file.set_modified(time))
            .expect("our file");
    }
    for (name, mode) in [
        ("read-only", 0o555),
        ("private", 0o700),
        ("public", 0o1777),
        ("shared", 0o2755),
    ] {
        chmod(&root.join(name), mode);
    }
}

/// Plan, apply, an empty plan, one edit, a plan of just that, apply, an empty plan.
pub(crate) fn walk(hosts: &[&Host]) -> Scenario {
    let scenario = Scenario::with(
        hosts,
        &json!([
            { "src": "everything", "dest": "~/copy of everything" },
            { "src": "single file", "dest": "~/etc/single" },
        ]),
    );
    scenario.make_folder("everything");
    write_everything(&scenario.path("everything"));
    scenario.write("single file", "on its own\n");

    let count = hosts.len();
    let output = scenario.run(&["plan", "--detailed-exitcode"]).expect(2);
    let summary = output.stdout.lines().last().expect("a summary");
    let end = format!("on {count} of {count} hosts (");
    assert!(
        summary.starts_with("Plan: ") && summary.contains(&end),
        "{output}"
    );
    for host in hosts {
        let left: Vec<_> = fs::read_dir(host.dir()).expect("it is there").collect();
        assert!(left.is_empty(), "plan wrote on a host: {left:?}");
    }

    scenario.apply();
    let expect_agreement = || {
        for host in hosts {
            let home = host.dir();
            assert_same(
                &scenario.path("everything"),
                &home.join("copy of everything"),
            );
            assert_same(&scenario.path("single file"), &home.join("etc/single"));
        }
    };
    expect_agreement();
    scenario.expect_nothing_to_do();
    let output = scenario
        .run(&["plan", "--refresh", "full", "--detailed-exitcode"])
        .expect(0);
    assert!(output.stdout.starts_with("No changes: "), "{output}");

    scenario.write("everything/sub/deeper/deepest/file", "edited\n");
    for host in hosts {
        assert_eq!(
            scenario.changes(host),
            ["update content sub/deeper/deepest/file"]
        );
    }
    scenario
        .run(&["plan", "--detailed-exitcode"])
        .expect(2)
        .expect_stdout(&[&format!(
            "Plan: 0 to create, {count} to update, 0 to delete, 0 modes to change on {count} of"
        )]);
    scenario.apply();
    expect_agreement();
    scenario.expect_nothing_to_do();
    scenario
}

#[test]
fn three_hosts_get_everything_and_then_just_the_edit() {
    let hosts = ["127.2.0.1", "127.2.0.2", "127.2.0.3"].map(Sshd::start);
    walk(&[&hosts[0], &hosts[1], &hosts[2]]);
}

#[test]
fn hosts_that_have_busybox_alone_get_everything_and_then_just_the_edit() {
    let hosts = ["127.2.0.4", "127.2.0.5"].map(Dropbear::start);
    hosts.iter().for_each(install_scp);
    walk(&[&hosts[0], &hosts[1]]);
}

#[test]
fn name_with_a_newline_is_named_and_the_others_are_done() {
    let host = Sshd::start("127.2.0.7");
    let scenario = Scenario::of_folder(&host);
    for name in ["first", "new\nline", "zero", "sub/new\nline/below"] {
        scenario.write(&format!("src/{name}"), "text");
    }
    let expect_message = |code, args: &[&str]| {
        let output = scenario.run(args).expect(code);
        output.expect_stdout(&["src/new\\nline: ", "src/sub/new\\nline: ", "newline"])
    };
    expect_message(3, &["plan"]);
    expect_message(3, &["apply", "--auto-approve"]);
    let names = hostsync_testkit::copied::Contents::of(&host.dir().join("dest"));
    assert_eq!(names.paths(), ["", "/first", "/sub", "/zero"]);
    // Still there, still said, and nothing else to do.
    expect_message(3, &["plan", "--detailed-exitcode"])
        .expect_stdout(&["No changes: ", "2 entries cannot be sent"]);
}
