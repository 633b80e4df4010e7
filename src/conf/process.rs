//! Configuration of the whole process, outside of any block.

use hub::settings::Words;

/// Whether large fan-outs are sent by io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoUring {
    /// If the system has it.
    Auto,
    /// Never.
    Off,
}

impl Words for IoUring {
    const WORDS: &'static [(&'static str, IoUring)] =
        &[("auto", IoUring::Auto), ("off", IoUring::Off)];
}

hub::declare_settings! {
    /// Values of the top level; `None` is "not set".
    pub struct Process {}

    /// The directives of these settings. `http` accepts them, too, because people look for them
    /// there.
    pub enum ProcessSetting {
        /// Whether large fan-outs are sent by io_uring.
        IoUring = c"websocket_io_uring" => io_uring: IoUring as word = IoUring::Auto;
    }
}
