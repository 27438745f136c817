//! The thread of a drain: a runtime, the transport that the URL names, the loop; and what becomes of the lines if it dies.

use super::{inbox::Inbox, pack::Limits, worker::Worker};
use crate::{
    clock,
    config::{DrainSpec, Target},
    event::{Bell, Event},
    format::{Encoder, Origin},
    say::say,
    transport::{Transport, file, http, relp, tcp, udp, unix},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What the thread of a drain starts with.
pub(super) struct DrainThread {
    pub(super) index: usize,
    pub(super) spec: DrainSpec,
    pub(super) origin: Origin,
    pub(super) seed: u64,
    pub(super) limits: Limits,
    pub(super) inbox: Arc<Inbox>,
    pub(super) bell: Bell,
}

impl DrainThread {
    /// The thread's life.
    pub(super) fn run(mut self) {
        let limits = self.limits;
        match self.spec.target.clone() {
            Target::Http(target) => self.live(move |encoder| http::Http::new(target, encoder.protocol())),
            Target::Tcp(target) => self.live(move |_| tcp::Tcp::new(&target, limits.in_flight as u64)),
            Target::Relp(target) => self.live(move |_| relp::Relp::new(target)),
            Target::Udp(peer) => self.live(move |_| udp::Udp::new(peer)),
            Target::Unix(path) => self.live(move |_| unix::Unix::new(path)),
            Target::File(target) => self.live(move |_| file::File::new(target)),
        }
    }

    /// Runs the loop to its end, and tells the supervisor. A panic kills the drain, not the process.
    pub(super) fn live<T: Transport>(&mut self, transport: impl FnOnce(&Encoder) -> T) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.drain(transport)));
        if !matches!(ended, Ok(Ok(()))) {
            let reason = match ended {
                Ok(Err(error)) => error.to_string(),
                _ => "died of a bug in lastword".to_owned(),
            };
            let mut kept = false;
            self.inbox.order(|state| {
                state.queue.die();
                kept = state.queue.has_heirs();
                state.trouble = Some(reason.clone());
            });
            let fate = if kept { "kept until the end, and sent by no one in this run" } else { "lost" };
            say(format_args!("drain {}: {reason}; from here on its lines are {fate}", self.spec.name));
        }
        self.inbox.lock().done_at = Some(clock::now());
        self.bell.ring(Event::DrainDone(self.index));
    }

    fn drain<T: Transport>(&mut self, transport: impl FnOnce(&Encoder) -> T) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let encoder = Encoder::new(self.spec.format, self.origin.clone()).limited(self.spec.max_message());
        let key = format!("{}-{}", self.origin.run, self.index);
        let speak = |line: &str| say(format_args!("drain {}: {line}", self.spec.name));
        let transport = transport(&encoder);
        let worker = Worker::new(&self.inbox, transport, encoder, self.limits, self.seed, key, &speak);
        runtime.block_on(worker.run());
        // A name lookup that hangs on a blocking thread is not waited for.
        runtime.shutdown_background();
        Ok(())
    }
}
