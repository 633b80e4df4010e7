//! Kernel memory of connections, from `ss` of the package iproute2.

use std::process::Command;

/// The bytes of kernel memory of each TCP socket that `ss`'s `filter` selects: received data, sent
/// data, data in transit, and memory reserved for more, which may be negative. A socket in
/// TIME-WAIT holds none and has no figures.
///
/// # Panics
/// If there is no `ss`, or it fails.
#[track_caller]
pub fn memory(filter: &str) -> Vec<i64> {
    let output = Command::new("ss").args(["-tamnOH", filter]).output();
    let output = output.expect("ss, of the package iproute2");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(held).collect()
}

fn held(line: &str) -> Option<i64> {
    let (_, fields) = line.split_once("skmem:(")?;
    let held = fields.split([',', ')']).filter_map(|field| {
        let digit = field.find(|c: char| c.is_ascii_digit())?;
        let (name, number) = field.split_at(digit);
        // The other fields are limits and counts.
        let is_held = ["r", "t", "f", "w", "o", "bl"].contains(&name);
        // The kernel prints a negative number as unsigned 32 bits.
        is_held.then(|| i64::from(number.parse::<u32>().expect("a number") as i32))
    });
    Some(held.sum())
}
