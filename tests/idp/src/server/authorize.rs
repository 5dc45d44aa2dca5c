//! The authorization endpoint and the page where people sign in.

use std::time::SystemTime;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{
    authorization_request::{AuthorizationRequest, Parameters, Redirection},
    inner::{Server, State},
    received::Received,
    respond::{OAuthError, empty_response, escape, html_response},
    sessions::{COOKIE, SignIn},
    settings::AuthorizationIss,
    tokens::Grant,
};

/// `GET /authorize`: RFC 6749 section 4.1.1, with PKCE and OpenID Connect.
pub(super) fn authorize(server: &Server, received: &Received) -> Response {
    let mut state = server.state();
    let query = received.query_pairs();
    let parameters = Parameters(&query);
    match request(server, &mut state, parameters) {
        Ok(request) => decide(server, &mut state, received, request),
        Err((error, None)) => {
            let text = format!("<h1>{}</h1><p>{}</p>", error.error, escape(error.text()));
            html_response(StatusCode::BAD_REQUEST, &text)
        }
        Err((error, Some(redirection))) => send_error(server, &redirection, &error),
    }
}

type Refusal = (OAuthError, Option<Redirection>);

/// The request that was pushed, or the one in the query.
fn request(
    server: &Server,
    state: &mut State,
    parameters: Parameters<'_>,
) -> Result<AuthorizationRequest, Refusal> {
    let stay = |description: &str| (OAuthError::invalid_request(description), None);
    let id = parameters.get("client_id").ok_or_else(|| stay("client_id is missing"))?;
    let client = state.client(id).ok_or_else(|| stay("the client is unknown"))?;
    if let Some(uri) = parameters.get("request_uri") {
        if parameters.0.len() != 2 {
            return Err(stay("beside client_id and request_uri there are other parameters"));
        }
        let pulled = state.codes.pull(id, uri);
        return pulled.ok_or_else(|| stay("the request_uri is unknown, was used or has expired"));
    }
    let redirection = Redirection::read(&client, parameters).map_err(|error| (error, None))?;
    let back = |error| (error, Some(redirection.clone()));
    if server.settings.require_pushed_authorization_requests || client.require_pushed_authorization_requests {
        return Err(back(OAuthError::invalid_request("the request has to be pushed")));
    }
    AuthorizationRequest::read(&server.settings, &client, redirection.clone(), parameters).map_err(back)
}

/// Answers at once if the person need not be asked, and asks otherwise.
fn decide(
    server: &Server,
    state: &mut State,
    received: &Received,
    request: AuthorizationRequest,
) -> Response {
    let session = received.cookie(COOKIE).and_then(|cookie| state.sessions.of_cookie(cookie));
    let session = session.map(|(sign_in, user)| (sign_in.clone(), user.to_owned()));
    if request.acr_essential && !request.acr_values.iter().any(|acr| server.settings.acr_values.contains(acr))
    {
        let error = OAuthError::new("unmet_authentication_requirements", "no such level can be reached");
        return send_error(server, &request.redirection, &error);
    }
    if let Some((sign_in, user)) = &session
        && suffices(sign_in, user, &request)
    {
        state.counters.silent_sign_ins += 1;
        return send_code(server, state, request, user, sign_in);
    }
    if request.prompts("none") {
        let error = OAuthError::new("login_required", "nobody is signed in, or not well enough");
        return send_error(server, &request.redirection, &error);
    }
    if let Some(user) = &server.settings.sign_in_as {
        return sign_in(server, state, request, user);
    }
    let hint = request.login_hint.clone().unwrap_or_default();
    let name = state.codes.wait(request);
    login_page(state, &name, &hint, "")
}

/// Whether a session answers a request without a question.
fn suffices(sign_in: &SignIn, user: &str, request: &AuthorizationRequest) -> bool {
    let asks = ["login", "consent", "select_account", "create"].iter().any(|word| request.prompts(word));
    let age = SystemTime::now().duration_since(sign_in.at).unwrap_or_default();
    let fresh = request.max_age.is_none_or(|most| age.as_secs_f64() <= most as f64);
    let level = request.acr_values.is_empty() || request.acr_values.contains(&sign_in.acr);
    let hinted = request.login_hint.as_deref().is_none_or(|hint| hint == user);
    !asks && fresh && level && hinted
}

