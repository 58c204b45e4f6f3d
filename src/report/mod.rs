//! Events, plans and problems as text. The only floor that prints.

pub mod diagnostic;
