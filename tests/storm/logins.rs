//! Two logins on the same host.
