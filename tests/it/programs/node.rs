//! Node: a cluster, whose workers write into the primary's own stdout or into socketpairs that it copies.

use crate::support::{
    stops::{Case, stop_all},
    tools,
    wrapper::Setup,
};

fn cluster(mode: &str) -> Vec<String> {
    vec![tools::node().into(), tools::fixture("cluster.js"), mode.into()]
}

fn stop_cluster(name: &'static str, command: fn(&Setup) -> Vec<String>) {
    stop_all(&Case { name, command, writers: 3, ..Case::default() }, 6);
}

#[test]
fn the_last_words_of_a_node_cluster_arrive() {
    stop_cluster("inherit", |_| cluster("inherit"));
}

#[test]
fn the_last_words_of_node_workers_with_socketpair_stdio_arrive() {
    stop_cluster("silent", |_| cluster("silent"));
    stop_cluster("spawn", |_| cluster("spawn"));
}

#[test]
fn the_last_words_of_node_workers_whose_primary_is_gone_first_arrive() {
    stop_cluster("abrupt", |_| cluster("abrupt"));
}
