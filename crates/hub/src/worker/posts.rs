//! Posts to `websocket_publisher`.

use super::hub::Hub;
use crate::answer::{Effect, Outcome, Response};
use crate::broker::{Brokers, Published};
use crate::http::publish::{self, Post, Unanswered};
use crate::outside::{HttpRequest, Outside};

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Publishes a post. Its answer waits for Redis's.
    pub fn publisher(&mut self, post: Result<Post<O::Request>, Response>) -> Outcome {
        match post.and_then(|post| self.take_post(post)) {
            Ok(number) => {
                self.turn = true;
                Outcome::Park(number)
            }
            Err(response) => Outcome::Respond(response),
        }
    }

    fn take_post(&mut self, post: Post<O::Request>) -> Result<u64, Response> {
        let Post {
            request,
            broker,
            channel,
        } = post;
        self.has_room_for_post(request.body_length())?;
        let body = publish::body(request)?;
        let number = self.park();
        let now = self.out.now();
        self.publishes.enter(number, (request, channel), now);
        let is_starting = self.brokers.is_starting(broker);
        if is_starting || self.early_posts.first_at(broker).is_some() {
            if self.early_posts.len() < self.main.max_pending() {
                self.early_posts.enter(number, broker, body);
                return Ok(number);
            }
            self.counters.publish_failed += 1;
        } else if self.post(number, broker, &body) {
            return Ok(number);
        }
        self.publishes.leave(number);
        Err(Response::status(503))
    }

    /// Whether the memory account allows a body of this many bytes: before it is read, and again as
    /// a command.
    fn has_room_for_post(&mut self, bytes: usize) -> Result<(), Response> {
        self.account();
        if self.budget.has_room(bytes as u64) {
            return Ok(());
        }
        let (held, limit) = (self.budget.total(), self.budget.limit());
        self.counters.publish_failed += 1;
        self.report_not_published(&format!(
            "{held} bytes of \"websocket_memory\" {limit} are held: a post of {bytes} bytes is refused"
        ));
        Err(Response::status(503))
    }

    /// Hands a post to the link. False: the link is away, or its queue is full.
    fn post(&mut self, number: u64, broker: u16, body: &[u8]) -> bool {
        let Some(channel) = channel_of(&self.publishes, number) else {
            return true;
        };
        let now = self.out.now();
        let taken = self.brokers.publish(broker, channel, body, number, now);
        let taken = taken.is_ok();
        self.counters.published += u64::from(taken);
        self.counters.publish_failed += u64::from(!taken);
        taken
    }

    /// A publisher link is up, has space again, or could not be made: earlier posts are sent as far
    /// as the queue takes them, or refused.
    pub(super) fn end_early_posts(&mut self, broker: u16) {
        while let Some((number, bytes)) = self.early_posts.first_at(broker) {
            let name = channel_of(&self.publishes, number).map_or(0, <[u8]>::len);
            if !self.brokers.is_ready_for(broker, name + bytes) {
                return;
            }
            let body = self.early_posts.leave(number);
            if body.is_some_and(|body| !self.post(number, broker, &body)) {
                self.effects
                    .push_back(Effect::Answer(number, Response::status(503)));
            }
        }
    }

    /// Redis answered a post, or was lost.
    pub(super) fn post_answered(&mut self, number: u64, outcome: &Published) {
        let Some(channel) = channel_of(&self.publishes, number) else {
            return;
        };
        let response = match outcome {
            Published::To(receivers) => publish::receipt(channel, *receivers),
            Published::Forbidden(_) => Response::status(403),
            Published::Refused(_) | Published::Lost(_) => Response::status(502),
        };
        self.effects.push_back(Effect::Answer(number, response));
    }
}

/// The channel of a publish that waits.
fn channel_of<R>(publishes: &Unanswered<R>, number: u64) -> Option<&[u8]> {
    let (_, channel) = publishes.get(number)?;
    Some(channel)
}
