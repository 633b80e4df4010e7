//! A client with permessage-deflate (RFC 7692). It inflates what it receives with a library that
//! the module does not use.

use super::frames::{self, Frame};
use super::http::Request;
use super::inflated::inflate;
use super::nginx::Nginx;
use super::raw::Raw;
use super::stream::Transport;

/// An open WebSocket. It sends messages uncompressed.
pub struct Deflated {
    raw: Raw,
}

impl Deflated {
    /// Connects over `ws:` and requests a window of at most this many bits, 9 to 15, towards
    /// itself.
    ///
    /// # Panics
    /// If the extension is not agreed.
    #[track_caller]
    pub fn connect(nginx: &Nginx, target: &str, window_bits: u8) -> Self {
        let offer = format!("permessage-deflate; server_max_window_bits={window_bits}");
        let mut raw = Raw::open(nginx, Transport::Ws);
        let request = Request::upgrade(target).header("Sec-WebSocket-Extensions", &offer);
        raw.send(request.wire());
        let answer = raw.expect_101();
        let agreed = answer.header("Sec-WebSocket-Extensions").unwrap_or("");
        // The window may be smaller than the requested one.
        assert!(agreed.contains("server_max_window_bits="), "{agreed:?}");
        Self { raw }
    }

    /// Sends a binary message.
    #[track_caller]
    pub fn send(&mut self, message: &[u8]) {
        self.raw.send_frame(&Frame::new(frames::BINARY, message));
    }

    /// The next message, inflated on its own if it was compressed.
    ///
    /// # Panics
    /// If something else arrives, or it is not DEFLATE.
    #[track_caller]
    pub fn message(&mut self) -> Vec<u8> {
        let frame = self.raw.frame();
        let is_data = matches!(frame.opcode, frames::TEXT | frames::BINARY);
        assert!(is_data && frame.fin, "{frame:?}");
        match frame.rsv {
            0 => frame.payload,
            4 => inflate(&frame.payload, 15),
            other => panic!("reserved bits {other}"),
        }
    }
}
