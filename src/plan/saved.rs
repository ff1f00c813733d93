//! The plan as a JSON document.
