//! Stands between both clients and Keycloak's token endpoint, and writes down who spent which refresh token.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::{self, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use serde_json::Value;
use tokio::net::TcpListener;

/// Longer than a client takes from its look at the file to its request, or from an answer to the file, on a busy machine.
const MOMENT: Duration = Duration::from_millis(250);

/// One renewal.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) by_keyfob: bool,
    spent: String,
    began: SystemTime,
    ended: SystemTime,
    pub(crate) granted: bool,
    /// What the file held when the request came, and since when.
    file: Option<(String, SystemTime)>,
}

/// What has been seen.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Renewal>>>,
}

#[derive(Clone)]
struct Shared {
    endpoint: String,
    file: PathBuf,
    http: reqwest::Client,
    seen: Arc<Mutex<Vec<Renewal>>>,
}

impl Witness {
    /// Stands before this token endpoint, and looks at this file.
    pub(crate) async fn start(endpoint: String, file: PathBuf) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let shared = Shared { endpoint, file, http, seen: Arc::clone(&seen) };
        let router = Router::new().route("/{who}/token", post(pass_on)).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// Below which the client's token endpoint is.
    pub(crate) fn base(&self, who: &str) -> String {
        format!("http://{}/{who}", self.address)
    }

    pub(crate) fn renewals(&self) -> Vec<Renewal> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass_on(
    State(shared): State<Shared>,
    extract::Path(who): extract::Path<String>,
    body: Bytes,
) -> impl IntoResponse {
    let (began, file) = (SystemTime::now(), in_file(&shared.file));
    let fields = || form(&body);
    let request = shared.http.post(&shared.endpoint).body(body.clone());
    let answer =
        request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").send().await.unwrap();
    let status = answer.status();
    let content = answer.bytes().await.unwrap();
    if let Some((_, spent)) = fields().find(|(name, _)| name == "refresh_token") {
        let (by_keyfob, ended, granted) = (who == "keyfob", SystemTime::now(), status.is_success());
        shared.seen.lock().unwrap().push(Renewal { by_keyfob, spent, began, ended, granted, file });
    }
    let status = StatusCode::from_u16(status.as_u16()).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], content)
}

/// The fields of a form; those that matter here are plain.
fn form(body: &[u8]) -> impl Iterator<Item = (String, String)> {
    let text = str::from_utf8(body).unwrap();
    text.split('&').filter_map(|field| field.split_once('=')).map(|(name, value)| (name.into(), value.into()))
}

fn in_file(path: &Path) -> Option<(String, SystemTime)> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    let held: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some((held["refresh_token"].as_str()?.to_owned(), written))
}

/// Whose doing a refused renewal was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Both took the same token from the file at the same moment: without a lock of the SDK's nobody can tell.
    Race,
    /// The session had ended by an earlier one.
    Consequence,
    /// keyfob did not look, or did not write.
    Keyfob,
    /// The SDK spent a token that it had kept in memory.
    Sdk,
}

/// Judges every renewal that was refused.
pub(crate) fn faults(renewals: &[Renewal]) -> Vec<Fault> {
    let refused = renewals.iter().filter(|renewal| !renewal.granted);
    refused.map(|refused| fault(refused, renewals)).collect()
}

fn fault(refused: &Renewal, renewals: &[Renewal]) -> Fault {
    let winner = renewals.iter().find(|other| other.granted && other.spent == refused.spent);
    let Some(winner) = winner else { return Fault::Consequence };
    let after = |moment: SystemTime, other: SystemTime| {
        moment.duration_since(other).is_ok_and(|passed| passed > MOMENT)
    };
    if !after(refused.began, winner.ended) {
        return Fault::Race;
    }
    // The file had time to tell. Did it?
    let told = refused
        .file
        .as_ref()
        .is_some_and(|(held, since)| *held != refused.spent && after(refused.began, *since));
    match (refused.by_keyfob, told) {
        (true, true) => Fault::Keyfob,
        (false, true) => Fault::Sdk,
        // The winner has not written what it got.
        (_, false) if winner.by_keyfob => Fault::Keyfob,
        (_, false) => Fault::Sdk,
    }
}

#[test]
fn whose_fault_it_was_is_seen_by_the_file_and_the_clock() {
    let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let renewal = |by_keyfob, began, granted, file: Option<(&str, u64)>| Renewal {
        by_keyfob,
        spent: "t1".into(),
        began: at(began),
        ended: at(began + 20),
        granted,
        file: file.map(|(held, since)| (held.into(), at(since))),
    };
    for (winner, loser, since, held, fault) in [
        (false, true, 1010, "t1", Fault::Race),
        (true, false, 1100, "t2", Fault::Race),
        (false, true, 3000, "t2", Fault::Keyfob),
        (true, false, 3000, "t2", Fault::Sdk),
        (true, false, 3000, "t1", Fault::Keyfob),
        (false, true, 3000, "t1", Fault::Sdk),
    ] {
        let won = renewal(winner, 1000, true, Some(("t1", 0)));
        let lost = renewal(loser, since, false, Some((held, 1030)));
        assert_eq!(faults(&[won, lost.clone()]), [fault], "{lost:?}");
        assert_eq!(faults(&[lost]), [Fault::Consequence]);
    }
}
