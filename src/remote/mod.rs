//! The scripts that run on hosts.
