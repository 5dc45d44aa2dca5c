//! [`Listener`]: where a browser comes back to on this machine (RFC 8252 section 7.3).

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use keyfob_auth_core::{AuthError, ErrorKind, SecretString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::{
    Pending, callback, page,
    request::{Address, Incoming, Refusal},
};
use crate::config::RedirectUri;

/// How long one browser may take to ask. It may open connections ahead and send nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to take the page, or to be through with what it sends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How many connections are read from at once; the oldest gives way to a new one.
const MOST: usize = 64;
/// How many free ports are tried where both families must have the same.
const TRIES: usize = 20;

/// Sockets on loopback addresses, closed when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    sockets: (TcpListener, Option<TcpListener>),
    address: Arc<Address>,
    redirect_uri: String,
}

impl Listener {
    /// Listens at the first redirect URI whose port is free; `None` if none of them is on this machine.
    ///
    /// # Errors
    /// If no port can be had.
    pub(super) async fn bind(uris: &[RedirectUri]) -> Result<Option<Self>, AuthError> {
        let mut failures = Vec::new();
        for uri in uris {
            let Some(loopback) = uri.loopback() else { continue };
            let (first, second) = loopback.addresses();
            match bind(first, second, uri.port()).await {
                Ok((sockets, port)) => return Ok(Some(Self::at(uri, sockets, port))),
                Err(error) => failures.push((uri.as_str(), error)),
            }
        }
        if failures.is_empty() { Ok(None) } else { Err(not_bound(&failures)) }
    }

    fn at(uri: &RedirectUri, sockets: (TcpListener, Option<TcpListener>), port: u16) -> Self {
        let host = uri.host();
        let mut hosts = vec![format!("{host}:{port}")];
        if port == 80 {
            hosts.push(host.to_owned());
        }
        let address = Arc::new(Address { hosts, path: uri.path().to_owned() });
        Self { sockets, address, redirect_uri: uri.with_port(port) }
    }

    /// The redirect URI with its port.
    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Waits for the browser that brings this login's answer. Others are sent away, and do not end it.
    ///
    /// # Cancellation
    /// Closes the connections.
    pub(super) async fn wait(&self, pending: &Arc<Pending>) -> (SecretString, Connection) {
        let mut visits = JoinSet::new();
        let mut handles: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            tokio::select! {
                accepted = self.accept() => match accepted {
                    Ok(stream) => {
                        handles.retain(|visit| !visit.is_finished());
                        if handles.len() >= MOST
                            && let Some(oldest) = handles.pop_front()
                        {
                            oldest.abort();
                        }
                        let (address, pending) = (Arc::clone(&self.address), Arc::clone(pending));
                        handles.push_back(visits.spawn(visit(Connection(stream), address, pending)));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection could not be taken");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(visit) = visits.join_next() => if let Ok(Some(arrived)) = visit {
                    return arrived;
                },
            }
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = match &self.sockets {
            (first, None) => first.accept().await?,
            (first, Some(second)) => tokio::select! {
                accepted = first.accept() => accepted?,
                accepted = second.accept() => accepted?,
            },
        };
        Ok(stream)
    }
}

async fn bind(
    first: IpAddr,
    second: Option<IpAddr>,
    port: Option<u16>,
) -> io::Result<((TcpListener, Option<TcpListener>), u16)> {
    let mut tries = 0;
    loop {
        let socket = TcpListener::bind(SocketAddr::new(first, port.unwrap_or(0))).await?;
        let got = socket.local_addr()?.port();
        let Some(second) = second else { return Ok(((socket, None), got)) };
        match TcpListener::bind(SocketAddr::new(second, got)).await {
            Ok(other) => return Ok(((socket, Some(other)), got)),
            // Somebody else has it there, and would get what is meant for this login.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tries += 1;
                if port.is_some() || tries >= TRIES {
                    return Err(error);
                }
            }
            // The machine does not have the other family.
            Err(_) => return Ok(((socket, None), got)),
        }
    }
}

fn not_bound(failures: &[(&str, io::Error)]) -> AuthError {
    let in_use = failures.iter().all(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
    let list: Vec<_> = failures.iter().map(|(uri, error)| format!("{uri}: {error}")).collect();
    let list = list.join("; ");
    if in_use {
        let what = "no port of the redirect URIs is free";
        AuthError::new(
            ErrorKind::Transient,
            format!("{what} ({list}); end what uses it, or configure another"),
        )
    } else {
        AuthError::configuration(format!("the browser's way back cannot be listened at ({list})"))
    }
}

/// Reads what one browser asks. Gives the answer to this login, if that is what it brings, with the connection that waits for a
/// page.
async fn visit(
    mut connection: Connection,
    address: Arc<Address>,
    pending: Arc<Pending>,
) -> Option<(SecretString, Connection)> {
    match timeout(PATIENCE, connection.read(&address)).await {
        Ok(Ok(Some(Ok(answer))))
            if callback::state_of(&answer).is_some_and(|state| pending.is_answered_by(&state)) =>
        {
            return Some((answer, connection));
        }
        Ok(Ok(Some(Ok(_)))) => {
            tracing::debug!("an answer to another login was passed over");
            connection.answer("400 Bad Request", &page::stranger()).await;
        }
        Ok(Ok(Some(Err(refusal)))) => connection.refuse(refusal).await,
        // Gone, or too slow.
        Ok(Ok(None) | Err(_)) | Err(_) => {}
    }
    None
}

/// A browser that waits for its page.
#[derive(Debug)]
pub(super) struct Connection(TcpStream);

impl Connection {
    /// One request; `None` if it ends before it is whole.
    async fn read(&mut self, address: &Address) -> io::Result<Option<Result<SecretString, Refusal>>> {
        let mut incoming = Incoming::new();
        let mut chunk = Zeroizing::new([0; 4096]);
        loop {
            let read = self.0.read(&mut *chunk).await?;
            if read == 0 {
                return Ok(None);
            }
            if let Some(outcome) = incoming.take(&chunk[..read], address).transpose() {
                return Ok(Some(outcome));
            }
        }
    }

    /// Sends a page, and closes. Whether it arrives is the browser's affair.
    pub(super) async fn answer(mut self, status: &str, page: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n",
            page.len()
        );
        self.send(&[head.as_bytes(), page.as_bytes()]).await;
    }

    async fn refuse(mut self, refusal: Refusal) {
        let allow = if refusal == Refusal::WrongMethod { "Allow: GET, POST\r\n" } else { "" };
        let status = refusal.status();
        let head = format!(
            "HTTP/1.1 {status}\r\n{allow}Content-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        self.send(&[head.as_bytes()]).await;
    }

    async fn send(&mut self, parts: &[&[u8]]) {
        let stream = &mut self.0;
        let sent = async {
            for part in parts {
                stream.write_all(part).await?;
            }
            stream.shutdown().await?;
            // What is closed with something unread takes its answer back (RFC 9112 section 9.6).
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(LAST_PATIENCE, sent).await;
    }
}
