//! What threads share memory with. `tests/loom` puts loom's in the place of these, and so tries every order of the steps
//! of the one file that uses them, `drain/gate.rs`.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
