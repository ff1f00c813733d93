//! Nothing but a place for the dependency that builds libFuzzer: `libfuzzer.a` in the folder of its
//! build script, which `tests/fuzz.sh` links to the targets.
//!
//! It is not a dependency of the targets, since it wants the crate `cc` with other features than the
//! rest. All C that hostsync depends on, OpenSSL with it, would be built once more for that.
