//! HTTP/2: what a server may do to a request, and to the connection under it.

use super::{
    http2_server::{Act, Server},
    *,
};
use crate::transport::testing::payload;
use h2::Reason;

const BOTH: &[&str] = &["h2", "http/1.1"];

/// Sends payloads at these positions, all of which must be taken.
async fn send(http: &mut Http, positions: &[u64]) {
    for &position in positions {
        http.send(&payload(position, &["x\n"])).await.unwrap();
    }
    assert_eq!(http.progress(Instant::now()).unwrap().upto, positions.last().unwrap() + 2);
}

fn keys(seen: &[(usize, String)]) -> Vec<(usize, &str)> {
    seen.iter().map(|(number, key)| (*number, key.as_str())).collect()
}

#[tokio::test]
async fn a_server_that_offers_http2_gets_all_requests_on_one_connection() {
    let server = Server::start(BOTH, &[]).await;
    let mut http = server.http();
    send(&mut http, &[0, 2, 4]).await;
    // More than the windows that a server begins with.
    let large = "y".repeat(1 << 20);
    http.send(&payload(6, &[&large])).await.unwrap();
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (0, "key-4"), (0, "key-6")]);
    assert_eq!(server.seen.lock().unwrap()[3].2, large.as_bytes());
}

#[tokio::test]
async fn a_server_without_http2_gets_the_old_one() {
    for protocols in [&["http/1.1"][..], &[]] {
        let server = Server::start(protocols, &[]).await;
        let mut http = server.http();
        for position in [0, 4] {
            http.send(&payload(position, &["old\n"])).await.unwrap();
        }
        assert_eq!(server.seen().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 0]);
    }
}

#[tokio::test]
async fn a_server_that_leaves_costs_no_failure_and_no_duplicate_32() {
    // After an answer, in peace; and under a request that it says it has not seen.
    let server = Server::start(BOTH, &[Act::AnswerAndLeave]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (1, "key-2")]);
    let server = Server::start(BOTH, &[Act::Leave(Reason::NO_ERROR)]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(1, "key-0"), (1, "key-2")]);
}

#[tokio::test]
async fn a_refused_stream_was_not_seen_and_is_tried_again_at_once() {
    let refused = Act::ResetAtOnce(Reason::REFUSED_STREAM);
    let server = Server::start(BOTH, &[refused, refused]).await;
    send(&mut server.http(), &[0]).await;
    // More of them are weather.
    let server = Server::start(BOTH, &[refused; 9]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 0, after: None }), "{failure:?}");
    assert!(failure.reason.ends_with("it broke the request off (REFUSED_STREAM)"), "{}", failure.reason);
}

#[tokio::test]
async fn what_a_server_says_by_a_reset_or_a_goaway_is_an_answer_and_waits_its_turn() {
    let acts = [Act::Answer(204), Act::Reset(Reason::INTERNAL_ERROR), Act::Answer(204)];
    let server = Server::start(BOTH, &acts).await;
    let mut http = server.http();
    send(&mut http, &[0]).await;
    let failure = http.send(&payload(2, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 2, after: None }), "{failure:?}");
    assert!(failure.reason.ends_with("it broke the request off (INTERNAL_ERROR)"), "{}", failure.reason);
    send(&mut http, &[2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")], "the same key, a fresh connection");
    let server = Server::start(BOTH, &[Act::Leave(Reason::ENHANCE_YOUR_CALM)]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(failure.reason.ends_with("it broke the request off (ENHANCE_YOUR_CALM)"), "{}", failure.reason);
}

#[tokio::test]
async fn a_connection_that_broke_under_its_first_request_is_weather_and_under_a_later_one_is_made_anew() {
    let server = Server::start(BOTH, &[Act::Cut]).await;
    let mut http = server.http();
    let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 0, after: None }), "{failure:?}");
    send(&mut http, &[0]).await;
    let server = Server::start(BOTH, &[Act::Answer(204), Act::Cut]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")], "unknown, so sent again");
}

#[tokio::test]
async fn a_server_that_wants_the_old_one_gets_it() {
    let server = Server::start(BOTH, &[Act::ResetAtOnce(Reason::HTTP_1_1_REQUIRED)]).await;
    let mut http = server.http();
    http.send(&payload(0, &["old\n"])).await.unwrap();
    http.send(&payload(4, &["old\n"])).await.unwrap();
    assert_eq!(server.seen().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn silence_and_windows_that_stay_shut_are_bounded_and_the_next_try_has_a_fresh_connection() {
    for act in [Act::Silence, Act::NoWindow] {
        let server = Server::start(BOTH, &[Act::Answer(204), act]).await;
        let mut http = server.http();
        send(&mut http, &[0]).await;
        http.patience = Patience::new(Some(Duration::from_millis(200)));
        let large = "x".repeat(200_000);
        let failure = http.send(&payload(2, &[&large])).await.unwrap_err();
        assert!(failure.reason.ends_with("no answer within 0.2 s"), "{}", failure.reason);
        http.patience = Patience::new(Some(Duration::from_secs(5)));
        http.send(&payload(2, &[&large])).await.unwrap();
        assert_eq!(server.seen().last(), Some(&(1, "key-2".to_owned())), "{act:?}");
    }
}

#[tokio::test]
async fn a_request_that_was_dropped_is_asked_again_over_a_fresh_connection() {
    let server = Server::start(BOTH, &[Act::Answer(204), Act::Silence]).await;
    let mut http = server.http();
    send(&mut http, &[0]).await;
    let again = payload(2, &["x\n"]);
    {
        let mut request = std::pin::pin!(http.send(&again));
        while server.seen().len() < 2 {
            let _ = timeout(Duration::from_millis(1), &mut request).await;
        }
    }
    http.send(&again).await.unwrap();
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")]);
}

#[tokio::test]
async fn an_endless_answer_is_bounded_33() {
    let server = Server::start(BOTH, &[Act::Endless]).await;
    let mut http = server.http();
    send(&mut http, &[0, 2]).await;
}
