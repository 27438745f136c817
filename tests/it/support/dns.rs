//! A name server of our own (RFC 1035, UDP) on port 53 of a loopback address: it answers what the script says, and a
//! `resolv.conf` leads to it.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// What it says to a question for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These, in this order.
    Addresses(Vec<Ipv4Addr>),
    /// It can't tell now.
    ServerFailure,
}

/// A running name server.
pub struct Dns {
    answer: Arc<Mutex<Answer>>,
    failures: Arc<AtomicUsize>,
    directory: TempDir,
}

impl Dns {
    /// Answers every name with this.
    pub fn start(answer: Answer) -> Self {
        super::tools::root();
        // The whole of 127/8 is the machine's own; tests of one time take different addresses.
        let mut hosts = (1..=u8::MAX).map(|last| Ipv4Addr::new(127, 53, 0, last));
        let (socket, host) = hosts
            .find_map(|host| Some((UdpSocket::bind((host, 53)).ok()?, host)))
            .expect("port 53 of some loopback address is free");
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("resolv.conf"), format!("nameserver {host}\noptions timeout:1\n"))
            .expect("a fresh file");
        let dns = Self { answer: Arc::new(Mutex::new(answer)), failures: Arc::default(), directory };
        let (answer, failures) = (Arc::clone(&dns.answer), Arc::clone(&dns.failures));
        // Ends with the tests' process.
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, sender)) = socket.recv_from(&mut question) {
                let answer = answer.lock().expect("no panic while held").clone();
                failures.fetch_add(usize::from(answer == Answer::ServerFailure), Ordering::SeqCst);
                let _ = socket.send_to(&reply(&question[..length], &answer), sender);
            }
        });
        dns
    }

    /// From now on it says this.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().expect("no panic while held") = answer;
    }

    /// Questions that it could not answer so far.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// A resolv.conf(5) that names it alone.
    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
    }

    /// Words before a command for which that is /etc/resolv.conf.
    pub fn launcher(&self) -> Vec<String> {
        let script = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", self.resolv_conf().display());
        ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

/// To one question, as resolvers send them: no compression in it. IPv6 addresses (AAAA) are none.
fn reply(question: &[u8], answer: &Answer) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|&byte| byte == 0).expect("a name ends with the root") + 1;
    let is_a = question[name_end..name_end + 2] == [0, 1];
    let (code, addresses) = match answer {
        Answer::ServerFailure => (2, &[][..]),
        Answer::Addresses(addresses) if is_a => (0, &addresses[..]),
        Answer::Addresses(_) => (0, &[][..]),
    };
    let count = u8::try_from(addresses.len()).expect("a few");
    // The question's id; an authoritative answer, recursion as asked; one question, so many answers.
    let mut reply = [&question[..2], &[0x84 | (question[2] & 1), 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]].concat();
    reply.extend_from_slice(&question[12..name_end + 4]);
    for address in addresses {
        // The name of the question (a pointer to it), A, IN, for no time at all, four bytes.
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}
