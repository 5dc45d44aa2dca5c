//! `keyfob login --explain`: each exchange with the provider, as it happens.

use keyfob_auth_core::Context;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::exit::Failure;

/// The exchanges from now on as texts, secrets left out; none if nobody `wants` them.
pub(super) fn exchanges(context: &Context, wanted: bool) -> Result<UnboundedReceiver<String>, Failure> {
    let (told, exchanges) = unbounded_channel();
    if wanted {
        tell(context, told)?;
    }
    Ok(exchanges)
}

#[cfg(feature = "oidc")]
fn tell(context: &Context, told: tokio::sync::mpsc::UnboundedSender<String>) -> Result<(), Failure> {
    use keyfob_provider_oidc::{Exchange, Observer};

    struct Teller(tokio::sync::mpsc::UnboundedSender<String>);

    impl Observer for Teller {
        fn exchanged(&self, exchange: &Exchange) {
            // The other end goes away with the login.
            let _ = self.0.send(exchange.to_string());
        }
    }

    keyfob_provider_oidc::explain(context, std::sync::Arc::new(Teller(told)))?;
    Ok(())
}

#[cfg(not(feature = "oidc"))]
fn tell(_: &Context, _: tokio::sync::mpsc::UnboundedSender<String>) -> Result<(), Failure> {
    let error = "--explain needs keyfob's feature `oidc`, which this build does not have";
    Err(keyfob_auth_core::AuthError::configuration(error).into())
}
