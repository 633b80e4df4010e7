//! Wire form of a delivered message.
