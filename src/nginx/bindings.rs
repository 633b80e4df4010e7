//! Our own bindings of structs with bit-fields. build.rs says why, and checks each bit-field.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    dead_code,
    clippy::all
)]
#![allow(
    unnecessary_transmutes,
    unused_imports,
    clippy::undocumented_unsafe_blocks
)]
#![allow(unused_qualifications)]

include!(concat!(env!("OUT_DIR"), "/request.rs"));
include!(concat!(env!("OUT_DIR"), "/request_layout.rs"));
