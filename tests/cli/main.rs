//! Whole commands of the real program against real SSH servers on loopback.

#[path = "../support/latency.rs"]
mod latency;
#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod bad_input;
mod conflicts;
mod copied;
mod diffs;
mod first_version;
mod forms;
mod hosts;
mod interruption;
mod kills;
mod large_files;
mod logs;
mod machine;
mod main_path;
mod markdown;
mod native_form;
mod old_files;
mod output;
mod prompt;
mod reshaping;
mod rollback;
mod round_trips;
mod saved_plans;
mod scenario;
mod schema;
mod status;
mod without_scp;
