//! Real-time push from nginx.
#![deny(unsafe_code)]
