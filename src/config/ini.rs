//! `config.ini`, read as the old program reads it.
