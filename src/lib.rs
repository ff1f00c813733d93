//! Declarative file distribution over SSH: compare, plan, review, apply.
//!
//! One controller pushes local files and folders to many hosts. A plan says beforehand what would
//! change on which host, and why; an apply does exactly that and records what the hosts confirmed.
//!
//! # The map of the house
//!
//! Imports only go downward in this list; `tests/layering/` fails on one that goes up.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | parses the command line, runs one command, turns the outcome into an exit code |
//! | [`view`] | turns plans, reports and events into text, Markdown, JSON and progress bars |
//! | [`apply`] | executes a plan: stage, commit, confirm, record |
//! | [`plan`] | the plan: goals, what is gathered for them, the pure function that builds it, its file format |
//! | [`source`] | reads local sources: trees, digests, contents |
//! | [`state`] | what was written last: manifests, serials, the lock |
//! | [`remote`] | what hosts are asked to do: the programs that run there, their requests and answers |
//! | [`transport`] | connections: sessions, host keys, errors; the library behind SSH in a folder of its own |
//! | [`config`] | the configuration files, all of which end in one [`config::Config`] |
//! | [`model`] | host names, paths, digests, trees, events: the vocabulary of all the others |
//!
//! The library never touches the terminal, the environment or the home folder: the command line
//! passes in what it needs.

pub mod apply;
pub mod cli;
pub mod config;
pub mod model;
pub mod plan;
pub mod remote;
pub mod source;
pub mod state;
pub mod transport;
pub mod view;
