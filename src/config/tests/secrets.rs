use super::site::{Site, rendered};

const SECRET: &str = "hunter2";

#[test]
fn no_error_shows_a_passkey() {
    for text in [
        // An error elsewhere, in the same line and in the next.
        r#"[{"ip_address": "web", "passkey": "hunter2", "usr": "u"}]"#,
        "[{\"passkey\": \"hunter2\",\n\"ip_address\": \"web\", \"port\": 0, \"user\": \"u\"}]",
        // An error about the key itself.
        r#"[{"ip_address": "web", "user": "u", "paskey": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "password": ["hunter2"]}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": {"a": "hunter2"}}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a", "passkey": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a", "passkey_env": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey_env": "=hunter2"}]"#,
        // Objects and lists in the wrong places.
        r#"["hunter2"]"#,
        r#"{"web": "hunter2"}"#,
        // Comments.
        "[ // \"passkey\": \"hunter2\"\n{\"ip_address\": \"web\"}]",
        // Broken in all kinds of ways.
        r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": hunter2}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey" "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": 'hunter2'}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "\hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a"hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2\ud800"}]"#,
        r#"[{"ip_address": "web", "user": "u", "paskey": "hunter2" "port": 2}]"#,
        r#"[{"ip_address": "web" "user": "u", passkey: "hunter2"}]"#,
        "[{\"ip_address\": \"web\", \"user\": \"u\", \"passkey\":\n\n\"hunter2\" x}]",
        "hunter2",
    ] {
        let error = Site::with_hosts(text).load().expect_err(text);
        let shown = rendered(&error);
        assert!(!shown.contains(SECRET), "{text}\n{shown}");
        assert!(shown.contains("connection_info.json"), "{shown}");
    }
}

#[test]
fn no_error_of_a_file_with_foreign_bytes_shows_a_passkey() {
    let site = Site::new();
    site.write(
        "connection_info.json",
        b"[{\"ip_address\": \"web\", \"user\": \"\xff\", \"passkey\": \"hunter2\"}]",
    );
    let shown = rendered(&site.load().unwrap_err());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("UTF-8"));
}

#[test]
fn no_error_of_another_file_shows_a_passkey() {
    let ini = Site::with_ini("passkey = hunter2");
    let mapper = Site::with_mapper(r#"[{"src": "app", "dest": "/a", "passkey": "hunter2"}]"#);
    for site in [ini, mapper] {
        let shown = rendered(&site.load().unwrap_err());
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn debug_output_does_not_show_a_passkey() {
    let site = Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2"}]"#);
    assert!(!format!("{:?}", site.load().unwrap()).contains(SECRET));
}

#[test]
fn rest_of_the_text_is_shown() {
    let site = Site::with_hosts(
        r#"[{"ip_address": "web", "user": "me", "passkey": "hunter2", "prot": 1}]"#,
    );
    let shown = rendered(&site.load().unwrap_err());
    assert!(
        shown.contains(r#"{"ip_address": "web", "user": "me", "passkey": "*******", "prot""#),
        "{shown}"
    );
}
