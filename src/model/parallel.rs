//! Working on many things at once.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

/// Calls `work` for every item, up to `threads` (at least one) at a time, and returns the results in
/// the order of the items. An item that takes long holds up nothing but its own thread.
pub fn map_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            let sender = sender.clone();
            let (queue, work) = (&queue, &work);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, item)) = next else { break };
                    // Whoever receives it outlives this thread.
                    let _ = sender.send((index, work(item)));
                }
            });
        }
    });
    drop(sender);
    let mut results: Vec<(usize, R)> = results.into_iter().collect();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..50).collect();
        let doubled = map_parallel(&items, 8, |item| {
            std::thread::sleep(std::time::Duration::from_micros(50 - item));
            item * 2
        });
        assert_eq!(
            doubled,
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn slow_item_holds_no_place_but_its_own() {
        let items: Vec<usize> = (0..6).collect();
        let others = std::sync::Mutex::new(0);
        let all_others = std::sync::Condvar::new();
        let was_first = map_parallel(&items, 2, |item| {
            let mut done = others.lock().expect("nobody panics");
            if *item > 0 {
                *done += 1;
                all_others.notify_all();
                return false;
            }
            // Ends once all others are done, or when it has waited for too long.
            let limit = std::time::Duration::from_secs(10);
            let waited = all_others.wait_timeout_while(done, limit, |done| *done < 5);
            waited.expect("nobody panics").1.timed_out()
        });
        assert_eq!(was_first, [false; 6]);
    }

    #[test]
    fn no_items_and_no_threads_are_fine() {
        assert_eq!(
            map_parallel(&[] as &[u8], 0, |item| *item),
            Vec::<u8>::new()
        );
        assert_eq!(map_parallel(&[7], 0, |item| *item), [7]);
    }
}
