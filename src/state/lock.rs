//! One writer at a time.

/// Proof that this process may write the state. Released when dropped.
#[derive(Debug)]
pub struct StateLock;

/// Who holds the lock, for people.
#[derive(Debug)]
pub struct LockHolder;
