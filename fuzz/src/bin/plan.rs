//! Whatever stands in a saved plan.
//!
//! Digests are not compared here, or hardly anything would get past them.

#![cfg_attr(fuzzing, no_main)]

use hostsync::plan::document;
use hostsync_fuzz::{is_harmless, target};

fn plan(bytes: &[u8]) {
    match document::from_json(bytes) {
        Ok(plan) => {
            let written = document::to_json(&plan);
            let again =
                document::from_json(written.as_bytes()).expect("what was written can be read");
            assert_eq!(document::to_json(&again), written);
        }
        Err(error) => {
            let text = error.to_string();
            is_harmless(&text);
            assert!(text.len() <= 1024 + 16 * bytes.len(), "{text}");
        }
    }
}

target!(plan);
