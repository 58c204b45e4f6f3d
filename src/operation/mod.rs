//! Procedures on a live cluster.

pub mod status;
