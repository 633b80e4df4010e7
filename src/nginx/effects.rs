//! What a host wants done after its borrow has ended.

use hub::answer::Effect;

use super::event::run_client;
use super::host::Host;
use super::{client, content};

/// Performs an effect. nginx may call back into the module from here.
pub fn perform<H: Host>(effect: Effect) {
    match effect {
        Effect::Accept(id, switching) => client::accept_parked::<H>(id, &switching),
        Effect::Read(id) => run_client(id, |host: &mut H| host.take_turn(id)),
        Effect::Detach(id) => client::try_detach::<H>(id),
        Effect::Close(id) => client::close::<H>(id),
        Effect::Answer(parked, response) => content::answer_parked::<H>(parked, &response),
    }
}
