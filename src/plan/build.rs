//! The function that builds a plan for one host. Pure.
