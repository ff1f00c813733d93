//! Whole commands of the real program against real SSH servers on loopback.

mod bad_input;
mod conflicts;
mod diffs;
mod first_version;
mod forms;
mod hosts;
mod interruption;
mod large_files;
mod logs;
mod machine;
mod main_path;
mod markdown;
mod native_form;
mod old_files;
mod output;
mod prompt;
mod remarks;
mod reshaping;
mod rollback;
mod round_trips;
mod saved_plans;
mod schema;
mod status;
mod untrusted;
mod without_scp;
