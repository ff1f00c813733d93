//! The SCP stream.
