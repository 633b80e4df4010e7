//! A client with permessage-deflate (RFC 7692): what it is sent is inflated by a library that the
//! module does not use.

use super::frames::{self, Frame};
use super::http::Request;
use super::inflated::inflate;
use super::nginx::Nginx;
use super::raw::Raw;
use super::stream::Transport;

/// An open WebSocket. What it sends goes as it is.
pub struct Deflated {
    raw: Raw,
}

impl Deflated {
    /// Connects over `ws:` and asks for a window towards itself of no more than so many bits, 9 to 15.
    ///
    /// # Panics
    /// When the extension is not agreed.
    #[track_caller]
    pub fn connect(nginx: &Nginx, target: &str, window_bits: u8) -> Self {
        let offer = format!("permessage-deflate; server_max_window_bits={window_bits}");
        let mut raw = Raw::open(nginx, Transport::Ws);
        let request = Request::upgrade(target).header("Sec-WebSocket-Extensions", &offer);
        raw.send(request.wire());
        let answer = raw.expect_101();
        let agreed = answer.header("Sec-WebSocket-Extensions").unwrap_or("");
        // The window may be smaller than that.
        assert!(agreed.contains("server_max_window_bits="), "{agreed:?}");
        Self { raw }
    }

    /// Sends a binary message.
    #[track_caller]
    pub fn send(&mut self, message: &[u8]) {
        self.raw.send_frame(&Frame::new(frames::BINARY, message));
    }

    /// The next message, inflated by itself if it was compressed.
    ///
    /// # Panics
    /// When something else comes, or it is no DEFLATE.
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
