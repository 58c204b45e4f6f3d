//! topology

pub mod hba;
pub mod rto;
pub mod scram;
pub mod selector;
pub mod service;
pub mod tuning;
