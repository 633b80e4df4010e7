//! A shell whose sockets are vectors. Each file of tests uses a part of it.
#![allow(dead_code)]

use fanout::{
    ChannelId, ClientId, FlushResult, FormatId, NameKind, Published, Registry, SlowClass,
    SlowPolicy, WriteOutcome,
};

pub const PATIENT: SlowClass = SlowClass {
    send_queue: 1 << 30,
    policy: SlowPolicy::Close,
};

/// A registry whose clients' sockets are vectors with limited room.
#[derive(Default)]
pub struct Shell {
    pub registry: Registry,
    pub wires: Vec<(Vec<u8>, usize)>,
    pub writes: usize,
    pub out: FlushResult,
}

impl Shell {
    pub fn channel(&mut self, name: &str) -> ChannelId {
        self.registry.channel(0, NameKind::Channel, name.as_bytes())
    }

    pub fn join_muted(&mut self, names: &[&str], class: SlowClass) -> ClientId {
        let channels: Vec<_> = names.iter().map(|name| self.channel(name)).collect();
        let client = ClientId(self.wires.len() as u32);
        let socket = client.0 as i32;
        self.wires.push((Vec::new(), usize::MAX));
        self.registry
            .join(client, socket, &channels, FormatId(0), class, true);
        client
    }

    pub fn join(&mut self, names: &[&str], class: SlowClass) -> ClientId {
        let client = self.join_muted(names, class);
        assert!(self.registry.unmute(client));
        client
    }

    pub fn leave(&mut self, client: ClientId) -> Vec<ChannelId> {
        let mut emptied = Vec::new();
        self.registry.leave(client, &mut emptied);
        emptied
    }

    pub fn publish(&mut self, name: &str, message: &str) -> Published {
        let channel = self.channel(name);
        self.registry.publish(channel, &mut |_, to| {
            to.extend_from_slice(message.as_bytes());
            true
        })
    }

    pub fn flush_some(&mut self, budget: usize) -> bool {
        let Some(feed) = self.registry.next_dirty() else {
            return true;
        };
        let (wires, writes) = (&mut self.wires, &mut self.writes);
        let send = |_, client: ClientId, bytes: &[u8]| {
            *writes += 1;
            let (wire, room) = &mut wires[client.0 as usize];
            let taken = bytes.len().min(*room);
            *room -= taken;
            wire.extend_from_slice(&bytes[..taken]);
            if taken == bytes.len() {
                WriteOutcome::All
            } else {
                WriteOutcome::Part(taken)
            }
        };
        self.registry.flush(feed, budget, send, &mut self.out);
        self.registry.next_dirty().is_none()
    }

    pub fn flush(&mut self) -> FlushResult {
        while !self.flush_some(1000) {}
        std::mem::take(&mut self.out)
    }

    pub fn room(&mut self, client: ClientId, bytes: usize) {
        self.wires[client.0 as usize].1 = bytes;
    }

    /// The socket takes everything again: writes what is unsent.
    pub fn drain(&mut self, client: ClientId) {
        self.room(client, usize::MAX);
        while let Some(bytes) = self.registry.unsent(client).map(<[u8]>::to_vec) {
            self.wires[client.0 as usize].0.extend_from_slice(&bytes);
            self.registry.sent(client, bytes.len(), 0);
        }
    }

    pub fn wire(&mut self, client: ClientId) -> String {
        String::from_utf8(std::mem::take(&mut self.wires[client.0 as usize].0)).unwrap()
    }
}
