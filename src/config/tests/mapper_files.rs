use std::fs;

use super::site::Site;
use crate::config::{Exact, IssueCode, SymlinkPolicy};

#[test]
fn all_keys_are_read() {
    let site = Site::with_mapper(
        r#"[{"src": "app", "dest": "/srv/a", "exact": true, "exclude": ["*.o"], "symlinks": "skip"},
                {"src": "app", "dest": "~/b", "exact": "mirror", "symlinks": "follow"},
                {"src": "app", "dest": "c", "exact": false, "symlinks": "preserve"}]"#,
    );
    let mappings = site.config().hosts.remove(0).mappings;
    assert_eq!(mappings[0].exact, Exact::Orphans);
    assert_eq!(mappings[0].exclude.patterns(), ["*.o"]);
    assert_eq!(mappings[0].symlinks, SymlinkPolicy::Skip);
    assert_eq!(mappings[1].exact, Exact::Mirror);
    assert_eq!(mappings[1].symlinks, SymlinkPolicy::Follow);
    assert_eq!(mappings[1].dest.to_string(), "./b");
    assert_eq!(mappings[2].exact, Exact::No);
    assert_eq!(mappings[2].symlinks, SymlinkPolicy::Preserve);
    assert_eq!(mappings[2].src.as_path(), site.path("app"));
}

