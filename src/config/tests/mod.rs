#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod digests;
mod finding;
mod hosts_file;
mod mapper_files;
mod native_form;
mod remarks;
mod robustness;
mod secrets;
mod selecting;
mod settings_file;
mod site;
