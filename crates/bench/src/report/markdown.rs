//! Markdown tables of rows and servers.
use std::fmt::Write as _;

use crate::peers::Peer;
use crate::run::{Cell, Row};

/// Work per CPU time as a ratio to the bare loop's, with its range.
pub fn ratios(rows: &[Row]) -> String {
    table(rows, |cell| {
        let ratio = cell.ratio;
        format!(
            "**{:.2}** ({:.2}–{:.2})",
            ratio.median, ratio.low, ratio.high
        )
    })
}

/// CPU time of one delivery, echo or handshake.
pub fn costs(rows: &[Row]) -> String {
    table(rows, |cell| {
        format!(
            "{} (bare {})",
            nanoseconds(cell.cost.0.median),
            nanoseconds(cell.cost.1.median)
        )
    })
}

/// Median and 99th percentile of what clients waited.
pub fn latencies(rows: &[Row]) -> String {
    table(rows, |cell| {
        let at = |quantile| nanoseconds(cell.latency.value_at_quantile(quantile) as f64);
        format!("{} / {}", at(0.5), at(0.99))
    })
}

fn table(rows: &[Row], show: impl Fn(&Cell) -> String) -> String {
    let mut text = String::new();
    let peers: Vec<Peer> = rows
        .iter()
        .flat_map(|row| row.cells.iter().map(|cell| cell.0))
        .fold(Vec::new(), |mut peers, peer| {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
            peers
        });
    let mut line = |cells: Vec<String>| writeln!(text, "| {} |", cells.join(" | "));
    let titles = peers.iter().map(|peer| peer.title().to_owned());
    let mut wrote = line(std::iter::once(String::new()).chain(titles).collect());
    wrote = wrote.and(line(vec!["---".to_owned(); peers.len() + 1]));
    for row in rows {
        let cells = row.cells.iter().map(|(_, cell)| match cell {
            None => "-".to_owned(),
            Some(Err(_)) => "failed".to_owned(),
            Some(Ok(cell)) => show(cell),
        });
        let title = row.scenario.title.to_owned();
        wrote = wrote.and(line(std::iter::once(title).chain(cells).collect()));
    }
    debug_assert!(wrote.is_ok(), "a String takes all");
    text
}

/// With three digits that matter.
fn nanoseconds(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0} ns"),
        ..1e4 => format!("{:.2} µs", value / 1e3),
        ..1e5 => format!("{:.1} µs", value / 1e3),
        ..1e6 => format!("{:.0} µs", value / 1e3),
        ..1e7 => format!("{:.2} ms", value / 1e6),
        ..1e8 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.0} ms", value / 1e6),
    }
}
