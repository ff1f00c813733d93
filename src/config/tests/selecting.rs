use miette::Diagnostic as _;

use super::site::Site;
use crate::config::{SelectError, select};

fn selected(patterns: &[&str]) -> Result<Vec<String>, SelectError> {
    let site = Site::with_hosts(
        r#"[{"ip_address": "10.0.0.1", "user": "u", "name": "web1", "groups": ["web"]},
                {"ip_address": "10.0.0.2", "user": "u", "name": "web2", "groups": ["web"]},
                {"ip_address": "10.0.1.1", "user": "u", "name": "db"}]"#,
    );
    let config = site.config();
    let patterns: Vec<_> = patterns.iter().map(|&p| p.to_owned()).collect();
    let hosts = select(&config, &patterns)?;
    Ok(hosts.iter().map(|host| host.id.to_string()).collect())
}

#[test]
fn no_pattern_picks_all() {
    assert_eq!(selected(&[]).unwrap().len(), 3);
}

#[test]
fn names_addresses_groups_and_globs_pick_in_the_order_of_the_configuration() {
    assert_eq!(selected(&["db", "web1"]).unwrap(), ["web1", "db"]);
    assert_eq!(selected(&["10.0.0.2"]).unwrap(), ["web2"]);
    assert_eq!(selected(&["web", "web1"]).unwrap(), ["web1", "web2"]);
    assert_eq!(selected(&["10.0.0.*"]).unwrap(), ["web1", "web2"]);
    assert_eq!(selected(&["{db,web2}"]).unwrap(), ["web2", "db"]);
}

#[test]
fn pattern_that_matches_nothing_is_an_error_with_a_suggestion() {
    let error = selected(&["db", "wbe1"]).unwrap_err();
    assert_eq!(error.to_string(), "no host matches `wbe1`");
    assert_eq!(error.help().unwrap().to_string(), "did you mean `web1`?");
    assert!(selected(&["x*"]).is_err());
    assert!(matches!(
        selected(&["["]),
        Err(SelectError::BadPattern { .. })
    ));
}
