//! The token that the store has, for programs that start, want a token and end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Kind, Session,
    engine::Engine,
    exchange::{Exchange, Why},
    slot::Slot,
    token::Token,
};

impl Session {
    /// For the command: the token that the store has, if it is valid, not due for renewal, and read
    /// [at once](crate::TokenStore::load_at_once). No runtime is made, nothing is set off and nobody is waited for.
    ///
    /// `None` says nothing: [`token`](Self::token) serves, renews or tells why not. A chain has none.
    #[doc(hidden)]
    pub fn stored(&self) -> Option<Token> {
        match &self.0 {
            Kind::One(one) => one.engine.stored(&one.slot),
            Kind::Chain(_) => None,
        }
    }
}

impl Engine {
    fn stored(self: &Arc<Self>, slot: &Arc<Slot>) -> Option<Token> {
        // What this process knows of the slot already is judged by `token`.
        if slot.request().subject.is_some() || slot.peek().is_some() || slot.failures() > 0 {
            return None;
        }
        let exchange = Exchange::new(Arc::clone(self), Arc::clone(slot), Why::Due);
        let found = catch_unwind(AssertUnwindSafe(|| self.store.load_at_once(&self.key))).ok()??;
        let token = self.span("load").in_scope(|| exchange.served_by(&Some(found))).ok()??;
        // A due one is at hand now, and whoever asks for it sets its renewal off.
        (!token.is_due(self.clock.now())).then_some(token)
    }
}