#[test]
fn base_name_of_src_is_appended_only_to_a_dest_that_ends_in_a_slash() {
    let dest = |src: &str, dest: &str| {
        let text = format!(r#"[{{"src": "{src}", "dest": "{dest}"}}]"#);
        let mapping = Site::with_mapper(&text)
            .config()
            .hosts
            .remove(0)
            .mappings
            .remove(0);
        (mapping.dest.to_string(), mapping.dest_as_written)
    };
    let pair = |dest: &str, written: &str| (dest.to_owned(), written.to_owned());
    assert_eq!(dest("x/app", "/srv"), pair("/srv", "/srv"));
    assert_eq!(dest("x/app", "/srv/"), pair("/srv/app", "/srv/app"));
    assert_eq!(dest("x/app/", "~/"), pair("./app", "~/app"));
    assert_eq!(dest("../app", "/"), pair("/app", "/app"));
    assert_eq!(dest("app", "~"), pair("./.", "~"));
}

#[test]
fn mistakes_are_marked() {
    use IssueCode::{
        InvalidGlob, InvalidValue, MissingKey, OverlappingDestinations, Syntax, UnknownKey,
        WrongType,
    };
    let mapping = |more: &str| format!(r#"[{{"src": "app", "dest": "/a"{more}}}]"#);
    let dest = |dest: &str| format!(r#"[{{"src": "app", "dest": "{dest}"}}]"#);
    for (text, code, marked) in [
        (mapping(r#", "excludes": []"#), UnknownKey, vec![r#""excludes""#]),
        (mapping(r#", "exclude": ["["]"#), InvalidGlob, vec![r#""*""#]),
        (mapping(r#", "exclude": ["/"]"#), InvalidGlob, vec![r#""*""#]),
        (mapping(r#", "exact": "yes""#), InvalidValue, vec![r#""yes""#]),
        (mapping(r#", "symlinks": "folow""#), InvalidValue, vec![r#""folow""#]),
        (dest(""), InvalidValue, vec![r#""""#]),
        (dest("/a\\nb"), InvalidValue, vec![r#""*****""#]),
        (dest("/a\\u0000"), InvalidValue, vec![r#""********""#]),
        (dest("/a/../b"), InvalidValue, vec![r#""/a/../b""#]),
        (dest("~root/b"), InvalidValue, vec![r#""~root/b""#]),
        (r#"[{"src": "app", "dest": 1}]"#.into(), WrongType, vec!["1"]),
        (r#"[{"dest": "/a"}]"#.into(), MissingKey, vec!["{"]),
        (r#"[{"src": "", "dest": "/a"}]"#.into(), InvalidValue, vec![r#""""#]),
        (
            r#"[{"src": "a/..", "dest": "/a/"}]"#.into(),
            InvalidValue,
            vec![r#""/a/""#, r#""a/..""#],
        ),
        ("[1]".into(), WrongType, vec!["*"]),
        ("[{]".into(), Syntax, vec!["]"]),
        (
            r#"[{"src": "app", "dest": "/a/b"}, {"src": "app", "dest": "/a//"}, {"src": "x/b", "dest": "/a/"}]"#
                .into(),
            OverlappingDestinations,
            vec![r#""/a/b""#, r#""/a/""#],
        ),
    ] {
        let site = Site::with_mapper(&text);
        assert_eq!(site.issue().0, code, "{text}");
        assert_eq!(site.marked(), marked, "{text}");
    }
}

#[test]
fn destinations_overlap_only_at_component_boundaries() {
    let overlaps = |first: &str, second: &str| {
        let site = Site::with_mapper(&format!(
            r#"[{{"src": "app", "dest": "{first}"}}, {{"src": "app", "dest": "{second}"}}]"#
        ));
        site.load().is_err()
    };
    assert!(overlaps("/a", "/a"));
    assert!(overlaps("/a/b", "/a"));
    assert!(overlaps("a", "~/a/b"));
    assert!(!overlaps("/a", "/ab"));
    assert!(!overlaps("/a", "a"));
}

#[test]
fn missing_mapper_file_is_a_problem_of_its_host_alone() {
    let site = Site::with_hosts(
        r#"[{"ip_address": "gone", "user": "u"}, {"ip_address": "web", "user": "u"}]"#,
    );
    let hosts = site.config().hosts;
    let problem = hosts[0].problem.as_ref().unwrap();
    assert!(problem.contains("path_mapper/gone.json"), "{problem}");
    assert_eq!(hosts[1].problems(), None);
}

#[test]
fn unreadable_mapper_file_is_a_problem_of_its_host_alone() {
    let site = Site::new();
    fs::remove_file(site.path("path_mapper/web.json")).unwrap();
    fs::create_dir(site.path("path_mapper/web.json")).unwrap();
    let problem = site.config().hosts.remove(0).problem.unwrap();
    assert!(problem.starts_with("cannot read mapper file"), "{problem}");
}

#[test]
fn every_missing_source_is_named_in_the_problem() {
    let site = Site::with_mapper(r#"[{"src": "no1", "dest": "/1"}, {"src": "no2", "dest": "/2"}]"#);
    let problem = site.config().hosts.remove(0).problem.unwrap();
    assert!(problem.contains("`no1`") && problem.contains("`no2`"));
    assert!(problem.contains(site.path("no1").to_str().unwrap()));
}

#[test]
fn errors_of_all_files_are_shown_at_once() {
    let site = Site::with_ini("log_pth = a\nbackups = x");
    site.write(
        "connection_info.json",
        r#"[{"ip_address": "web", "user": "u", "prot": 1}, {"ip_address": "db", "user": 5}]"#,
    );
    site.write("path_mapper/web.json", r#"[{"src": "app"}]"#);
    site.write("path_mapper/db.json", "[");
    let mut codes = site.codes();
    codes.sort();
    assert_eq!(
        codes,
        [
            IssueCode::Syntax,
            IssueCode::UnknownKey,
            IssueCode::UnknownKey,
            IssueCode::MissingKey,
            IssueCode::WrongType,
            IssueCode::InvalidValue,
        ]
    );
}

#[test]
fn errors_are_sorted_by_file_and_place() {
    let site = Site::with_ini("compress = perhaps\nlog_pth = a\nbackups = x");
    site.write(
        "connection_info.json",
        r#"[{"ip_address": "web", "user": 1, "prot": 1},
                {"ip_address": "db", "user": "u", "user": "v"}, {"ip_address": "app"}]"#,
    );
    site.write(
        "path_mapper/web.json",
        r#"[{"src": "app"}, {"scr": "app"}]"#,
    );
    site.write("path_mapper/db.json", "[");
    site.write("path_mapper/app.json", r#"[{"dest": "/x"}]"#);
    let places: Vec<(String, usize)> = site
        .issues()
        .iter()
        .map(|issue| (issue.file().unwrap().to_owned(), issue.order().1))
        .collect();
    let mut files: Vec<&str> = places.iter().map(|(file, _)| file.as_str()).collect();
    files.dedup();
    assert_eq!(
        files,
        [
            "config.ini",
            "connection_info.json",
            "path_mapper/web.json",
            "path_mapper/db.json",
            "path_mapper/app.json",
        ]
    );
    assert!(
        places.is_sorted_by_key(|(file, at)| (files.iter().position(|f| f == file), *at)),
        "{places:?}"
    );
}

#[test]
fn missing_hosts_file_stands_behind_the_errors_of_the_settings() {
    let site = Site::with_ini("connection_info_path = no.json\nlog_pth = a");
    assert_eq!(site.codes(), [IssueCode::UnknownKey, IssueCode::Unreadable]);
}
