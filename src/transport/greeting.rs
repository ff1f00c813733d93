//! What the first line of an SSH server tells.

/// Whether a server goes on with what it finds behind a request for login. OpenSSH does; but very
/// old ones may lose what was read by the process that checks the login.
pub fn takes_requests_ahead(banner: &str) -> bool {
    banner
        .strip_prefix("SSH-2.0-OpenSSH_")
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openssh_that_is_not_ancient_takes_requests_ahead() {
        assert!(takes_requests_ahead(
            "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5"
        ));
        assert!(takes_requests_ahead("SSH-2.0-OpenSSH_10.0"));
        for banner in [
            "SSH-2.0-OpenSSH_5.3",
            "SSH-2.0-OpenSSH_for_Windows_9.5",
            "SSH-2.0-dropbear_2022.83",
            "SSH-1.99-OpenSSH_9.2",
            "",
        ] {
            assert!(!takes_requests_ahead(banner), "{banner}");
        }
    }
}
