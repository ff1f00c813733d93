//! What the tests of hostsync share.
//!
//! | hosts | what they are |
//! |---|---|
//! | [`Sshd`], [`Dropbear`] | real SSH servers on loopback addresses, each a machine of its own |
//! | [`local::LocalHost`] | a folder of this machine whose sessions run commands as sshd would, without SSH |
//! | [`embedded::EmbeddedHost`] | an SSH server in this process, which fails where a test wants it to |
//!
//! An address such as `127.0.0.11` stands for one host: it has its own host key, client key and home
//! folder ([`Host::dir`]). Sessions start in that folder and have it as `$HOME`. Everything is gone when the
//! value is dropped. As root the servers let in an ordinary user, `hostsync-test`, who is made when missing;
//! otherwise the current user, and then without passwords and without dropbear.
//!
//! | sites | what they are |
//! |---|---|
//! | [`scenario::Scenario`] | a folder with a configuration, from which the program is run |
//! | [`local_site::LocalSite`] | sources, a state and local hosts, for the library |

mod account;
mod agent;
pub mod copied;
mod dropbear;
pub mod embedded;
mod host;
pub mod latency;
pub mod local;
pub mod local_site;
pub mod scenario;
mod sshd;

use std::path::PathBuf;

pub use account::{Account, is_root};
pub use agent::Agent;
pub use dropbear::Dropbear;
pub use host::{Host, run};
pub use sshd::{Sshd, SshdOptions};

/// Path of the program under test, which is built beside every test program.
pub fn program() -> String {
    let test = std::env::current_exe().expect("a test is a program");
    let profile = test.parent().and_then(|deps| deps.parent());
    let program = profile.expect("tests lie in `deps`").join("hostsync");
    program.into_os_string().into_string().expect("plain text")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let kit = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.parent()
        .expect("the kit lies in the repository")
        .to_owned()
}
