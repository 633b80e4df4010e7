//! The servers that the benchmark compares do the same work.
#![allow(unexpected_cfgs)] // `all_contenders`

#[path = "../benches/contenders/mod.rs"]
#[allow(dead_code)] // called by the benchmark only
mod contenders;

#[test]
fn all_contenders_of_the_benchmark_agree() {
    contenders::assert_all_agree();
}
