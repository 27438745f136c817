//! What lastword itself says on stderr: rare, one line each, prefixed, never in the app's way.
//!
//! Stderr is shared with the app's pass-through and with whoever inherited it. It may be closed, full or stopped
//! (Ctrl-S): a message waits at most [`PATIENCE`] for room and is dropped then. No panic, no SIGPIPE (blocked in all
//! threads), no O_NONBLOCK on a description that others share.

/// Says one line.
pub fn say(line: std::fmt::Arguments<'_>) {
    let text = format!("lastword: {line}\n");
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
}
