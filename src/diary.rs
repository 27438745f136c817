//! The diary: what lastword tells of the app's life *in the drains*, between the app's own lines.
//!
//! - The start stands before the app's first line, so that line waits for it (microseconds).
//! - The exit of an app that leaves nobody behind stands after the app's last line: it is kept until the pipes are read.
//! - All that is told is published before the drains are closed: the last entry is the flush.
//! - An entry never waits for room in a queue.

use crate::{
    config::{Config, LifecycleLines, one_line},
    publisher::Publisher,
    supervisor::Notice,
};

/// Writes entries while it is open. Does nothing without drains, or with `--lifecycle-lines off` or `stderr`.
pub(crate) struct Diary {
    publisher: Option<Publisher>,
    /// To be told when the pipes are read.
    kept: Option<String>,
}

impl Diary {
    pub(crate) fn new(config: &Config, publisher: Option<&Publisher>) -> Self {
        let publisher = publisher.filter(|_| config.lifecycle_lines == LifecycleLines::On).cloned();
        Self { publisher, kept: None }
    }

    /// The app is about to be started: `Started` or `SpawnFailed` follows.
    pub(crate) fn begin(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.hold();
        }
    }

    pub(crate) fn note(&mut self, notice: &Notice) {
        let Some(publisher) = &self.publisher else { return };
        if !notice.is_lifecycle() {
            return;
        }
        let text = one_line(&notice.to_string());
        match notice {
            Notice::AppExited { left: Some(0), .. } => {
                self.kept = Some(text);
                return;
            }
            Notice::Flushing(_) | Notice::Restarting { .. } | Notice::EnoughRestarts(_) => {
                if let Some(kept) = self.kept.take() {
                    publisher.say(&kept);
                }
            }
            _ => {}
        }
        publisher.say(&text);
        if matches!(notice, Notice::Started { .. } | Notice::SpawnFailed(_)) {
            publisher.open();
        }
    }

    /// The drains are about to be closed: nothing can be told from here on.
    pub(crate) fn close(&mut self) {
        self.publisher = None;
    }
}
