//! Dialogues between a link and a small Redis, in virtual time.

mod greeting;
mod login;
mod model;
mod oracle;
mod pair;
mod probing;
mod publishing;
mod replies;
mod runs;
mod server;
mod subscribing;
mod url;
