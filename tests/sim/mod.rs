//! The whole run, simulated: one runtime whose time is paused, one seed, and lastword's own code but for Disk, Transport,
//! the app, and threads, which are tasks.
//!
//! A schedule is up to four lives on one disk. In each, the app's script writes into two pipes; framer, publisher, inboxes,
//! queues, back-off, encoders, the TCP transport's window and replay, the spool and its recovery, the lifecycle machine, the
//! budget and the restarts are the real ones. Faults (each seed switches about half of them on) hit the network, the disk,
//! the processes, and lastword itself, which is killed at any moment, with the machine or without. In the last life the
//! faults end after a while, and all must be delivered. Then the judge: see docs/TESTING.md for its articles.
//!
//! `LASTWORD_SEED=7 cargo test --lib sim::` replays a schedule, with a trace if it fails. `LASTWORD_SCHEDULES=1000000` asks
//! for so many. Seeds that once failed are in tests/seeds.txt and come first.

mod app;
mod campaign;
mod disk;
mod judge;
mod life;
mod patience;
mod plan;
mod receiver;
mod requests;
mod seen;
mod shell;
mod stream;
mod text;
mod truth;
mod weather;
mod world;

use self::{seen::Seen, world::World};
use std::{cell::RefCell, fmt, future::Future, rc::Rc, time::Duration};
use tokio::task::JoinHandle;

thread_local! {
    /// What happened, if someone wants to know.
    static TRACE: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    static TASKS: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
}

fn trace(line: impl FnOnce() -> String) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            let time = crate::clock::simulated::begun().map_or(Duration::ZERO, |begun| crate::clock::now() - begun);
            trace.push(format!("{:>10.3} {}", time.as_secs_f64(), line()));
        }
    });
}

/// lastword's own stderr.
pub(crate) fn said(message: fmt::Arguments<'_>) {
    trace(|| format!("lastword: {message}"));
}

/// A thread, as a task. One that panics fails the schedule.
fn spawn(task: impl Future<Output = ()> + 'static) {
    let handle = tokio::task::spawn_local(task);
    TASKS.with_borrow_mut(|tasks| tasks.push(handle));
}

/// Panics if a task did.
async fn check_tasks() {
    let tasks = TASKS.take();
    for task in tasks.into_iter().filter(JoinHandle::is_finished) {
        if let Err(error) = task.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs one schedule; returns what it met, and how much time passed in it.
fn run(seed: u64) -> (Seen, Duration) {
    TASKS.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let _simulated = crate::clock::simulated::begin();
        let begun = crate::clock::now();
        let world = World::new(seed);
        Rc::clone(&world).run().await;
        let time = crate::clock::now() - begun;
        (world.seen.take(), time)
    })
}
