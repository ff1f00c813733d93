//! The files of the program that was there before, letter by letter.

use hostsync_testkit::scenario::Scenario;

pub(crate) const CONNECTION_INFO: &str = r#"[
    {
        "ip_address" : "x.x.x.x",
        "user" : "username1",
        "passkey"  : "passcode1"
    },
    {
        "ip_address" : "y.y.y.y",
        "user" : "username2",
        "passkey"  : "passcode2"
    }
] 
"#;

/// The comma behind the last key of the first object was there.
pub(crate) const MAPPER: &str = r#"[
    {
        "src"      : "source folder/file path1",
        "dest"      : "source folder/file path1",
    },
    {
        "src"      : "source folder/file path2",
        "dest"      : "source folder/file path2",
    }
] 
"#;

#[test]
fn samples_of_the_old_program_are_valid() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", CONNECTION_INFO);
    for host in ["x.x.x.x", "y.y.y.y"] {
        scenario.write(&format!("path_mapper/{host}.json"), MAPPER);
    }
    scenario.write("source folder/file path1", "a file\n");
    scenario.make_folder("source folder/file path2");
    let output = scenario.run(&["check"]).expect(0);
    let output = output.expect_stdout(&["2 hosts, 4 mappings; the configuration is valid"]);
    assert!(!output.to_string().contains("passcode"), "{output}");

    // They lead nowhere, and that is all that is wrong with them.
    let output = scenario.run(&["plan"]).expect(3);
    let output = output.expect_stdout(&["x.x.x.x", "y.y.y.y", "2 hosts unreachable"]);
    assert!(!output.to_string().contains("passcode"), "{output}");
}

#[test]
fn configuration_of_the_old_program_is_read_as_python_reads_it() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", CONNECTION_INFO);
    scenario.write(
        "config.ini",
        "; the old program\n\
         [DEFAULT]\n\
         # how many\n\
         Number_Of_Connections: 4\n\
         log_path =my logs/\n\
         connection_info_path=connection_info.json\n\
         address_mapper_path = \"\"\n\
         autosync = False\n\
         synctime = 1\n",
    );
    for host in ["x.x.x.x", "y.y.y.y"] {
        scenario.write(&format!("path_mapper/{host}.json"), "[]");
    }
    scenario.run(&["check"]).expect(0);
    assert!(scenario.path("my logs/hostsync.log").exists());
}
