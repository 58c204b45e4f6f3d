//! `pgctl sandbox`: lab nodes on this machine.
