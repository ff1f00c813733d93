use std::fs;
use std::path::Path;

use miette::Diagnostic as _;

use super::site::Site;
use crate::config::find;

#[test]
fn named_file_is_taken_before_any_other() {
    let site = Site::with("other.ini", "[DEFAULT]");
    let found = find(Some(Path::new("other.ini")), &site.environment()).unwrap();
    assert_eq!(found, site.path("other.ini"));
}

#[test]
fn usual_places_are_tried_in_their_order() {
    let site = Site::new();
    fs::create_dir(site.path("config")).unwrap();
    site.write("config/config.ini", "[DEFAULT]");
    let find = || find(None, &site.environment()).unwrap();
    assert_eq!(find(), site.path("config.ini"));
    fs::remove_file(site.path("config.ini")).unwrap();
    assert_eq!(find(), site.path("config/config.ini"));
    site.write("hostsync.toml", "");
    assert_eq!(find(), site.path("hostsync.toml"));
}

#[test]
fn missing_file_is_an_error_that_says_where_it_was_looked_for() {
    let site = Site::new();
    fs::remove_file(site.path("config.ini")).unwrap();
    let error = find(None, &site.environment()).unwrap_err().to_string();
    assert!(
        error.contains("hostsync.toml, config.ini, config/config.ini"),
        "{error}"
    );
    assert!(!error.contains("does not exist"), "{error}");
}

#[test]
fn named_file_that_is_missing_is_an_error_about_what_named_it() {
    let site = Site::new();
    let error = find(Some(Path::new("x/y.ini")), &site.environment()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration file x/y.ini does not exist"
    );
    let help = error.help().unwrap().to_string();
    assert!(
        help.contains("--config") && help.contains("HOSTSYNC_CONFIG"),
        "{help}"
    );
}
