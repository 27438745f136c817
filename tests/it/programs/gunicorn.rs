//! gunicorn with two workers: requests under way are answered after the stop, and all that workers and master say arrives.

use crate::support::{
    ms,
    pair::Pair,
    stops::{side_by_side, within_budget},
    tools, until,
    wrapper::children,
};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("gunicorn listens");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("gunicorn reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("gunicorn answers");
    answer
}

#[test]
fn the_access_log_and_the_last_words_of_gunicorn_and_its_workers_arrive() {
    side_by_side(3, 6, |index| stop_gunicorn(index % 2 == 1));
}

fn stop_gunicorn(pid1: bool) {
    let gunicorn = tools::program("/usr/bin/gunicorn", "gunicorn");
    let pair = Pair::start();
    let setup = pair.setup().pid1(pid1).stop_timeout(10);
    let socket = setup.path("socket");
    let config = tools::fixture("web.py");
    let fixtures = Path::new(&config).parent().expect("a directory").display().to_string();
    let bind = format!("unix:{}", socket.display());
    let mut run = setup.start(&[gunicorn, "-c", &config, "--chdir", &fixtures, "-b", &bind, "web:app"]);
    until("both workers to be there", LIMIT, || {
        String::from_utf8_lossy(&run.stderr()).matches("Booting worker with pid").count() == 2
    });
    for number in 0..30 {
        assert!(get(&socket, &format!("/number-{number}")).ends_with("hello\n"));
    }
    // One request is under way in a worker when the stop comes.
    let slow = thread::spawn(move || get(&socket, "/slow"));
    until("the slow request to begin", LIMIT, || String::from_utf8_lossy(&run.stdout()).contains("begun /slow"));
    let master = children(run.pid)[0];
    let workers = children(master);
    run.stop();
    let done = run.finish(LIMIT);
    let context = format!("pid1 {pid1}");
    assert_eq!(done.code(), 0, "{context}: {}", done.err());
    within_budget(&done, 10, &context);
    assert!(slow.join().expect("no panic").ends_with("hello\n"), "{context}: the slow request was not answered");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let count = |word: &str| out.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count("\"GET /number-"), count("served /number-"), count("\"GET /slow")), (30, 30, 1), "{out}");
    let gone: BTreeSet<&str> = out.lines().filter_map(|line| line.strip_prefix("last words of worker ")).collect();
    assert_eq!(gone.len(), 2, "{out}");
    for worker in workers {
        until("the workers to be gone", ms(100), || !Path::new(&format!("/proc/{worker}")).exists());
    }
    pair.acquit_foreign(&done, &["last words of the master", "Handling signal: term", "Shutting down: Master"]);
}
