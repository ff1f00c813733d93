//! A value that several threads wait for.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A value that one thread makes while others wait for it.
#[derive(Debug)]
pub struct Awaited<T> {
    value: OnceLock<T>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl<T> Default for Awaited<T> {
    fn default() -> Self {
        Self {
            value: OnceLock::new(),
            is_over: Mutex::new(false),
            over: Condvar::new(),
        }
    }
}

impl<T> Awaited<T> {
    /// Makes the value and wakes those who wait for it. One that was made before stays.
    pub fn fulfil(&self, make: impl FnOnce() -> T) {
        // They are woken by a panic, too.
        let _waking = Waking(self);
        let _ = self.value.set(make());
    }

    /// The value, if it comes within `patience`.
    ///
    /// # Panics
    /// When making it has.
    pub fn wait_for(&self, patience: Duration) -> Option<&T> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .over
            .wait_timeout_while(is_over, patience, |is_over| !*is_over);
        let (is_over, _) = waited.unwrap_or_else(PoisonError::into_inner);
        is_over.then(|| self.made())
    }

    /// The value, whenever it comes.
    ///
    /// # Panics
    /// When making it has.
    pub fn wait(&self) -> &T {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.over.wait_while(is_over, |is_over| !*is_over));
        self.made()
    }

    fn made(&self) -> &T {
        self.value.get().expect("only a panic makes no value")
    }
}

/// Wakes all who wait when it is dropped.
struct Waking<'a, T>(&'a Awaited<T>);

impl<T> Drop for Waking<'_, T> {
    fn drop(&mut self) {
        *self
            .0
            .is_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.0.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_who_wait_get_the_value() {
        let awaited = Awaited::default();
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| scope.spawn(|| *awaited.wait()));
            assert_eq!(awaited.wait_for(Duration::from_millis(1)), None);
            awaited.fulfil(|| 7);
            assert_eq!(waiting.map(|thread| thread.join().ok()), [Some(7); 3]);
        });
        assert_eq!(awaited.wait_for(Duration::ZERO), Some(&7));
    }

    #[test]
    fn value_that_cannot_be_made_leaves_nobody_waiting() {
        let awaited: Awaited<u8> = Awaited::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| *awaited.wait());
            let making = scope.spawn(|| awaited.fulfil(|| panic!("it cannot")));
            assert!(making.join().is_err());
            assert!(waiting.join().is_err());
        });
    }
}
