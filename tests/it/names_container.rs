//! Names and roots in images that lack what programs usually find: no certificates at all, and a way of looking names up
//! that needs modules of another C library [46].

use crate::support::{
    certificates,
    dns::{Answer, Dns},
    http::HttpSink,
    mortal::{Mortal, Speech},
    podman::{Container, Podman, acquit, alone, debian_image},
    syslog, tools, until,
};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// A container of this image ships over HTTPS, to a name that it has to ask DNS for, and over TLS, to one of its hosts file.
fn ships_by_name(podman: &Podman, image: &str) {
    let dns = Dns::start(Answer::ServerFailure);
    let (http, tls) = (HttpSink::healthy_tls(), Mortal::start(Speech { relp: false, tls: true }, Vec::new()));
    let https = http.url("http").replace("http://127.0.0.1", "https://collector.test");
    let drains = [
        format!("--env=LASTWORD_DRAIN_HTTP={https},ca=/ca.pem"),
        format!("--env=LASTWORD_DRAIN_TCP=syslog+tls://hosts.test:{}#name=tcp,ca=/ca.pem", tls.address().port()),
    ];
    let resolv_conf = format!("--volume={}:/etc/resolv.conf:ro", dns.resolv_conf().display());
    let names = [resolv_conf.as_str(), "--add-host=hosts.test:127.0.0.1"];
    let options = [
        &[&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=5s", "--env=LASTWORD_REPORT=/test/report.json"],
        &names[..],
    ];
    let command = ["/oracle_app", "--record", "/test/record", "--rate", "500", "--on-term", "goodbye:100"];
    let container = Container::start(podman, image, &options.concat(), &command);
    until("names that do not resolve", Duration::from_secs(20), || dns.failures() > 2);
    dns.answers(Answer::Addresses(vec![Ipv4Addr::LOCALHOST]));
    until("lines by HTTPS", Duration::from_secs(20), || http.lines() > 100);
    let (_, code) = container.stop(5);
    assert_eq!(code, 0, "logs: {}", String::from_utf8_lossy(&container.logs().1));
    acquit(&container, [("http", http.collect()), ("tcp", syslog::seen(&tls.collect().0))]);
}

/// `lastword check` in such a container: a server whom no root vouches for is refused, and not for want of roots.
fn knows_the_roots_of_the_world(podman: &Podman, image: &str) {
    let (http, tls) = (HttpSink::healthy_tls(), Mortal::start(Speech { relp: false, tls: true }, Vec::new()));
    let https = http.url("http").replace("http:", "https:");
    let syslog = format!("syslog+tls://{}", tls.address());
    let mut check = podman.command();
    check.args(["run", "--rm", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--network=host"]);
    check.args(["--env=LASTWORD_LOG=debug", "--entrypoint=/lastword", image, "check"]);
    let output = check.args(["--drain", &https, "--drain", &syslog]).output().expect("podman");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).to_lowercase().replace(' ', "");
    assert_eq!(text.matches("notdelivered:").count(), 2, "{text}");
    assert!(text.matches("unknownissuer").count() >= 2, "{text}");
    let count = |log: &str| log.split_once("count=")?.1.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok();
    let counts: Vec<u32> = text.lines().filter(|line| line.contains("compiled_in=true")).filter_map(count).collect();
    assert!(counts.len() >= 2 && counts.iter().all(|&roots| roots > 100), "{counts:?}: {text}");
}

fn bare_files() -> [(&'static str, PathBuf); 3] {
    let lastword = tools::static_lastword();
    let app = lastword.with_file_name("examples").join("oracle_app");
    [("lastword", lastword.to_owned()), ("oracle_app", app), ("ca.pem", certificates::file("ca.pem"))]
}

#[test]
fn an_image_without_certificates_ships_over_https_and_tls_to_names_46() {
    let _alone = alone();
    let podman = Podman::new();
    let dockerfile = "FROM scratch\nCOPY lastword oracle_app ca.pem /\nENTRYPOINT [\"/lastword\", \"--\"]\n";
    podman.build("lastword-test-bare", dockerfile, &bare_files());
    ships_by_name(&podman, "lastword-test-bare");
    knows_the_roots_of_the_world(&podman, "lastword-test-bare");
}

#[test]
fn an_image_with_a_foreign_nsswitch_conf_ships_over_https_and_tls_to_names_46() {
    let _alone = alone();
    let podman = Podman::new();
    debian_image(&podman);
    let dockerfile = "FROM localhost/lastword-test-debian\nCOPY lastword oracle_app ca.pem /\n\
        COPY nsswitch.conf /etc/nsswitch.conf\nENTRYPOINT [\"/lastword\", \"--\"]\n";
    let nsswitch = ("nsswitch.conf", PathBuf::from(tools::fixture("nsswitch.conf")));
    podman.build("lastword-test-nsswitch", dockerfile, &bare_files().into_iter().chain([nsswitch]).collect::<Vec<_>>());
    ships_by_name(&podman, "lastword-test-nsswitch");
}
