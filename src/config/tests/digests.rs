use super::site::Site;
use crate::config::config_digest;

#[test]
fn digest_is_the_same_in_another_folder() {
    let [a, b] = [Site::new(), Site::new()].map(|site| config_digest(&site.config()));
    assert_eq!(a, b);
}

#[test]
fn secrets_and_the_order_of_hosts_do_not_count() {
    let a = r#"{"ip_address": "a", "user": "u"}"#;
    let b = r#"{"ip_address": "b", "user": "u"}"#;
    let with_passkey = r#"{"ip_address": "b", "user": "u", "passkey": "s"}"#;
    let digest = |hosts: &str| config_digest(&Site::with_hosts(&format!("[{hosts}]")).config());
    assert_eq!(
        digest(&format!("{a},{b}")),
        digest(&format!("{with_passkey},{a}"))
    );
}

#[test]
fn everything_that_decides_the_outcome_counts() {
    let base = config_digest(&Site::new().config());
    let host =
        |more: &str| Site::with_hosts(&format!(r#"[{{"ip_address": "web", "user": "u"{more}}}]"#));
    let mapper = |src: &str, dest: &str, more: &str| {
        Site::with_mapper(&format!(r#"[{{"src": "{src}", "dest": "{dest}"{more}}}]"#))
    };
    for site in [
        host(r#", "port": 23"#),
        host(r#", "name": "x""#),
        Site::with_hosts(r#"[{"ip_address": "web", "user": "v"}]"#),
        mapper("./app", "/srv/app", ""),
        mapper("app", "/srv/b", ""),
        mapper("app", "/srv/app", r#", "exact": true"#),
        mapper("app", "/srv/app", r#", "exclude": ["x"]"#),
        mapper("app", "/srv/app", r#", "symlinks": "skip""#),
        Site::with_ini("modes = executable"),
        Site::with_ini("max_delete = 51%"),
        Site::with_ini("staging_path = /x"),
    ] {
        assert_ne!(config_digest(&site.config()), base, "{:?}", site.config());
    }
    let same = Site::with_ini("log_path = x\nnumber_of_connections = 2");
    assert_eq!(config_digest(&same.config()), base);
}
