use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::site::Site;

fn remarks(site: &Site) -> Vec<String> {
    let remarks = site.load().unwrap().remarks;
    remarks.iter().map(ToString::to_string).collect()
}

#[test]
fn autosync_is_remarked_upon_where_it_is_on() {
    let site = Site::with_ini("backups = 3\nautosync = yes");
    let remarks_on = remarks(&site);
    assert_eq!(remarks_on.len(), 1, "{remarks_on:?}");
    assert!(
        remarks_on[0].contains("config.ini:3: `autosync` is on"),
        "{remarks_on:?}"
    );
    assert!(remarks(&Site::with_ini("autosync = no")).is_empty());
}

#[test]
fn mapper_file_without_a_host_is_remarked_upon() {
    let site = Site::with("path_mapper/wbe.json", "[");
    let remarks = remarks(&site);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].contains("path_mapper/wbe.json: no host"),
        "{remarks:?}"
    );
}

#[test]
fn passkey_that_others_may_read_is_remarked_upon() {
    let site = Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": "s"}]"#);
    let file = site.path("connection_info.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(remarks(&site)[0].contains("mode 640"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(remarks(&site).is_empty());
    site.write(
        "connection_info.json",
        r#"[{"ip_address": "web", "user": "u"}]"#,
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(remarks(&site).is_empty());
}

#[test]
fn known_hosts_that_others_may_write_and_keys_that_they_may_read_are_remarked_upon_once() {
    let site = Site::with_ini("known_hosts_path = known_hosts");
    site.write(
        "connection_info.json",
        r#"[{"ip_address": "web", "user": "u", "identity_file": "key"},
            {"ip_address": "db", "user": "u", "identity_file": "key"}]"#,
    );
    site.write("path_mapper/db.json", "[]");
    for (known_hosts, key, expected) in [
        (0o644, 0o600, &[][..]),
        (0o664, 0o600, &["known_hosts: decides"]),
        (0o600, 0o604, &["key: is a private key"]),
    ] {
        for (name, mode) in [("known_hosts", known_hosts), ("key", key)] {
            site.write(name, "x");
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let remarks = remarks(&site);
        assert_eq!(remarks.len(), expected.len(), "{remarks:?}");
        for (remark, part) in remarks.iter().zip(expected) {
            assert!(remark.contains(part), "{remarks:?}");
        }
    }
}
