//! Markdown tables of rows and servers.
use crate::fairness::{self, Rate, Share};
use crate::memory;
use crate::peers::Peer;
use crate::run::{Cell, Row};
use crate::scenario::Kind;
use hdrhistogram::Histogram;

/// Work per CPU time relative to the bare loop, with its range.
pub fn ratios(rows: &[Row]) -> String {
    table(by_scenario(rows), |cell| {
        let ratio = cell.ratio;
        format!(
            "**{:.2}** ({:.2}–{:.2})",
            ratio.median, ratio.low, ratio.high
        )
    })
}

/// CPU time of one delivery, echo or handshake.
pub fn costs(rows: &[Row]) -> String {
    table(by_scenario(rows), |cell| {
        format!(
            "{} (bare {})",
            nanoseconds(cell.cost.0.median),
            nanoseconds(cell.cost.1.median)
        )
    })
}

/// Median and 99th percentile of the clients' waits.
pub fn latencies(rows: &[Row]) -> String {
    table(by_scenario(rows), |cell| percentiles(&cell.turns.latency))
}

/// The same for the time until the last subscriber had a message, in scenarios with subscribers.
pub fn last(rows: &[Row]) -> String {
    let fan_outs = by_scenario(rows).zip(rows);
    let fan_outs = fan_outs.filter(|(_, row)| matches!(row.scenario.kind, Kind::Fanout { .. }));
    table(fan_outs.map(|(line, _)| line), |cell| {
        percentiles(&cell.turns.last)
    })
}

fn percentiles(waited: &Histogram<u64>) -> String {
    let at = |quantile| nanoseconds(waited.value_at_quantile(quantile) as f64);
    format!("{} / {}", at(0.5), at(0.99))
}

/// The server's bytes for each idle client.
pub fn memory(rows: &[memory::Row]) -> String {
    table(
        rows.iter().map(|row| (row.client.title(), &row.cells[..])),
        |bytes| match bytes {
            ..1e4 => format!("{bytes:.0} B"),
            _ => format!("{:.1} KB", bytes / 1e3),
        },
    )
}

/// Median, 99th percentile and longest wait, and how much the worker was kept off its core.
pub fn waits(rows: &[fairness::Row]) -> String {
    let lines = rows.iter().map(|row| (row.title, &row.cells[..]));
    table(lines, |waited| {
        let kept_off = waited
            .kept_off
            .map(|part| format!(" ({:.0} %)", 100.0 * part));
        spread(&waited.times) + &kept_off.unwrap_or_default()
    })
}

/// The worker's CPU time within these waits, for the rows that have it.
pub fn used(rows: &[fairness::Row]) -> String {
    let has = |row: &&fairness::Row| {
        let mut found = row
            .cells
            .iter()
            .filter_map(|(_, cell)| cell.as_ref()?.as_ref().ok());
        found.any(|waited| waited.used.is_some())
    };
    let lines = rows
        .iter()
        .filter(has)
        .map(|row| (row.title, &row.cells[..]));
    table(lines, |waited| {
        waited.used.as_ref().map_or("-".to_owned(), spread)
    })
}

fn spread(waited: &Histogram<u64>) -> String {
    format!(
        "{} / {}",
        percentiles(waited),
        nanoseconds(waited.max() as f64)
    )
}

/// Messages per second, and CPU time per message.
pub fn rates(rows: &[(&str, Result<Rate, String>)]) -> String {
    let mut text = "| | messages/s | worker, for each | Redis, for each |\n\
                    | --- | --- | --- | --- |\n"
        .to_owned();
    for (title, rate) in rows {
        text += &match rate {
            Ok(rate) => format!(
                "| {title} | {} | {} | {} |\n",
                hundreds(rate.per_second),
                rate.worker.map_or("-".to_owned(), share),
                share(rate.redis)
            ),
            Err(_) => format!("| {title} | failed | - | - |\n"),
        };
    }
    text
}

/// Rounded to hundreds, with a comma before the last three digits.
fn hundreds(rate: f64) -> String {
    let rate = (rate / 100.0).round() as u64 * 100;
    match rate {
        ..1000 => rate.to_string(),
        _ => format!("{},{:03}", rate / 1000, rate % 1000),
    }
}

fn share(share: Share) -> String {
    format!(
        "{} ({:.0} % of a core)",
        nanoseconds(share.per_message),
        100.0 * share.of_time
    )
}

fn by_scenario(rows: &[Row]) -> impl Iterator<Item = Line<'_, Cell>> {
    rows.iter().map(|row| (row.scenario.title, &row.cells[..]))
}

/// A title and the cell of each server.
type Line<'a, T> = (&'a str, &'a [(Peer, Option<Result<T, String>>)]);

fn table<'a, T: 'a>(
    lines: impl Iterator<Item = Line<'a, T>>,
    show: impl Fn(&T) -> String,
) -> String {
    let mut text = String::new();
    for (i, (title, cells)) in lines.enumerate() {
        if i == 0 {
            let titles: Vec<_> = cells.iter().map(|(peer, _)| peer.title()).collect();
            text += &format!(
                "| | {} |\n|{}\n",
                titles.join(" | "),
                " --- |".repeat(titles.len() + 1)
            );
        }
        let shown = cells.iter().map(|(_, cell)| match cell {
            None => "-".to_owned(),
            Some(Err(_)) => "failed".to_owned(),
            Some(Ok(cell)) => show(cell),
        });
        text += &format!("| {title} | {} |\n", shown.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// Formats with three significant digits.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_a_dash_and_what_failed_says_so() {
        let rows = [memory::Row {
            client: memory::Client::Plain,
            cells: vec![
                (Peer::Module, Some(Ok(571.4))),
                (Peer::Nchan, None),
                (Peer::Lua, Some(Err("gone".to_owned()))),
            ],
        }];
        assert_eq!(
            memory(&rows),
            "| | module, `send` | Nchan | lua-resty |\n| --- | --- | --- | --- |\n\
             | ws | 571 B | - | failed |\n"
        );
    }

    #[test]
    fn rates_are_shown_in_hundreds_with_a_comma() {
        let shown = [40.0, 960.0, 1049.0, 312_960.0].map(hundreds);
        assert_eq!(shown, ["0", "1,000", "1,000", "313,000"]);
    }

    #[test]
    fn three_digits_are_shown() {
        let shown = [999.0, 1234.0, 12_345.0, 123_456.0].map(nanoseconds);
        assert_eq!(shown, ["999 ns", "1.23 µs", "12.3 µs", "123 µs"]);
    }
}
