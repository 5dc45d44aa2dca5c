//! The routes, and the connections that lead to them.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::State,
    middleware,
    response::Response,
    routing::{any, get, post},
};
use hyper::{server::conn::http1, service::Service as _, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};

use super::{
    api, control, endpoints,
    inner::Server,
    intercept::{Severed, intercept},
    received::Received,
    token,
};

/// Accepts connections until it is told to stop, by a message or by the sender's end, and closes them all then.
pub(super) async fn serve(listener: TcpListener, server: Arc<Server>, mut stop: oneshot::Receiver<()>) {
    let router = router(Arc::clone(&server));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                // Dropped, and so closed.
                Ok(_) if server.is_down() => {}
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone()))),
                // Out of file descriptors, probably.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let response = TowerToHyperService::new(router.clone()).call(request);
        async move { Severed::check(response.await) }
    });
    // It fails when the client goes away, and when a fault closes it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn router(server: Arc<Server>) -> Router {
    let around = middleware::from_fn_with_state(Arc::clone(&server), intercept);
    Router::new()
        .route("/.well-known/openid-configuration", get(at_once(endpoints::openid_configuration)))
        .route("/.well-known/oauth-authorization-server", get(at_once(endpoints::oauth_authorization_server)))
        .route("/jwks", get(at_once(endpoints::jwks)))
        .route("/token", post(at_once(token::token)))
        .route("/device_authorization", post(at_once(endpoints::device_authorization)))
        .route("/device", get(at_once(endpoints::verification_page)).post(at_once(endpoints::decide)))
        .route("/revoke", post(at_once(endpoints::revoke)))
        .route("/introspect", post(at_once(endpoints::introspect)))
        .route("/api/echo", any(at_once(api::echo)))
        .route("/api/echo/{*rest}", any(at_once(api::echo)))
        .route("/api/public", any(at_once(api::public)))
        .route("/api/redirect", any(at_once(api::redirect)))
        .route("/control/counters", get(at_once(control::counters)))
        .route("/control/approve", post(at_once(control::approve)))
        .route("/control/deny", post(at_once(control::deny)))
        .route("/control/log_out", post(at_once(control::log_out)))
        .route("/control/secret", post(at_once(control::secret)))
        .route("/control/revoke_access_tokens", post(at_once(control::revoke_access_tokens)))
        .route("/control/down", post(at_once(control::down)))
        .route("/control/faults", post(at_once(control::faults)).delete(at_once(control::clear_faults)))
        .layer(around)
        .with_state(server)
}

/// A handler that answers at once from a request that was read already.
fn at_once(
    handler: fn(&Server, &Received) -> Response,
) -> impl Fn(State<Arc<Server>>, Extension<Arc<Received>>) -> Ready<Response> + Clone + Send + Sync + 'static
{
    move |State(server): State<Arc<Server>>, Extension(received): Extension<Arc<Received>>| {
        ready(handler(&server, &received))
    }
}
