//! The file formats of the state folder.
