//! Panics of the product, wherever they are: in a call, or in a task that nobody waits for.

use std::panic;
use std::sync::{Mutex, Once};

/// Where tests are, whose panics are their failures.
const OF_TESTS: [&str; 2] = ["/tests/", "/tests.rs"];

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps in mind every panic from now on.
pub fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            if !OF_TESTS.iter().any(|part| place.contains(part)) {
                SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(panic.to_string());
            }
            before(panic);
        }));
    });
}

/// The panics so far.
pub fn seen() -> Vec<String> {
    SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}
