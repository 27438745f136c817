//! lastword against real processes, real sockets and real servers. Everything goes through the judge ([`support::judge`]):
//! what the app says it wrote is compared with what arrived and with what the report says.
//!
//! A missing tool fails the test that needs it; nothing is skipped. The tests need root (PID namespaces, other users,
//! podman), as a container's build does.

#![expect(clippy::disallowed_methods, reason = "tests let time pass while they wait for processes and sockets")]
#![expect(clippy::panic, reason = "a panic is how a test fails")]
#![expect(unreachable_pub, reason = "a test crate exports nothing; `pub` says what a module offers to the themes")]

mod black_hole;
mod clock;
mod comparison;
mod container;
mod cost_container;
mod drains;
mod exit_code;
mod exit_container;
mod formats;
mod hostile_peers;
mod http_checklist;
mod http_faults;
mod http_nginx;
mod input;
mod isolation;
mod isolation_container;
mod last_writes;
mod leftovers;
mod lifecycle_lines;
mod memory_container;
mod memory_limit;
mod metrics;
mod multiline;
mod names;
mod names_container;
mod old_formats;
mod oracle;
mod passthrough;
mod peers;
mod platform;
mod process;
mod programs;
mod real_servers;
mod refused_certificates;
mod restart;
mod sent_only;
mod spool;
mod spool_commands;
mod spool_disk;
mod spool_vanish;
mod stop;
mod support;
mod syslog_peers;
mod transports;
