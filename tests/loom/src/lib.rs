//! The inbox's gate (`src/drain/gate.rs`) under loom, which runs every order of the steps of a few threads: two publishers with three
//! pushes, and a sender that looks, arms the gate and sleeps as `drain/worker.rs` does. A sleeper that nobody wakes is a
//! deadlock, which loom reports.
//!
//! The same models are run on copies of the file with a bug in it each (`build.rs`), and must fail.
#![allow(dead_code, clippy::all, missing_docs)]

pub mod sync {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

/// As `tokio::sync::Notify` with one that waits: a ring is kept until it is heard.
#[derive(Debug)]
pub struct OneRing {
    rung: loom::sync::Mutex<bool>,
    heard: loom::sync::Condvar,
    /// A planted bug: a ring is not kept.
    forgets: bool,
}

impl OneRing {
    fn new(forgets: bool) -> Self {
        Self { rung: loom::sync::Mutex::new(false), heard: loom::sync::Condvar::new(), forgets }
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = !self.forgets;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
            if self.forgets {
                return;
            }
        }
        *rung = false;
    }
}

/// What goes on around the gate, and a bug in that.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// The intake is closed before the last publisher has published.
    pub closes_early: bool,
    /// The sender looks whether the gate is closed before it looks what is ready, and not under the same lock.
    pub looks_twice: bool,
    /// See [`OneRing`].
    pub forgets_rings: bool,
}

