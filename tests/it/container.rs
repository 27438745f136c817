//! Containers, really run by podman: the static binary as ENTRYPOINT, a stop by the platform, and what arrived.
//!
//! The static binaries are built by `scripts/static-build ci`; the Debian base image comes from debootstrap and is kept
//! in target/container. Nothing but the loopback is used when the containers run.

use crate::support::{
    pair::Pair,
    podman::{Container, Podman, acquit, alone, debian_image},
    tools, until,
};
use std::{fs, path::Path, time::Duration};

fn acquit_pair(container: &Container<'_>, pair: Pair) {
    acquit(container, [("http", pair.http.collect()), ("tcp", pair.tcp.collect())]);
}

#[test]
fn a_scratch_image_with_nothing_but_two_binaries_loses_no_word_at_podman_stop() {
    let _alone = alone();
    let podman = Podman::new();
    let lastword = tools::static_lastword();
    let app = lastword.parent().expect("a directory").join("examples/oracle_app");
    let dockerfile = "FROM scratch\nCOPY lastword oracle_app /\nENTRYPOINT [\"/lastword\", \"--\"]\n";
    podman.build("lastword-test-scratch", dockerfile, &[("lastword", lastword), ("oracle_app", app.as_path())]);
    let pair = Pair::start();
    let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
    let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
    let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=5s", "--env=LASTWORD_REPORT=/test/report.json"];
    let command =
        ["/oracle_app", "--record", "/test/record", "--rate", "500", "--on-term", "goodbye:1500", "--exit", "3"];
    let container = Container::start(&podman, "lastword-test-scratch", &options, &command);
    until("the app to write", Duration::from_secs(20), || container.record().done() > 200);
    let (took, code) = container.stop(5);
    assert_eq!(code, 3, "logs: {}", String::from_utf8_lossy(&container.logs().1));
    assert!(took < Duration::from_secs(5), "podman stop took {took:?}");
    assert_eq!(container.record().goodbyes, ["app"]);
    acquit_pair(&container, pair);
}

#[test]
fn the_worker_in_a_shell_loop_says_goodbye_in_a_debian_container() {
    let _alone = alone();
    let podman = Podman::new();
    let lastword = tools::static_lastword();
    debian_image(&podman);
    let (worker, numbered) = (tools::fixture("worker.py"), tools::fixture("numbered.py"));
    let dockerfile = "FROM localhost/lastword-test-debian\nCOPY lastword /usr/local/bin/\nCOPY worker.py numbered.py /\n\
        ENTRYPOINT [\"lastword\", \"--\"]\n\
        CMD [\"sh\", \"-c\", \"while true; do python3 worker.py; sleep 1; done\"]\n";
    let files = [("lastword", lastword), ("worker.py", Path::new(&worker)), ("numbered.py", Path::new(&numbered))];
    podman.build("lastword-test-worker", dockerfile, &files);
    let pair = Pair::start();
    let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
    let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
    let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=5s", "--env=LASTWORD_REPORT=/test/report.json"];
    let container = Container::start(&podman, "lastword-test-worker", &options, &[]);
    until("the worker to write", Duration::from_secs(20), || container.record().done() > 20);
    let (took, code) = container.stop(5);
    assert_eq!(code, 143, "logs: {}", String::from_utf8_lossy(&container.logs().1));
    assert!(took < Duration::from_secs(5), "podman stop took {took:?}");
    let record = container.record();
    assert!(!record.ready.is_empty() && record.ready == record.goodbyes, "{record:?}");
    acquit_pair(&container, pair);
}

/// The image of our own Dockerfile, its build stage replaced by the binary that was built outside.
fn our_own_image(podman: &Podman, lastword: &Path) {
    let stage = tempfile::tempdir().expect("a temporary directory");
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    fs::create_dir_all(stage.path().join("etc/ssl/certs")).expect("a fresh directory");
    fs::write(stage.path().join(certificates), "").expect("a fresh file");
    fs::copy(lastword, stage.path().join("lastword")).expect("the binary is there");
    let stage = format!("--build-context=build={}", stage.path().display());
    podman.build_in(tools::crate_root(), "lastword-test-binary", &[&stage]);
}

#[test]
fn the_images_in_examples_are_built_and_say_goodbye() {
    let _alone = alone();
    let podman = Podman::new();
    let lastword = tools::static_lastword();
    debian_image(&podman);
    for (example, last) in [("python", "goodbye after "), ("shell", "worker: goodbye")] {
        // Again for each: a build without layers takes the images of its other stages along when it tidies up.
        our_own_image(&podman, lastword);
        let directory = tools::crate_root().join("examples").join(example);
        let tag = format!("lastword-test-{example}");
        let arguments = [
            "--build-arg=LASTWORD_IMAGE=localhost/lastword-test-binary",
            "--build-arg=BASE_IMAGE=localhost/lastword-test-debian",
        ];
        podman.build_in(&directory, &tag, &arguments);
        let pair = Pair::start();
        let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
        let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
        let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=8s"];
        let container = Container::start(&podman, &tag, &options, &[]);
        until("its first lines", Duration::from_secs(20), || pair.tcp.messages() > 1);
        let (took, _) = container.stop(8);
        assert!(took < Duration::from_secs(8), "podman stop took {took:?}");
        let passed = String::from_utf8_lossy(&container.logs().0).into_owned();
        for seen in [pair.tcp.collect(), pair.http.collect()] {
            let lines = seen.units.iter().map(|unit| String::from_utf8_lossy(&unit.text).into_owned() + "\n");
            assert_eq!(lines.collect::<String>(), passed);
        }
        assert!(passed.lines().last().is_some_and(|line| line.starts_with(last)), "{passed}");
    }
}
