//! Configuration of the whole process, outside of any block.

/// Values of the top level; `None` is "not set".
#[derive(Default)]
pub struct Process {
    /// `websocket_io_uring`.
    pub io_uring: Option<bool>,
}
