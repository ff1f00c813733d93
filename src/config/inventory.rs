//! `connection_info.json` and the `[ip].json` mapper files.
