//! Pure data of fan-out.
#![forbid(unsafe_code)]
