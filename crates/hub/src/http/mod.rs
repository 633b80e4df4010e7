//! Plain HTTP: publishing, and the worker's counters.

pub mod publish;
pub mod status;