/// The models, for one copy of the file.
#[macro_export]
macro_rules! model {
    () => {
        use loom::{sync::Arc, thread};

        #[derive(Debug, Default)]
        struct Lines {
            ready: usize,
            room: usize,
            closed: bool,
        }

        impl Bell for crate::OneRing {
            fn ring(&self) {
                crate::OneRing::ring(self);
            }
        }

        /// The sender: takes what is ready until the gate is closed and nothing is left. As `Worker::next`.
        fn send(gate: &Gate<Lines, crate::OneRing>, mark: usize, around: crate::Around) -> usize {
            let mut sent = 0;
            loop {
                let closed_before = around.looks_twice && gate.lock().closed;
                let mut lines = gate.lock();
                if closed_before {
                    return sent;
                }
                if lines.ready == 0 && lines.closed {
                    return sent;
                }
                if lines.ready < mark && !lines.closed {
                    lines.arm(mark);
                    drop(lines);
                    gate.bell().wait();
                    continue;
                }
                let taken = std::mem::take(&mut lines.ready);
                sent += taken;
                lines.room += taken;
                gate.let_in(lines);
            }
        }

        fn publish(gate: &Gate<Lines, crate::OneRing>) {
            gate.wait(|lines| lines.closed || lines.room > 0, |_| None);
            gate.push(|lines| {
                lines.room = lines.room.saturating_sub(1);
                lines.ready += 1;
                lines.ready
            });
        }

        /// Two publishers, three lines; the intake is closed behind the last one. All three are sent, whoever runs when.
        /// `mark` is what the sender sleeps for, `room` what there is at first.
        pub fn nothing_is_lost_at_the_close(mark: usize, room: usize, around: crate::Around) {
            let ring = crate::OneRing::new(around.forgets_rings);
            let gate = Arc::new(Gate::new(Lines { room, ..Lines::default() }, ring));
            let one = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || {
                    publish(&gate);
                    publish(&gate);
                })
            };
            let two = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || {
                    if around.closes_early {
                        gate.order(|lines| lines.closed = true);
                    }
                    publish(&gate);
                    one.join().unwrap();
                    gate.order(|lines| lines.closed = true);
                })
            };
            let sent = send(&gate, mark, around);
            assert_eq!(sent, 3, "nothing is lost");
            two.join().unwrap();
        }

        /// Two publishers, three lines, and nothing else that could wake the sender: no line waits for the next event.
        pub fn every_push_is_heard() {
            let lines = Lines { room: 3, ..Lines::default() };
            let gate = Arc::new(Gate::new(lines, crate::OneRing::new(false)));
            for count in [2, 1] {
                let gate = Arc::clone(&gate);
                thread::spawn(move || (0..count).for_each(|_| publish(&gate)));
            }
            let mut sent = 0;
            while sent < 3 {
                let mut lines = gate.lock();
                match std::mem::take(&mut lines.ready) {
                    0 => {
                        lines.arm(1);
                        drop(lines);
                        gate.bell().wait();
                    }
                    taken => sent += taken,
                }
            }
        }

        /// A publisher that waits for room goes on when the gate is closed, though nobody takes anything.
        pub fn the_close_lets_a_blocked_publisher_go() {
            let gate = Arc::new(Gate::new(Lines::default(), crate::OneRing::new(false)));
            let publisher = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || publish(&gate))
            };
            gate.order(|lines| lines.closed = true);
            publisher.join().unwrap();
            assert_eq!(gate.lock().ready, 1, "it is in the queue, and in the accounts");
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/all.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a model in every order; how many there were.
    fn every_order(model: impl Fn() + Send + Sync + 'static) -> usize {
        let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&runs);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            model();
        });
        runs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// In a process of its own, which a deadlock under loom may abort: this model fails, as it should.
    fn is_found(test: &str, model: impl Fn() + Send + Sync + 'static) {
        const INSIDE: &str = "LASTWORD_LOOM_INSIDE";
        if std::env::var_os(INSIDE).is_some() {
            every_order(model);
            return;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", &format!("tests::{test}"), "--nocapture"]).env(INSIDE, "1").env("RUST_BACKTRACE", "0");
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "the bug was not found");
        assert!(said.contains("deadlock; threads") || said.contains("nothing is lost"), "it failed otherwise: {said}");
    }

    #[test]
    fn nothing_is_lost_at_the_close_in_any_order() {
        for (mark, room) in [(1, 9), (2, 9), (1, 1)] {
            let runs = every_order(move || gate::nothing_is_lost_at_the_close(mark, room, NONE));
            println!("{runs} orders, with the mark at {mark} and room for {room}");
            assert!(runs > 500, "{runs} orders");
        }
    }

    #[test]
    fn every_push_is_heard_in_any_order() {
        let runs = every_order(gate::every_push_is_heard);
        println!("{runs} orders");
        assert!(runs > 500, "{runs} orders");
    }

    #[test]
    fn a_blocked_publisher_is_let_go_in_any_order() {
        let runs = every_order(gate::the_close_lets_a_blocked_publisher_go);
        println!("{runs} orders");
        assert!(runs >= 3, "{runs} orders");
    }

    /// A test of its own for each bug, named after it.
    macro_rules! found {
        ($($name:ident: $model:expr;)*) => {
            $(#[test]
            fn $name() {
                is_found(stringify!($name), $model);
            })*
        };
    }

    const NONE: Around = Around { closes_early: false, looks_twice: false, forgets_rings: false };
    found! {
        a_close_before_the_last_push_is_found:
            || gate::nothing_is_lost_at_the_close(1, 9, Around { closes_early: true, ..NONE });
        a_sender_that_looks_twice_is_found:
            || gate::nothing_is_lost_at_the_close(1, 9, Around { looks_twice: true, ..NONE });
        a_ring_that_is_not_kept_is_found:
            || gate::nothing_is_lost_at_the_close(1, 9, Around { forgets_rings: true, ..NONE });
        a_look_at_the_mark_before_the_push_is_found:
            looks_at_the_mark_before_it_publishes::every_push_is_heard;
        a_mark_that_must_be_passed_is_found: || rings_above_the_mark_alone::nothing_is_lost_at_the_close(1, 1, NONE);
        an_order_without_a_ring_is_found: || rings_no_bell_for_an_order::nothing_is_lost_at_the_close(2, 9, NONE);
        an_order_that_wakes_no_publisher_is_found: wakes_no_publisher_for_an_order::the_close_lets_a_blocked_publisher_go;
        a_publisher_that_is_not_counted_is_found: || counts_no_publisher_that_waits::nothing_is_lost_at_the_close(1, 1, NONE);
    }
}
