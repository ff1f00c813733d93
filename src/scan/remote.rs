//! Looking at a host: one exec, whatever its size.
