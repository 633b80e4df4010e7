//! A plot for README: bars of each server's ratio, grouped by scenario.
use std::fmt::Write as _;

use crate::peers::Peer;
use crate::run::Row;

const WIDTH: f64 = 860.0;
/// Where the bars begin. The names are left of it.
const LEFT: f64 = 170.0;
/// Space for the number at the end of a bar.
const RIGHT: f64 = 60.0;
const BAR: f64 = 15.0;
const TITLE: f64 = 28.0;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";

/// Plots the ratios of all rows. Nothing if there are none.
pub fn ratios(rows: &[Row]) -> String {
    let values = rows.iter().flat_map(bars).map(|(_, ratio)| ratio);
    let scale = (WIDTH - LEFT - RIGHT) / values.fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = 34.0;
    for row in rows {
        let bars: Vec<_> = bars(row).collect();
        if bars.is_empty() {
            continue;
        }
        y += TITLE;
        text(
            &mut body,
            10.0,
            y - 9.0,
            "font-weight=\"bold\"",
            row.scenario.title,
        );
        for (peer, ratio) in bars {
            bar(&mut body, y, peer, ratio, ratio * scale);
            y += BAR;
        }
    }
    let one = LEFT + scale;
    let height = y + 10.0;
    let mut heading = String::new();
    text(
        &mut heading,
        10.0,
        20.0,
        "",
        "Work per CPU time of the server; the bare loop, by libc's calls, is 1.00",
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{heading}{body}\
         <line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"34\" y2=\"{y}\" stroke=\"#333333\" \
         stroke-dasharray=\"4 3\"/>\n</svg>\n"
    )
}

fn bars(row: &Row) -> impl Iterator<Item = (Peer, f64)> {
    row.cells.iter().filter_map(|(peer, cell)| {
        let cell = cell.as_ref()?.as_ref().ok()?;
        (*peer != Peer::Control).then_some((*peer, cell.ratio.median))
    })
}

fn bar(out: &mut String, y: f64, peer: Peer, ratio: f64, length: f64) {
    let color = match peer {
        Peer::Module => "#2b6cb0",
        Peer::ModuleUring => "#63b3ed",
        Peer::Before | Peer::BeforeUring => "#bee3f8",
        // Not a server that anyone would choose, so it is paler.
        Peer::InPlace => "#e2e8f0",
        _ => "#a0aec0",
    };
    text(out, 10.0, y + BAR - 4.0, "", &peer.title().replace('`', ""));
    let drawn = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{color}\"/>",
        BAR - 3.0
    );
    debug_assert!(drawn.is_ok(), "a String takes all");
    text(
        out,
        LEFT + length + 5.0,
        y + BAR - 4.0,
        "",
        &format!("{ratio:.2}"),
    );
}

fn text(out: &mut String, x: f64, y: f64, more: &str, words: &str) {
    let drawn = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {FONT} {more}>{words}</text>"
    );
    debug_assert!(drawn.is_ok(), "a String takes all");
}
