//! How the answer to a client's publish finds the client again.

use proto::redis::PROBE_TOKEN;

use fanout::ClientId;

/// Set in the tokens of clients. The token of a post is its number.
const OF_CLIENT: u64 = 1 << 63;

/// Identifies one client that publishes. Client ids are reused at once, but a life only after two
/// thousand million clients, and answers arrive within seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Life(u32);

impl Life {
    /// The life after this one.
    pub fn next(self) -> Life {
        // All bits set would be `PROBE_TOKEN`.
        Life((self.0 + 1) % (u32::MAX >> 1))
    }
}

/// The token with which a link answers about a message of this client.
pub fn token(id: ClientId, life: Life) -> u64 {
    OF_CLIENT | u64::from(life.0) << 32 | u64::from(id.0)
}

/// The client of a [`token`]; `None` if it belongs to a post.
pub fn client_of(token: u64) -> Option<(ClientId, Life)> {
    debug_assert_ne!(token, PROBE_TOKEN);
    let life = Life((token >> 32) as u32 & (u32::MAX >> 1));
    (token & OF_CLIENT != 0).then_some((ClientId(token as u32), life))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_client_and_life_and_is_no_posts_and_no_probes() {
        let mut life = Life(u32::MAX >> 1).next();
        for id in [0, 1, 77, u32::MAX] {
            for _ in 0..3 {
                let token = token(ClientId(id), life);
                assert_ne!(token, PROBE_TOKEN);
                assert_eq!(client_of(token), Some((ClientId(id), life)));
                life = life.next();
            }
        }
        let last = Life((u32::MAX >> 1) - 1);
        assert_ne!(token(ClientId(u32::MAX), last), PROBE_TOKEN);
        assert_eq!(last.next(), Life(0));
        for post in [0, 1, u64::from(u32::MAX) + 1] {
            assert_eq!(client_of(post), None);
        }
    }
}
