//! Sessions over libssh2.
