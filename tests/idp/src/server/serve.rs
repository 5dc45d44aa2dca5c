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
use futures_util::future::join_all;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service as _,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    api, authorize, control, endpoints,
    inner::Server,
    intercept::{Severed, intercept},
    logout, metadata, par,
    received::{Received, Wire},
    tls::{Authority, HTTP2},
    token,
};

/// What listens, and how it is addressed.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: std::net::TcpListener,
    /// Scheme and authority.
    pub(super) base: String,
    pub(super) tls: bool,
}

/// Accepts connections until it is told to stop, by a message or by the sender's end, and closes them all then.
pub(super) async fn serve(listeners: Vec<Listener>, server: Arc<Server>, stop: oneshot::Receiver<()>) {
    let router = router(Arc::clone(&server));
    let accepting = listeners.into_iter().map(|listener| accept(listener, &server, router.clone()));
    tokio::select! {
        _ = stop => {}
        _ = join_all(accepting) => {}
    }
}

async fn accept(listener: Listener, server: &Server, router: Router) {
    let socket = TcpListener::from_std(listener.socket).expect("a non-blocking listener");
    let tls = server.tls.as_ref().filter(|_| listener.tls).map(Authority::acceptor);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                // Dropped, and so closed.
                Ok(_) if server.is_down() => {}
                Ok((stream, _)) => {
                    let base = listener.base.clone();
                    drop(connections.spawn(connection(stream, tls.clone(), base, router.clone())));
                }
                // Out of file descriptors, probably.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, base: String, router: Router) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return talk(stream, Wire { base, certificates: Vec::new() }, router).await;
    };
    // It fails when the client does not trust the authority.
    let Ok(stream) = tls.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
    let wire = Wire { base, certificates };
    if http2 { talk_http2(stream, wire, router).await } else { talk(stream, wire, router).await }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, wire: Wire, router: Router) {
    let service = service_fn(move |request| answer(request, wire.clone(), router.clone()));
    // It fails when the client goes away, and when a fault closes it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn talk_http2(stream: impl AsyncRead + AsyncWrite + Unpin, wire: Wire, router: Router) {
    let service = service_fn(move |request| answer(request, wire.clone(), router.clone()));
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    mut request: Request<Incoming>,
    wire: Wire,
    router: Router,
) -> Result<Response, std::io::Error> {
    request.extensions_mut().insert(wire);
    Severed::check(TowerToHyperService::new(router).call(request).await)
}

fn router(server: Arc<Server>) -> Router {
    let around = middleware::from_fn_with_state(Arc::clone(&server), intercept);
    Router::new()
        .route("/.well-known/openid-configuration", get(at_once(metadata::openid_configuration)))
        .route("/.well-known/oauth-authorization-server", get(at_once(metadata::oauth_authorization_server)))
        .route("/jwks", get(at_once(metadata::jwks)))
        .route("/authorize", get(at_once(authorize::authorize)))
        .route("/login", post(at_once(authorize::login)))
        .route("/par", post(at_once(par::par)))
        .route("/token", post(at_once(token::token)))
        .route("/device_authorization", post(at_once(endpoints::device_authorization)))
        .route("/device", get(at_once(endpoints::verification_page)).post(at_once(endpoints::decide)))
        .route("/revoke", post(at_once(endpoints::revoke)))
        .route("/introspect", post(at_once(endpoints::introspect)))
        .route("/userinfo", get(at_once(api::user_info)).post(at_once(api::user_info)))
        .route("/end_session", get(at_once(logout::end_session)).post(at_once(logout::end_session)))
        .route("/api/echo", any(at_once(api::echo)))
        .route("/api/echo/{*rest}", any(at_once(api::echo)))
        .route("/api/step_up", any(at_once(api::step_up)))
        .route("/api/public", any(at_once(api::public)))
        .route("/api/redirect", any(at_once(api::redirect)))
        .route("/control/counters", get(at_once(control::counters)))
        .route("/control/approve", post(at_once(control::approve)))
        .route("/control/deny", post(at_once(control::deny)))
        .route("/control/log_out", post(at_once(control::log_out)))
        .route("/control/secret", post(at_once(control::secret)))
        .route("/control/rotate_keys", post(at_once(control::rotate_keys)))
        .route("/control/revoke_access_tokens", post(at_once(control::revoke_access_tokens)))
        .route("/control/down", post(at_once(control::down)))
        .route("/control/faults", post(at_once(control::faults)).delete(at_once(control::clear_faults)))
        .fallback(at_once(metadata::other))
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
