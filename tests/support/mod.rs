//! Real SSH servers on loopback addresses, each of which looks like a machine of its own.
//!
//! An address such as `127.0.0.11` stands for one host: it has its own host key, client key and home
//! folder ([`Host::dir`]). Sessions start in that folder and have it as `$HOME`. Everything is gone
//! when the value is dropped.
//!
//! As root the servers let in an ordinary user, `hostsync-test`, who is made when missing; otherwise
//! the current user, and then without passwords and without dropbear.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses another part of this"
)]

mod account;
mod agent;
mod dropbear;
mod host;
mod sshd;

pub(crate) use account::{Account, is_root};
pub(crate) use agent::Agent;
pub(crate) use dropbear::Dropbear;
pub(crate) use host::{Host, run};
pub(crate) use sshd::{Sshd, SshdOptions};
