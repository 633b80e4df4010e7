//! The part that sessions have in the memory account.
//!
//! Code that changes what a session holds does it within [`with_client`], so that no change is
//! forgotten.

use fanout::{Budget, Category, ClientId};

use crate::outside::Clients;
use crate::session::{Session, Weight};

/// Lets `act` change a client's session, and enters the difference in the account. `None`: there is
/// no such client.
pub(super) fn with_client<C: Clients<Session>, R>(
    clients: &mut C,
    budget: &mut Budget,
    id: ClientId,
    act: impl FnOnce(&C::Io, &mut Session) -> R,
) -> Option<R> {
    let (io, session) = clients.get(id)?;
    let before = session.weight();
    let done = act(&io, session);
    enter(budget, before, session.weight());
    Some(done)
}

/// Takes a session out of the account: its client has left.
pub(super) fn forget(budget: &mut Budget, session: &Session) {
    enter(budget, session.weight(), Weight::default());
}

/// Enters all sessions anew.
pub(super) fn recount<C: Clients<Session>>(clients: &mut C, budget: &mut Budget) {
    let ids: Vec<ClientId> = clients.ids().collect();
    let weights = ids.into_iter().filter_map(|id| {
        let (_, session) = clients.get(id)?;
        Some(session.weight())
    });
    let mut all = Weight::default();
    for weight in weights {
        all.messages += weight.messages;
        all.context += weight.context;
    }
    budget.set(Category::PartialMessages, all.messages as u64);
    budget.set(Category::Contexts, all.context as u64);
}

#[inline]
fn enter(budget: &mut Budget, before: Weight, after: Weight) {
    change(
        budget,
        Category::PartialMessages,
        before.messages,
        after.messages,
    );
    change(budget, Category::Contexts, before.context, after.context);
}

#[inline]
fn change(budget: &mut Budget, category: Category, before: usize, after: usize) {
    if after > before {
        budget.take(category, (after - before) as u64);
    } else if before > after {
        budget.give_back(category, (before - after) as u64);
    }
}
