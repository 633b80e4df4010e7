//! What must have happened by now. It is checked when the worker's timer fires, because what is due
//! is done then. It is not checked while the worker is held up.

use hub::Hub;
use hub::outside::Clients as _;
use hub::session::Phase;
use hub::settings::{Gap, Location};

use crate::client::Client;
use crate::net::{Socket, Stage, net};
use crate::outside::Virtual;

/// A handshake, or a post, is answered within this time.
const ANSWER_MS: u64 = 5_000;
/// A 101 is taken within this time.
const OPENING_MS: u64 = 10_000;
/// A lost link is reported within this time, then its clients are closed one by one.
const GRACE_MS: u64 = 5_000;
/// A client has this time after its Close, and twice as much if it has just taken the last bytes.
const LINGER_MS: u64 = 4_000;
/// Covers the sessions' clock, rounded twice, and a timer that handles only so many sessions at a
/// time.
const SLACK_MS: u64 = 300;

/// Checks that no deadline was missed.
///
/// # Errors
/// The one that was missed.
pub fn missed(hub: &mut Hub<Virtual>, clients: &[Client]) -> Result<(), String> {
    for client in clients {
        let (stage, since, now) = net(|net| {
            let socket = &net.sockets[client.at];
            (socket.stage, socket.since, net.now.saturating_sub(SLACK_MS))
        });
        let late = match stage {
            Stage::Asking | Stage::Over => None,
            Stage::Parked(_) => (now > since + ANSWER_MS).then_some("its answer"),
            Stage::Opening(_) => (now > since + OPENING_MS).then_some("its end"),
            Stage::Open(id) => {
                let phase = hub.clients().get(id).map(|(_, session)| session.phase());
                open(client, phase, now)
            }
        };
        if let Some(what) = late {
            return Err(client.broken(format!("waits in vain for {what}")));
        }
    }
    Ok(())
}

fn open(client: &Client, phase: Option<Phase>, now: u64) -> Option<&'static str> {
    net(|net| {
        let socket = &net.sockets[client.at];
        match phase {
            Some(Phase::Open) => {
                let since = net
                    .is_exiting
                    .then_some(net.exiting_since.max(socket.since));
                due_while_open(client, socket, since, now)
            }
            Some(Phase::Lingering) if socket.down.is_empty() => {
                (now > socket.since + LINGER_MS).then_some("its end, after its Close")
            }
            _ => None,
        }
    })
}

fn due_while_open(
    client: &Client,
    socket: &Socket,
    exiting_since: Option<u64>,
    now: u64,
) -> Option<&'static str> {
    let location: &Location = client.location();
    if exiting_since.is_some_and(|since| now > since + location.drain().over) {
        return Some("its Close, as the worker exits");
    }
    let gap = client.gap_since.map(|since| since.max(socket.since));
    if location.gap() != Gap::Keep
        && gap.is_some_and(|gap| now > gap + GRACE_MS + location.drain().over)
    {
        return Some("word of a gap");
    }
    // Taking bytes from a full socket counts as a sign of life, and what the client sends must be
    // read first. A client that is told to go anyway is not judged.
    let is_going = exiting_since.is_some() || gap.is_some();
    let may_be_judged =
        !is_going && socket.shorts == 0 && socket.up.is_empty() && location.timeout() > 0;
    let silent_since = socket.sent_at.max(socket.since);
    if may_be_judged && location.publish.is_none() && now > silent_since + location.timeout() {
        return Some("its Close, as it is silent");
    }
    None
}
