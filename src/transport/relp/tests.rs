//! RELP against a receiver that follows a script, over real sockets.

use super::*;
use crate::{
    config::{HostPort, RelpTarget},
    transport::testing::payload,
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

/// What a receiver does with a message, given its number in the session and its text.
type Script = fn(&mut Wire, u32, &str);

/// A receiver's side of a session.
struct Wire {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Wire {
    /// The next frame as (number, command, data).
    fn frame(&mut self) -> Option<(u32, String, String)> {
        loop {
            let text = String::from_utf8(self.rest.clone()).unwrap();
            let words: Vec<_> = text.splitn(3, ' ').collect();
            if let [txnr, command, tail] = words[..]
                && let Some(digits) = tail.find([' ', '\n'])
            {
                let length: usize = tail[..digits].parse().unwrap();
                let skip = if length == 0 { digits } else { digits + 1 };
                if tail.len() > skip + length {
                    let frame = (txnr.parse().unwrap(), command.to_owned(), tail[skip..skip + length].to_owned());
                    self.rest = tail.as_bytes()[skip + length + 1..].to_vec();
                    return Some(frame);
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(length) if length > 0 => self.rest.extend_from_slice(&buffer[..length]),
                _ => return None,
            }
        }
    }

    fn answer(&mut self, txnr: u32, text: &str) {
        let space = if text.is_empty() { "" } else { " " };
        self.stream.write_all(format!("{txnr} rsp {}{space}{text}\n", text.len()).as_bytes()).unwrap();
    }
}

/// What a receiver got, and whether each session was closed in order.
type Got = (Vec<String>, Vec<bool>);

/// Serves `sessions` sessions in turn; returns the texts that were answered with 200 or by the script, and whether each
/// session was closed in order.
fn serve(opening: &'static str, sessions: usize, script: Script) -> (RelpTarget, JoinHandle<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = HostPort { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let thread = thread::spawn(move || {
        let (mut got, mut closed) = (Vec::new(), Vec::new());
        for _ in 0..sessions {
            let mut wire = Wire { stream: listener.accept().unwrap().0, rest: Vec::new() };
            let mut in_order = false;
            while let Some((txnr, command, data)) = wire.frame() {
                match command.as_str() {
                    "open" => {
                        assert!(txnr == 1 && data.starts_with("relp_version=0\n") && data.ends_with("commands=syslog"));
                        wire.answer(1, opening);
                    }
                    "close" => {
                        wire.answer(txnr, "");
                        wire.stream.write_all(b"0 serverclose 0\n").unwrap();
                        in_order = true;
                        break;
                    }
                    _ => {
                        script(&mut wire, txnr, &data);
                        got.push(data);
                    }
                }
            }
            closed.push(in_order);
        }
        (got, closed)
    });
    (RelpTarget::new(peer), thread)
}

const OPEN: &str = "200 OK\nrelp_version=0\ncommands=syslog";

/// A payload of items of one counted message each.
fn messages(position: u64, texts: &[&str]) -> Payload {
    let items: Vec<_> = texts.iter().map(|text| format!("{} {text}", text.len())).collect();
    payload(position, &items.iter().map(String::as_str).collect::<Vec<_>>())
}

fn confirmed(relp: &mut Relp) -> Option<u64> {
    relp.progress(Instant::now()).map(|progress| progress.upto)
}

#[tokio::test]
async fn every_message_is_confirmed_and_the_session_closed_in_order() {
    let (target, thread) = serve(OPEN, 1, |wire, txnr, _| wire.answer(txnr, "200 OK"));
    let mut relp = Relp::new(target);
    assert_eq!(confirmed(&mut relp), None);
    let payload = messages(0, &["one", "two\nlines", "three"]);
    relp.send(&payload).await.unwrap();
    relp.finish(Instant::now() + Duration::from_secs(5)).await.unwrap();
    assert_eq!(relp.progress(Instant::now()).unwrap().grade, Grade::Confirmed);
    assert_eq!(confirmed(&mut relp), Some(payload.end()));
    assert_eq!(thread.join().unwrap(), (vec!["one".into(), "two\nlines".into(), "three".into()], vec![true]));
}

#[tokio::test]
async fn no_more_messages_than_the_window_go_without_an_answer_and_order_does_not_matter() {
    // It answers when four are there, the last one first.
    let (target, thread) = serve(OPEN, 1, |wire, txnr, _| {
        if txnr % 4 == 1 {
            assert!(wire.rest.is_empty(), "more than the window");
            (txnr - 3..=txnr).rev().for_each(|txnr| wire.answer(txnr, "200 OK"));
        }
    });
    let mut relp = Relp::new(RelpTarget { window: 4, ..target });
    let texts: Vec<_> = (0..40).map(|number| format!("message {number}")).collect();
    let payload = messages(0, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    relp.send(&payload).await.unwrap();
    while confirmed(&mut relp) < Some(payload.end()) {
        relp.watch().await.unwrap();
    }
    drop(relp);
    assert_eq!(thread.join().unwrap().0, texts);
}

#[tokio::test]
async fn the_pieces_of_a_line_are_messages_and_the_last_one_settles_it() {
    let (target, thread) = serve(OPEN, 1, |wire, txnr, text| {
        if text != "b" {
            wire.answer(txnr, "200 OK");
        }
    });
    let mut relp = Relp::new(target);
    relp.send(&payload(100, &["1 x", "3 one3 two1 b"])).await.unwrap();
    relp.watch().await.unwrap();
    assert_eq!(confirmed(&mut relp), Some(103));
    drop(relp);
    assert_eq!(thread.join().unwrap().0, ["x", "one", "two", "b"]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_split_off_after_those_before_it_are_confirmed() {
    let (target, thread) = serve(OPEN, 1, |wire, txnr, _| wire.answer(txnr, "200 OK"));
    let mut relp = Relp::new(RelpTarget { max_message: 600, ..target });
    let failure = relp.send(&messages(0, &["short", &"x".repeat(601)])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Split), "{failure}");
    assert_eq!(confirmed(&mut relp), Some(7));
    drop(relp);
    assert_eq!(thread.join().unwrap().0, ["short"]);
}

#[tokio::test]
async fn a_refused_message_is_found_and_rejected_alone() {
    let (target, thread) = serve(OPEN, 2, |wire, txnr, text| {
        wire.answer(txnr, if text == "bad" { "500 no such thing" } else { "200 OK" });
    });
    let mut relp = Relp::new(target);
    let payload = messages(0, &["one", "bad", "three"]);
    let first = match relp.send(&payload).await {
        Ok(()) => loop {
            if let Err(failure) = relp.watch().await {
                break failure;
            }
        },
        Err(failure) => failure,
    };
    assert!(matches!(first.verdict, Verdict::Retry { resend_from: 5, .. }), "{first:?}");
    assert!(first.reason.contains("refuses a message: 500 no such thing"), "{first}");
    let again = messages(5, &["bad", "three"]);
    let second = relp.send(&again).await.unwrap_err();
    assert!(matches!(second.verdict, Verdict::Reject), "{second:?}");
    assert_eq!(confirmed(&mut relp), Some(5));
    drop(relp);
    assert!(thread.join().unwrap().0.starts_with(&["one".into(), "bad".into()]));
}

#[tokio::test]
async fn a_receiver_that_refuses_the_session_holds_the_drain() {
    let (target, _thread) = serve("500 required command not supported by client", 1, |_, _, _| {});
    let failure = Relp::new(target).send(&messages(0, &["x"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    assert!(failure.reason.contains("500 required command"), "{failure}");
}

#[tokio::test]
async fn an_ended_session_resends_what_has_no_answer() {
    // The first session ends after its second message, which is not answered.
    let (target, thread) = serve(OPEN, 2, |wire, txnr, text| match text {
        "two" if wire.rest.is_empty() => wire.stream.write_all(b"0 serverclose 0\n").unwrap(),
        _ => wire.answer(txnr, "200 OK"),
    });
    let mut relp = Relp::new(target);
    relp.send(&messages(0, &["one", "two"])).await.unwrap();
    let failure = loop {
        if let Err(failure) = relp.watch().await {
            break failure;
        }
    };
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 5, after: None }), "{failure:?}");
    relp.send(&messages(5, &["two", "three"])).await.unwrap();
    relp.finish(Instant::now() + Duration::from_secs(5)).await.unwrap();
    assert_eq!(confirmed(&mut relp), Some(5 + 5 + 7));
    assert_eq!(thread.join().unwrap().0, ["one", "two", "two", "three"]);
}

#[tokio::test]
async fn at_the_deadline_what_has_no_answer_is_not_confirmed() {
    let (target, _thread) = serve(OPEN, 1, |wire, txnr, text| {
        if text != "two" {
            wire.answer(txnr, "200 OK");
        }
    });
    let mut relp = Relp::new(target);
    relp.send(&messages(0, &["one", "two", "three"])).await.unwrap();
    let failure = relp.finish(Instant::now() + Duration::from_millis(300)).await.unwrap_err();
    assert!(failure.reason.contains("did not answer the last 1 messages in time"), "{failure}");
    assert_eq!(confirmed(&mut relp), Some(5));
}
