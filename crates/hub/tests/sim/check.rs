//! Checks: of a Close when it comes, of the worker after each step, of everything at the end.

use fanout::SlowPolicy;
use hub::Hub;
use hub::outside::Clients as _;
use hub::session::Phase;
use hub::settings::Gap;

use crate::client::{Client, State};
use crate::net::{Stage, net};
use crate::outside::Virtual;

/// The account may exceed its limit by one message, or by what one read of a client has become.
const MOST_AT_ONCE: u64 = 192 << 10;

/// Checks that a client's Close has a cause that the model knows of.
///
/// # Errors
/// What is wrong with it.
pub fn close_is_just(client: &Client, code: u16, reason: &str) -> Result<(), &'static str> {
    let (is_exiting, is_tight, shorts, troubled, forbidden) = net(|net| {
        let socket = &net.sockets[client.at];
        let server = &net.servers[client.ask.server()];
        let forbidden = !server.was_forbidden.is_empty();
        (
            net.is_exiting,
            net.is_tight,
            socket.shorts,
            server.was_troubled,
            forbidden,
        )
    });
    let location = client.location();
    let is_just = match (code, reason) {
        (1000 | 1005, "") => client.close_sent,
        (1002 | 1007 | 1009 | 1003, _) => client.has_misbehaved,
        (1008, reason) if reason.starts_with("client is too slow") => {
            shorts > 0 && location.slow.unwrap_or(SlowPolicy::Close) == SlowPolicy::Close
        }
        (1008, "message comes too slowly") => location.timeout() > 0,
        (1008, "redis forbids the channel") => forbidden,
        (_, "server is restarting") => is_exiting && code == location.drain().code.get(),
        (_, "messages may have been missed") => {
            let is_told = location.gap() != Gap::Keep && code == location.gap_code().get();
            client.gap_since.is_some() && is_told
        }
        (1001, "client is silent") => return is_silent(client),
        (1013, reason) if reason.starts_with("out of websocket_memory") => is_tight,
        (1013, "redis forbids the channel") => forbidden,
        (1013, _) => troubled && location.publish.is_some(),
        _ => false,
    };
    if is_just {
        Ok(())
    } else {
        Err("nothing that happened explains it")
    }
}

/// Checks that the client was silent for the whole timeout.
fn is_silent(client: &Client) -> Result<(), &'static str> {
    let location = client.location();
    let (was_heard_out, shorts) = net(|net| {
        let socket = &net.sockets[client.at];
        (socket.was_heard_out, socket.shorts)
    });
    if !was_heard_out && shorts == 0 && location.publish.is_none() {
        return Err("what it had sent was not read");
    }
    if !was_heard_out {
        // It is not read while it does not take what it is owed, so what it sends is no sign of
        // life.
        return Ok(());
    }
    let (silent, was_held_up) = net(|net| (net.sockets[client.at].silence, net.was_held_up));
    let (ping, timeout) = (location.ping_interval(), location.timeout());
    if timeout == 0 {
        return Err("there is no websocket_timeout");
    }
    // A worker that was held up sends its Ping late, and waits only for the rest of the timeout.
    let patience = match (was_held_up, ping) {
        (false, _) => timeout,
        (true, 0) => 0,
        (true, ping) => timeout.saturating_sub(ping),
    };
    // The session's clock has a resolution of 100 ms.
    if silent + 200 >= patience {
        Ok(())
    } else {
        Err("it was not silent for so long")
    }
}

/// Checks the worker after each step.
///
/// # Errors
/// What does not hold.
pub fn worker(hub: &mut Hub<Virtual>) -> Result<(), String> {
    let wrong = net(|net| net.wrong.take());
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let (mut partial, mut contexts) = (0, 0);
    let ids: Vec<_> = hub.clients().ids().collect();
    for &id in &ids {
        let Some((io, session)) = hub.clients().get(id) else {
            continue;
        };
        let weight = session.weight();
        partial += weight.messages as u64;
        contexts += weight.context as u64;
        let (stage, is_closed) = net(|net| {
            let socket = &net.sockets[io.at];
            (socket.stage, socket.closed.is_some())
        });
        let is_opening = session.phase() == Phase::Opening;
        let is_seated = match stage {
            Stage::Opening(other) => is_opening && other == id,
            Stage::Open(other) => !is_opening && other == id,
            // Its effect has not been performed yet.
            Stage::Asking => is_opening,
            Stage::Parked(_) | Stage::Over => false,
        };
        if !is_seated || is_closed {
            let phase = session.phase();
            return Err(format!(
                "client {id:?} is {phase:?}, its connection {stage:?}"
            ));
        }
    }
    account(hub, ids.len(), partial, contexts)
}

fn account(
    hub: &mut Hub<Virtual>,
    clients: usize,
    partial: u64,
    contexts: u64,
) -> Result<(), String> {
    let census = hub.census();
    let memory = &census.memory;
    if (memory.partial_messages, memory.contexts) != (partial, contexts) {
        return Err(format!(
            "the account has {} bytes of sessions and {} of contexts, they hold {partial} and {contexts}",
            memory.partial_messages, memory.contexts
        ));
    }
    // One event from Redis brings a quarter of the limit and one message at most. So does what
    // waits to be published.
    let held = memory.logs + memory.partial_messages + memory.contexts;
    if held > memory.limit + memory.limit / 4 + MOST_AT_ONCE {
        return Err(format!("{held} bytes are held of {}", memory.limit));
    }
    let counters = census.counters;
    if counters.panics + counters.unframed > 0 {
        return Err("a panic was caught".to_owned());
    }
    if counters.accepted - counters.closed > clients as u64 {
        return Err(format!(
            "{} clients came, {} left",
            counters.accepted, counters.closed
        ));
    }
    Ok(())
}

/// Checks the end, when all clients have left.
///
/// # Errors
/// What is left over.
pub fn nothing_is_left(hub: &mut Hub<Virtual>, clients: &[Client]) -> Result<(), String> {
    nothing_is_held(hub)?;
    let counted = hub.census().counters.skipped;
    let skipped: u64 = clients.iter().map(|client| client.skipped).sum();
    if skipped > counted {
        return Err(format!(
            "{counted} messages were skipped, {skipped} were not heard"
        ));
    }
    for client in clients {
        let stage = net(|net| net.sockets[client.at].stage);
        if stage != Stage::Over || client.state == State::Asking {
            return Err(client.broken(format!("was never answered, or is left over: {stage:?}")));
        }
        net(|net| client.was_taken_before_its_close(net))?;
    }
    let subscribed = net(|net| net.servers.iter().flat_map(|server| server.names()).next());
    match subscribed {
        Some(name) => Err(format!("\"{}\" is still subscribed", name.escape_ascii())),
        None => Ok(()),
    }
}

fn nothing_is_held(hub: &mut Hub<Virtual>) -> Result<(), String> {
    let census = hub.census();
    let memory = &census.memory;
    let unanswered = census
        .redis
        .iter()
        .map(|redis| redis.unanswered as u64)
        .sum();
    let left = [
        ("connections", census.connections as u64),
        ("pending handshakes", census.pending as u64),
        ("channels", census.channels as u64),
        ("feeds", census.feeds as u64),
        ("lagging clients", census.lagging as u64),
        ("bytes of logs", memory.logs),
        ("bytes of sessions", memory.partial_messages),
        ("bytes of contexts", memory.contexts),
        ("unanswered publishes", unanswered),
        ("clients", census.counters.accepted - census.counters.closed),
    ];
    match left.iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(format!("{count} {what} are left over")),
        None => Ok(()),
    }
}
