//! The SCP stream.
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::{Aborted, ExecIo, Input};

/// stub
#[derive(Debug)]
pub enum Content { /// p
    Path(PathBuf), /// b
    Bytes(Vec<u8>) }
/// stub
#[derive(Debug)]
pub enum ScpRecord {
    /// s
    EnterDir { /// n
        name: Vec<u8>, /// n
        mode: u32, /// n
        mtime: Option<i64> },
    /// s
    File { /// n
        name: Vec<u8>, /// n
        mode: u32, /// n
        mtime: Option<i64>, /// n
        size_bytes: u64, /// n
        content: Content },
    /// s
    LeaveDir,
}
/// stub
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("scp")]
pub struct ScpError;
/// stub
#[derive(Debug)]
pub struct ScpReport { /// n
    pub content_bytes: u64 }
/// stub
#[derive(Debug)]
pub struct ScpUpload<I>(I);
impl<I: Iterator<Item = ScpRecord>> ScpUpload<I> {
    /// stub
    pub fn new(_nonce: &str, records: I) -> Self { Self(records) }
    /// stub
    pub fn finish(self) -> Result<ScpReport, ScpError> { todo!() }
}
impl<I: Iterator<Item = ScpRecord>> ExecIo for ScpUpload<I> {
    fn next_input(&mut self, _: &mut Vec<u8>) -> Result<Input, Aborted> { todo!() }
    fn output(&mut self, _: &[u8]) -> Result<ControlFlow<()>, Aborted> { todo!() }
}
