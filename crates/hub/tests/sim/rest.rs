//! The end of each schedule: everything settles, all clients leave, and nothing is left over.

use crate::action::Action;
use crate::check;
use crate::client::State;
use crate::net::{Source, net};
use crate::redis;
use crate::settings::{CHANNELS, SERVERS};
use crate::world::World;

impl World {
    /// A number that is the same for two runs of one schedule.
    pub fn digest(&mut self) -> u64 {
        let counters = serde_json::to_string(self.hub.census().counters).unwrap_or_default();
        let bytes = counters.bytes();
        bytes.fold(self.steps, |digest, byte| {
            digest.wrapping_mul(31) ^ u64::from(byte)
        })
    }

    /// The end of each schedule: everything works again, and everybody must have heard everything.
    /// Then all leave, and nothing may be left over.
    pub fn come_to_rest(&mut self) {
        self.heal();
        self.rest(15_000);
        self.last_words();
        self.all_have_heard(true);
        self.all_leave();
        self.rest(20_000);
        if self.wrong.is_none() {
            let left = check::nothing_is_left(&mut self.hub, &self.clients);
            self.note(left);
        }
        self.exit();
    }

    fn heal(&mut self) {
        net(|net| {
            net.servers.iter_mut().for_each(redis::Server::heal);
            for socket in &mut net.sockets {
                socket.room = socket.room.max(16 << 10);
            }
        });
        for client in &mut self.clients {
            client.is_eager = true;
        }
    }

    /// Lets this much time pass, with everything that happens in it.
    fn rest(&mut self, ms: u64) {
        let end = net(|net| net.clock) + ms;
        while self.wrong.is_none() {
            if !self.settle_down(20_000) {
                return self.note(Err("it does not come to rest".to_owned()));
            }
            let left = end.saturating_sub(net(|net| net.clock));
            if left == 0 {
                return;
            }
            let wait = self.timer_in().unwrap_or(left).min(left);
            net(|net| net.clock += wait);
            self.event(0);
        }
    }

    /// Everything happens that needs no time. After that, nobody may be owed anything that needs
    /// none. Returns false if `most_rounds` were not enough.
    pub fn settle_down(&mut self, most_rounds: usize) -> bool {
        for _ in 0..most_rounds {
            self.step(Action::Flow);
            self.step(Action::Events { most: 1_000 });
            if self.wrong.is_some() {
                return true;
            }
            if !self.is_flowing() {
                self.all_have_heard(false);
                return true;
            }
        }
        false
    }

    /// Whether something still happens without time passing.
    fn is_flowing(&self) -> bool {
        let mut there = self
            .clients
            .iter()
            .filter(|client| client.is_there() && client.is_eager);
        net(|net| {
            let is_sent = |at: usize| !net.sockets[at].down.is_empty();
            net.has_work() || net.is_flowing() || there.any(|client| is_sent(client.at))
        })
    }

    /// Publishes to each channel. All clients that are still there must hear it.
    fn last_words(&mut self) {
        if self.wrong.is_some() {
            return;
        }
        for client in &mut self.clients {
            let server = client.ask.server();
            client.reads_from = net(|net| net.servers[server].log.len());
        }
        for server in 0..SERVERS {
            for channel in 0..CHANNELS.len() {
                self.publish(server, channel as u32, 10);
            }
        }
        self.rest(100);
    }

    /// Checks that clients who read all the time have heard everything, and were heard. `is_last`:
    /// there was also time for everything that needs some.
    fn all_have_heard(&mut self, is_last: bool) {
        let mut heard = Ok(());
        for client in self.clients.iter_mut().filter(|client| client.is_eager) {
            heard = heard.and(net(|net| client.has_heard_all(net, is_last)));
        }
        self.note(heard);
    }

    fn all_leave(&mut self) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if !client.is_there() {
                continue;
            }
            let at = client.at;
            let is_reset = number % 3 == 0;
            if is_reset {
                client.state = State::Over;
            }
            net(|net| {
                let socket = &mut net.sockets[at];
                socket.is_fin = true;
                socket.is_reset |= is_reset;
                net.wake(Source::Client(at));
            });
            self.check();
        }
    }

    /// The worker exits.
    fn exit(&mut self) {
        if self.wrong.is_some() {
            return;
        }
        self.quit();
        self.rest(1_000);
        if self.wrong.is_none() && self.owed {
            self.note(Err(
                "nobody is there, and the worker does not exit".to_owned()
            ));
        }
        self.hub.stop();
    }
}