/// The page where a person signs in.
fn login_page(state: &mut State, name: &str, user: &str, complaint: &str) -> Response {
    let client = state.codes.waiting(name).map(|request| escape(&request.client_id)).unwrap_or_default();
    state.counters.login_pages += 1;
    let form = format!(
        concat!(
            r#"<h1>Sign in to {client}</h1><p>{complaint}</p><form method="post" action="/login">"#,
            r#"<input type="hidden" name="login" value="{name}">"#,
            r#"<p>User <input name="user" value="{user}"></p>"#,
            r#"<p><button name="action" value="approve">Approve</button> "#,
            r#"<button name="action" value="deny">Deny</button></p></form>"#
        ),
        client = client,
        complaint = escape(complaint),
        name = name,
        user = escape(user),
    );
    html_response(StatusCode::OK, &form)
}

/// `POST /login`: the decision of `user` on the request that waits under `login`, by `action`.
pub(super) fn login(server: &Server, received: &Received) -> Response {
    let mut state = server.state();
    let name = received.parameter("login").unwrap_or_default();
    let user = received.parameter("user").unwrap_or_default();
    if state.codes.waiting(name).is_none() {
        return html_response(StatusCode::NOT_FOUND, "No request waits under this name.");
    }
    let approved = match received.parameter("action") {
        Some("approve") => true,
        Some("deny") => false,
        _ => return html_response(StatusCode::BAD_REQUEST, "The action is approve or deny."),
    };
    if approved && server.settings.user(user).is_none() {
        return login_page(&mut state, name, user, "There is no such user.");
    }
    let Some(request) = state.codes.decided(name) else { return StatusCode::NOT_FOUND.into_response() };
    if approved {
        sign_in(server, &mut state, request, user)
    } else {
        let error = OAuthError::new("access_denied", "the person said no");
        send_error(server, &request.redirection, &error)
    }
}

/// Begins a session and answers its first request.
fn sign_in(server: &Server, state: &mut State, request: AuthorizationRequest, user: &str) -> Response {
    let (sign_in, cookie) = state.sessions.begin(&server.settings, user, &request.acr_values);
    let mut response = send_code(server, state, request, user, &sign_in);
    let cookie = format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax");
    response
        .headers_mut()
        .insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).expect("a cookie in visible ASCII"));
    response
}

fn send_code(
    server: &Server,
    state: &mut State,
    request: AuthorizationRequest,
    user: &str,
    sign_in: &SignIn,
) -> Response {
    let Some(user) = server.settings.user(user) else {
        let error = OAuthError::new("server_error", "the settings name no such user");
        return send_error(server, &request.redirection, &error);
    };
    let grant = Grant {
        user: Some(user.clone()),
        scopes: request.scopes.clone(),
        audiences: request.resources.clone(),
        authorization_details: request.authorization_details.clone(),
        sign_in: Some(sign_in.clone()),
        ..Grant::of(&request.client_id)
    };
    let redirection = request.redirection.clone();
    let code = state.codes.issue(request, grant, server.settings.code_lifetime);
    state.counters.codes_issued += 1;
    send(server, &redirection, vec![("code", code)])
}

fn send_error(server: &Server, redirection: &Redirection, error: &OAuthError) -> Response {
    let description = error.text().to_owned();
    send(server, redirection, vec![("error", error.error.clone()), ("error_description", description)])
}

/// Sends the browser back with an answer.
fn send(server: &Server, redirection: &Redirection, mut answer: Vec<(&str, String)>) -> Response {
    if let Some(state) = &redirection.state {
        answer.push(("state", state.clone()));
    }
    match &server.settings.authorization_iss {
        AuthorizationIss::Right => answer.push(("iss", server.issuer.clone())),
        AuthorizationIss::Wrong(issuer) => answer.push(("iss", issuer.clone())),
        AuthorizationIss::Missing => {}
    }
    if redirection.form_post {
        return html_response(StatusCode::OK, &self_submitting(&redirection.uri, &answer));
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&answer).finish();
    let mark = if redirection.uri.contains('?') { '&' } else { '?' };
    // 303, for after the login page's POST a browser has to GET.
    empty_response(StatusCode::SEE_OTHER, header::LOCATION, &format!("{}{mark}{query}", redirection.uri))
}

/// The page of OAuth 2.0 Form Post Response Mode, section 2.
fn self_submitting(action: &str, fields: &[(&str, String)]) -> String {
    let inputs = fields
        .iter()
        .map(|(name, value)| format!(r#"<input type="hidden" name="{name}" value="{}">"#, escape(value)))
        .collect::<String>();
    format!(
        concat!(
            r#"<form id="answer" method="post" action="{}">{}"#,
            r#"<noscript><button>Go on</button></noscript></form>"#,
            r#"<script>document.getElementById("answer").submit()</script>"#
        ),
        escape(action),
        inputs
    )
}
