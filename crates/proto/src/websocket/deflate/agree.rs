//! The negotiation of permessage-deflate in the handshake (RFC 7692, 7.1).

use std::fmt;

use super::super::extension::Offer;
use super::parameters::{MAX_WINDOW_BITS, NAME, SMALLEST_WINDOW_BITS};

/// What the operator configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The window towards clients, in [`WINDOW_BITS`](super::WINDOW_BITS). Clients that ask for less get the smallest.
    pub server_window_bits: u8,
    /// How much context is kept for each client.
    pub context: Context,
}

/// How much of a client's messages is kept for its next compressed message to refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nobody reads the client's messages: nothing is kept, whatever they refer to.
    Unread,
    /// Nothing. A client that does not offer to do without context is declined.
    Nothing,
    /// 2^bits bytes, in [`WINDOW_BITS`](super::WINDOW_BITS). A client that may refer to more, and does not offer to be
    /// limited, is declined.
    Window(u8),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_window_bits: MAX_WINDOW_BITS,
            context: Context::Window(MAX_WINDOW_BITS),
        }
    }
}

/// What was agreed with a client. `Display` writes the value of the response's
/// `Sec-WebSocket-Extensions`. No context is kept towards the client, whether or not the response
/// says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    asked: Asked,
    server_window_bits: u8,
    context_bits: u8,
}

/// The answer to the first acceptable offer. `None` declines them all.
///
/// An offer is declined if it has a parameter that is unknown, occurs twice, or has an invalid
/// value (RFC 7692, 7.1). It is also declined if it has `server_max_window_bits=8`, which zlib
/// cannot do, or if its client would need more [`Context`] than configured.
pub fn negotiate<'a>(
    mut offers: impl Iterator<Item = Offer<'a>>,
    settings: &Settings,
) -> Option<Agreed> {
    offers.find_map(|offer| Asked::read(&offer)?.accept(settings))
}

/// One well-formed offer's parameters (RFC 7692, 7.1.1 and 7.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window_bits: Option<u8>,
    client_window: ClientWindow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ClientWindow {
    /// The client may not know how to limit its window, and must not be asked to.
    #[default]
    Fixed,
    /// The client can limit its window, and uses no more than these bits in any case.
    UpTo(u8),
}

impl Asked {
    fn read(offer: &Offer<'_>) -> Option<Self> {
        if offer.name() != NAME.as_bytes() {
            return None;
        }
        let mut asked = Self::default();
        for (name, value) in offer.parameters() {
            let is_first = match (name, value) {
                (b"server_no_context_takeover", None) => {
                    !std::mem::replace(&mut asked.server_no_takeover, true)
                }
                (b"client_no_context_takeover", None) => {
                    !std::mem::replace(&mut asked.client_no_takeover, true)
                }
                (b"server_max_window_bits", Some(bits)) => asked
                    .server_window_bits
                    .replace(window_bits(bits)?)
                    .is_none(),
                (b"client_max_window_bits", bits) => {
                    let bits = bits.map_or(Some(MAX_WINDOW_BITS), window_bits)?;
                    let before =
                        std::mem::replace(&mut asked.client_window, ClientWindow::UpTo(bits));
                    matches!(before, ClientWindow::Fixed)
                }
                _ => false,
            };
            if !is_first {
                return None;
            }
        }
        Some(asked)
    }

    fn accept(self, settings: &Settings) -> Option<Agreed> {
        Some(Agreed {
            asked: self,
            server_window_bits: self.server_window(settings.server_window_bits)?,
            context_bits: self.context(settings.context)?,
        })
    }

    /// The larger of our two windows that this client can read.
    fn server_window(&self, configured: u8) -> Option<u8> {
        let most = self.server_window_bits.unwrap_or(MAX_WINDOW_BITS);
        [configured, SMALLEST_WINDOW_BITS]
            .into_iter()
            .find(|&bits| bits <= most)
    }

    /// How much context to keep, in bits. 0: nothing.
    fn context(&self, granted: Context) -> Option<u8> {
        match (granted, self.client_window) {
            (Context::Unread, _) => Some(0),
            _ if self.client_no_takeover => Some(0),
            (Context::Nothing, _) => None,
            (Context::Window(granted), window) => window.within(granted),
        }
    }
}

impl ClientWindow {
    /// The window that the client will use if `granted` is offered.
    fn within(self, granted: u8) -> Option<u8> {
        match self {
            Self::Fixed => (granted == MAX_WINDOW_BITS).then_some(granted),
            Self::UpTo(bits) => Some(granted.min(bits)),
        }
    }
}

/// "A decimal integer value without leading zeroes between 8 to 15" (RFC 7692, 7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

impl Agreed {
    /// The window towards this client, in [`WINDOW_BITS`](super::WINDOW_BITS). It selects the [`Deflater`](super::Deflater).
    pub fn server_window_bits(&self) -> u8 {
        self.server_window_bits
    }

    /// How much of this client's compressed messages must be kept, in bits. 0: nothing.
    pub fn context_bits(&self) -> u8 {
        self.context_bits
    }

    /// The window limit to send to the client. `None` if it keeps within the limit by itself.
    fn limit(&self) -> Option<u8> {
        match self.asked.client_window {
            ClientWindow::UpTo(bits) if self.context_bits > 0 => {
                Some(self.context_bits).filter(|&limit| limit < bits)
            }
            ClientWindow::UpTo(_) | ClientWindow::Fixed => None,
        }
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.asked.server_no_takeover {
            write!(f, "; server_no_context_takeover")?;
        }
        if self.asked.server_window_bits.is_some() {
            write!(f, "; server_max_window_bits={}", self.server_window_bits)?;
        }
        if self.asked.client_no_takeover {
            write!(f, "; client_no_context_takeover")?;
        }
        if let Some(bits) = self.limit() {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}
