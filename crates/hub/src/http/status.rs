//! `websocket_status`: the worker's counters as JSON.

use serde::Serialize;

use crate::answer::Response;

/// The status of a worker. Counters count from its start.
#[derive(Serialize)]
pub struct Status<'a> {
    /// Process id of the worker that answers. Each worker counts for itself.
    pub worker_pid: i32,
    /// Its number, from 0.
    pub worker: usize,
    /// Clients that got their 101, including those that are closing.
    pub connections: usize,
    /// Handshakes that wait for Redis.
    pub pending: usize,
    /// Subscribed channels and patterns.
    pub channels: usize,
    /// Distinct lists of channels and formats.
    pub feeds: usize,
    /// Clients that cannot be written to now.
    pub lagging: usize,
    /// Counters.
    pub counters: &'a crate::counters::Counters,
    /// Refused handshakes, by reason.
    pub refused: &'a crate::counters::Refusals,
    /// The Redis servers.
    pub redis: Vec<RedisStatus>,
    /// Bytes held for clients.
    pub memory: MemoryStatus,
}

/// One Redis server.
#[derive(Serialize)]
pub struct RedisStatus {
    /// Its address, without credentials.
    pub server: String,
    /// The subscriber link is usable.
    pub subscriber: bool,
    /// The publisher link is usable.
    pub publisher: bool,
    /// Publishes that await an answer.
    pub unanswered: usize,
}

/// The memory account, in bytes.
#[derive(Serialize)]
pub struct MemoryStatus {
    /// `websocket_memory`.
    pub limit: u64,
    /// Messages that some client has not taken yet.
    pub logs: u64,
    /// Partial messages from clients, unparsed input, and control and echo frames that clients have
    /// not taken.
    pub partial_messages: u64,
    /// Queues and pending replies of the links, and posts that wait for a link.
    pub replies: u64,
    /// The compression history of clients' messages.
    pub contexts: u64,
}

/// The answer.
pub fn response(status: &Status<'_>) -> Response {
    let body = serde_json::to_vec_pretty(status).unwrap_or_default();
    let headers = vec![("Cache-Control", "no-store".into())];
    Response {
        status: 200,
        headers,
        content_type: "application/json",
        body,
    }
}
