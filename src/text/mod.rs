//! Words: YAML, quoting, suggestions, diagnostics, framing.

pub mod diagnostic;
pub mod frame;
pub mod quote;
pub mod suggest;
pub mod yaml;
