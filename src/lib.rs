//! pgctl: provisions and runs PostgreSQL HA clusters on plain Linux nodes over SSH.
//!
//! # The map
//!
//! Floors; imports only go down (`tests/laws.rs` checks it). Floors 1 to 3 and [`plan`] are pure:
//! no I/O beyond reading local files. [`remote`] alone talks to nodes, [`report`] alone prints.
//!
//! | floor | module | what |
//! |---|---|---|
//! | 8 | [`cli`] | one file a command: its arguments, its help, its `run` |
//! | 7 | [`report`] | events and plans → terminal, plain lines, JSON; failures with hints |
//! | 6 | [`operation`] | procedures on a live cluster: status |
//! | 5 | [`engine`] | gather, probe, apply; order, lock, events |
//! | 4 | [`remote`] | the only door to a node: SSH, known hosts, tunnels |
//! | 4 | [`plan`] | build desired state, select nodes, diff against the observed |
//! | 3 | [`resource`] | one file a kind: what to look at, what differs, how to change it |
//! | 3 | [`live`] | what runs now: Patroni, etcd, pgBackRest; parsing only |
//! | 2 | [`playbook`] | ordered stages of resources, as data |
//! | 2 | [`template`] | minijinja environment, filters, embedded assets |
//! | 2 | [`topology`] | clusters, instances, services; the arithmetic of Postgres: tuning, HBA |
//! | 1 | [`inventory`] | YAML with positions, variables, precedence, parameters |
//! | 1 | [`facts`] | the facts script and the reading of its output |
//! | 1 | [`text`] | words: YAML, quoting, suggestions, diagnostics, framing |
//! | – | [`sandbox`] | lab nodes on this machine; used by `cli` only |
//!
//! # The way data flows
//!
//! `inventory` → [`topology::Topology`]; nodes → `engine::gather` → [`facts::Facts`] and
//! [`live::Live`]; both with the playbook → `plan::build` → desired resources per node and stage;
//! nodes → `engine::probe` → [`resource::Observed`]; `plan::diff` → [`plan::Plan`];
//! `engine::apply` → events → `report`.
//!
//! The laws that every change keeps are in `tests/laws.rs`.

pub mod cli;
pub mod engine;
pub mod facts;
pub mod inventory;
pub mod live;
pub mod operation;
pub mod plan;
pub mod playbook;
pub mod remote;
pub mod report;
pub mod resource;
pub mod sandbox;
pub mod template;
pub mod text;
pub mod topology;
