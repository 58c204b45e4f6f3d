//! Real nodes: from nothing to a cluster that takes writes, and what happens when things go wrong on the way.
//!
//! Every test has nodes of its own, on a network of its own, and needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests say what they measured")]

mod first_light;
mod interrupted;
mod lab;
mod readme;
mod wrong;
