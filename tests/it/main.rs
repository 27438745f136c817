//! lastword against real processes, real sockets and real servers. Everything goes through the judge ([`support::judge`]):
//! what the app says it wrote is compared with what arrived and with what the report says.
//!
//! A missing tool fails the test that needs it; nothing is skipped. The tests need root (PID namespaces, other users,
//! podman), as a container's build does.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests spawn threads and processes and wait for them"))]

mod container;
mod drains;
mod input;
mod oracle;
mod passthrough;
mod process;
mod real_servers;
mod stop;
mod support;
