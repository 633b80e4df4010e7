//! An HTTP request: its head, its body, its answer, and its life in nginx.

mod answer;
mod body;
mod handle;
mod head;
mod life;

pub use handle::Request;
pub(super) use handle::bytes;
pub(super) use life::{Cleanup, nginx_handler, remember_nginx_handler};
