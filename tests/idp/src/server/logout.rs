//! Logout by the browser: OpenID Connect RP-Initiated Logout 1.0.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{
    authorization_request::{Parameters, is_registered},
    inner::{Server, State},
    received::Received,
    respond::{empty_response, escape, html_response},
    sessions::COOKIE,
    verify::Jwt,
};

/// `GET` and `POST /end_session`: ends the session of the ID token, else the browser's own, and the refresh tokens that
/// came of it.
pub(super) fn end_session(server: &Server, received: &Received) -> Response {
    let query = received.query_pairs();
    let parameters = Parameters(if received.method() == "POST" { received.form() } else { &query });
    let mut state = server.state();
    match end(server, &mut state, received, parameters) {
        Err(reason) => html_response(
            StatusCode::BAD_REQUEST,
            &format!("<h1>Not signed out</h1><p>{}</p>", escape(&reason)),
        ),
        Ok(target) => {
            let mut response = match target {
                None => html_response(StatusCode::OK, "<h1>Signed out</h1>"),
                Some(target) => empty_response(StatusCode::SEE_OTHER, header::LOCATION, &target),
            };
            let cookie = format!("{COOKIE}=; Path=/; Max-Age=0");
            let cookie = HeaderValue::from_str(&cookie).expect("a cookie in visible ASCII");
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
    }
}

/// Ends the session and gives the address to go to.
fn end(
    server: &Server,
    state: &mut State,
    received: &Received,
    parameters: Parameters<'_>,
) -> Result<Option<String>, String> {
    let hint = parameters.get("id_token_hint").map(|hint| read_hint(server, hint)).transpose()?;
    let named = hint.as_ref().and_then(|hint| hint.text("aud"));
    let client_id = parameters.get("client_id").or(named);
    if named.is_some() && client_id != named {
        return Err("the ID token is another client's".to_owned());
    }
    let target = parameters.get("post_logout_redirect_uri");
    if let Some(target) = target {
        let client =
            client_id.and_then(|id| state.client(id)).ok_or("no client is named, or an unknown one")?;
        if !is_registered(&client.post_logout_redirect_uris, target) {
            return Err("the post_logout_redirect_uri is not registered".to_owned());
        }
    }
    let own = received.cookie(COOKIE).and_then(|cookie| state.sessions.of_cookie(cookie));
    let session = match &hint {
        Some(hint) => hint.text("sid").map(str::to_owned),
        None => own.map(|(sign_in, _)| sign_in.session.clone()),
    };
    if let Some(session) = session {
        state.counters.sessions_ended += u64::from(state.sessions.end(&session));
        state.counters.families_revoked += state.tokens.end_session(&session) as u64;
    }
    Ok(target.map(|target| {
        let Some(said) = parameters.get("state") else { return target.to_owned() };
        let said: String = url::form_urlencoded::byte_serialize(said.as_bytes()).collect();
        let mark = if target.contains('?') { '&' } else { '?' };
        format!("{target}{mark}state={said}")
    }))
}

/// An ID token of this server; it may have expired.
fn read_hint(server: &Server, hint: &str) -> Result<Jwt, String> {
    let jwt = Jwt::parse(hint).map_err(|reason| format!("the id_token_hint: {reason}"))?;
    if jwt.text("iss") == Some(&server.issuer) && server.signer().signed(&jwt) {
        Ok(jwt)
    } else {
        Err("the id_token_hint is not from this server".to_owned())
    }
}
