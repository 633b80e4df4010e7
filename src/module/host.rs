//! Makes the hub a host of the module `nginx`.

use std::ffi::CStr;

use hub::answer::Effect;
use hub::outside::{ClientId, PeerId};
use hub::session::{Session, Summary};
use hub::settings::Detach;

use super::outside::Hub;
use crate::nginx::client_slot::ClientSlots;
use crate::nginx::host::Host;
use crate::nginx::slot::Slot;
use crate::nginx::timer::Wants;
use crate::nginx::{Request, effects};

static SLOT: Slot<Hub> = Slot::new();

impl Host for Hub {
    const NAME: &'static str = "websocket";
    const ACTION: &'static CStr = c"serving websocket client";

    type Session = Session;
    type Summary = Summary;

    #[inline]
    fn slot() -> &'static Slot<Hub> {
        &SLOT
    }

    fn start(&mut self) {
        self.start();
    }

    fn stop(&mut self) {
        self.stop();
    }

    #[inline]
    fn is_settled(&mut self) -> bool {
        self.is_settled()
    }

    fn next_effect(&mut self) -> Option<Effect> {
        self.next_effect()
    }

    fn wants(&mut self) -> Option<Wants> {
        let (due, owed, turn) = self.wants()?;
        Some(Wants { due, owed, turn })
    }

    fn tick(&mut self, now: u64) {
        self.tick(now);
    }

    fn turn(&mut self) {
        self.turn();
    }

    fn perform(effect: Effect) {
        effects::perform::<Hub>(effect);
    }

    fn slots(&mut self) -> &mut ClientSlots<Session> {
        self.clients().slots()
    }

    fn summary(&mut self, id: ClientId) -> Option<Summary> {
        self.summary(id)
    }

    fn bytes_sent(summary: &Summary) -> u64 {
        summary.bytes_out
    }

    fn may_detach(&mut self, id: ClientId, is_needed: impl FnOnce() -> bool) -> bool {
        match self.detach_policy(id) {
            Some(Detach::Auto) => !is_needed(),
            Some(Detach::On) => true,
            Some(Detach::Off) | None => false,
        }
    }

    fn client_open(&mut self, id: ClientId, early: Vec<u8>) {
        self.client_open(id, early);
    }

    fn client_opens_slowly(&mut self, id: ClientId) {
        self.client_opens_slowly(id);
    }

    #[inline]
    fn client_readable(&mut self, id: ClientId) {
        self.client_readable(id);
    }

    #[inline]
    fn client_writable(&mut self, id: ClientId) {
        self.client_writable(id);
    }

    fn take_turn(&mut self, id: ClientId) {
        self.take_turn(id);
    }

    fn client_told_to_close(&mut self, id: ClientId, forced: bool) {
        self.client_told_to_close(id, forced);
    }

    fn client_gone(&mut self, id: ClientId) {
        self.client_gone(id);
    }

    fn client_panicked(&mut self, id: ClientId) {
        self.client_panicked(id);
    }

    fn take_parked(&mut self, number: u64) -> Option<Request> {
        self.take_parked(number)
    }

    fn parked_gone(&mut self, number: u64) {
        self.parked_gone(number);
    }

    #[inline]
    fn peer_readable(&mut self, id: PeerId) {
        self.peer_readable(id);
    }

    #[inline]
    fn peer_writable(&mut self, id: PeerId) {
        self.peer_writable(id);
    }

    fn peer_told_to_close(&mut self, id: PeerId) {
        self.peer_told_to_close(id);
    }
}
