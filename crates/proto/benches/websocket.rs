//! Compares the WebSocket core with other servers, on the same bytes.
//!
//! A bar is the time for a row's whole stream: copying it out of a socket in memory, and everything
//! that the server does with it. README.md has the table and says how to run this.
#![allow(unexpected_cfgs)] // `all_contenders`, see `contenders`

mod contenders;

use std::any::type_name;
use std::fmt::{self, Display};
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use ::soketto::Parsing;
use ::tungstenite::protocol::frame::FrameHeader;
use divan::Bencher;
use divan::counter::BytesCount;
use proto::websocket::frame::Header;
use proto::websocket::mask::Mask;
use proto::websocket::utf8::Utf8;

use contenders::rows::{ascii, echo_rows, multibyte, receive_rows};
use contenders::*;

fn main() {
    assert_all_agree();
    divan::main();
}

#[divan::bench(args = receiving())]
fn receive(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = echoing())]
fn echo(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = sending())]
fn send(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = greeting())]
fn handshake(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = parsing())]
fn header(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = unmasking())]
fn unmask(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

#[divan::bench(args = validating())]
fn utf8(bencher: Bencher<'_, '_>, case: &Case) {
    (case.run)(bencher);
}

/// One row, run by one contender.
struct Case {
    name: String,
    run: Box<dyn Fn(Bencher<'_, '_>) + Send + Sync>,
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Case {
    /// `bytes` is the number of bytes that `run` processes.
    fn new(
        row: impl Display,
        who: &str,
        bytes: usize,
        run: impl Fn(Bencher<'_, '_>) + Send + Sync + 'static,
    ) -> Self {
        let who = who.rsplit("::").next().unwrap_or(who);
        Self {
            name: format!("{row}: {who}"),
            run: Box::new(move |bencher| run(bencher.counter(BytesCount::new(bytes)))),
        }
    }

    /// A case on a connection that stays open.
    fn of<C: Contender>(
        row: &Row,
        turn: impl Fn(&mut C, &Row) + Copy + Send + Sync + 'static,
    ) -> Self {
        let row = row.clone();
        Self::new(
            row.name,
            type_name::<C>(),
            row.payload_bytes(),
            move |bencher| {
                let mut contender = C::new(Socket::new(&row));
                bencher.bench_local(|| turn(&mut contender, &row));
            },
        )
    }
}

/// The cases of each row: what `$case` gives for each contender.
macro_rules! each_contender {
    ($rows:expr, $case:ident) => {
        $rows
            .iter()
            .flat_map(|row| {
                [
                    $case::<Proto>(row),
                    $case::<Tungstenite>(row),
                    $case::<Fastwebsockets>(row),
                    $case::<Soketto>(row),
                    #[cfg(all_contenders)]
                    $case::<TokioWebsockets>(row),
                    #[cfg(all_contenders)]
                    $case::<Sockudo>(row),
                    #[cfg(all_contenders)]
                    $case::<Yawc>(row),
                ]
            })
            .collect()
    };
}

fn receiving() -> Vec<Case> {
    fn case<C: Contender>(row: &Row) -> Case {
        Case::of::<C>(row, |contender, row| {
            let heard = contender.receive(row.messages.len(), |kind, payload| {
                black_box((kind, payload));
            });
            heard.expect("the client behaves");
        })
    }
    each_contender!(receive_rows(), case)
}

fn echoing() -> Vec<Case> {
    fn case<C: Contender>(row: &Row) -> Case {
        Case::of::<C>(row, |contender, row| {
            let echoed = contender.echo(row.messages.len());
            echoed.expect("the client behaves");
        })
    }
    each_contender!(echo_rows(), case)
}

fn sending() -> Vec<Case> {
    fn case<C: Contender>(row: &Row) -> Case {
        Case::of::<C>(row, |contender, row| {
            for (kind, payload) in &row.messages {
                contender.send(*kind, payload);
            }
        })
    }
    each_contender!(echo_rows(), case)
}

fn greeting() -> Vec<Case> {
    fn case<G: Greeter>() -> Case {
        let row = Row::request();
        Case::new(
            "a browser's",
            type_name::<G>(),
            row.stream.len(),
            move |bencher| {
                bencher
                    .with_inputs(|| Socket::new(&row))
                    .bench_local_values(G::greet);
            },
        )
    }
    vec![
        case::<Proto>(),
        case::<Tungstenite>(),
        case::<Soketto>(),
        #[cfg(all_contenders)]
        case::<TokioWebsockets>(),
        #[cfg(all_contenders)]
        case::<Sockudo>(),
    ]
}

/// Headers only: those of a whole stream, one after the other.
fn parsing() -> Vec<Case> {
    fn case(who: &str, parse: impl Fn(&[u8]) -> u64 + Send + Sync + 'static) -> Case {
        let row = receive_rows().remove(0);
        let frame = 6 + row.messages[0].1.len();
        let headers = 6 * row.messages.len();
        Case::new("of 16 B text", who, headers, move |bencher| {
            bencher.bench_local(|| {
                for begin in (0..row.stream.len()).step_by(frame) {
                    black_box(parse(black_box(&row.stream[begin..])));
                }
            });
        })
    }
    vec![
        case("Proto", |bytes| {
            let (header, _) = Header::parse(bytes).expect("valid").expect("whole");
            black_box(header).payload
        }),
        case("Tungstenite", |bytes| {
            let header = FrameHeader::parse(&mut Cursor::new(bytes));
            let (header, payload) = header.expect("valid").expect("whole");
            black_box(header);
            payload
        }),
        case("Soketto", |bytes| {
            let header = ::soketto::base::Codec::new().decode_header(bytes);
            let Ok(Parsing::Done { value, .. }) = header else {
                panic!("a valid, whole header");
            };
            black_box(value).payload_len() as u64
        }),
    ]
}

const SIZES: [usize; 5] = [16, 128, 4 << 10, 64 << 10, 1 << 20];
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Unmasking only, in place, where a payload begins after a header of 6 to 14 bytes.
fn unmasking() -> Vec<Case> {
    fn case(size: usize, who: &str, unmask: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Case {
        let begin = match size {
            0..126 => 6,
            126..0x1_0000 => 8,
            _ => 14,
        };
        Case::new(format!("{size} B"), who, size, move |bencher| {
            let mut buf = vec![0; begin + size];
            bencher.bench_local(|| unmask(black_box(&mut buf[begin..])));
        })
    }
    SIZES
        .into_iter()
        .flat_map(|size| {
            let source = vec![1; size];
            [
                case(size, "memcpy", move |bytes| {
                    bytes.copy_from_slice(black_box(&source))
                }),
                case(size, "Proto", |bytes| Mask::new(KEY).apply(bytes)),
                case(size, "Fastwebsockets", |bytes| {
                    ::fastwebsockets::unmask(bytes, KEY);
                }),
                #[cfg(all_contenders)]
                case(size, "Sockudo", |bytes| {
                    sockudo_ws::mask::apply_mask(bytes, KEY);
                }),
                #[cfg(all_contenders)]
                case(size, "Yawc", |bytes| ::yawc::mask::apply_mask(bytes, KEY)),
            ]
        })
        .collect()
}

/// UTF-8 validation only.
fn validating() -> Vec<Case> {
    fn case(
        name: &str,
        text: &Arc<[u8]>,
        who: &str,
        is_valid: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Case {
        let text = text.clone();
        let row = format!("{} B, {name}", text.len());
        Case::new(row, who, text.len(), move |bencher| {
            bencher.bench_local(|| assert!(is_valid(black_box(&text))));
        })
    }
    SIZES
        .into_iter()
        .flat_map(|size| [("ASCII", ascii(size)), ("multi-byte", multibyte(size))])
        .flat_map(|(name, text)| {
            // All share one copy: the place of a text in memory makes a difference of up to a
            // fifth.
            let text = Arc::from(text);
            [
                case(name, &text, "std", |text| str::from_utf8(text).is_ok()),
                case(name, &text, "Proto", |text| {
                    let mut utf8 = Utf8::default();
                    utf8.feed(text).is_ok() && utf8.is_complete()
                }),
                #[cfg(all_contenders)]
                case(name, &text, "Sockudo", sockudo_ws::utf8::validate_utf8),
            ]
        })
        .collect()
}
