//! Storms: kills at moments that chance picks, many runs at once, and disks that fill up, on real SSH
//! servers.
//!
//! How much is tried can be set, for a night of it:
//!
//! | variable | default | |
//! |---|--:|---|
//! | `STORM_KILLS` | 8 | kills, and ten times as many takers of a lock, for agents and for scripts |
//! | `STORM_RACES` | 3 | cases of each kind of runs at the same time |
//! | `STORM_DISKS` | 2 | disks that are filled |
//! | `STORM_SEED` | 1 | seed of the first case; each further case has the next one |
//!
//! Every case prints its seed before it begins. A seed decides trees, victims and delays. The moment that
//! a delay leads to depends on the machine, so one case may have to be run more than once.

mod chance;
mod disks;
mod hosts;
mod locks;
mod logins;
mod races;
mod random_kills;
mod tree;
