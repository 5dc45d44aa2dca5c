//! Pushed authorization requests, requests that wait for a person, and authorization codes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    authorization_request::AuthorizationRequest,
    signer::random,
    tokens::{FamilyId, Grant},
};

/// What came of authorization requests so far.
#[derive(Debug, Default)]
pub(super) struct Codes {
    pushed: HashMap<String, (AuthorizationRequest, Instant)>,
    waiting: HashMap<String, AuthorizationRequest>,
    codes: HashMap<String, Code>,
}

/// An authorization code.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) request: AuthorizationRequest,
    pub(super) grant: Grant,
    pub(super) deadline: Instant,
    /// Whether it was presented, with or without success.
    pub(super) spent: bool,
    /// What it was redeemed for.
    pub(super) family: Option<FamilyId>,
}

impl Codes {
    /// Keeps a pushed request and gives its `request_uri`.
    pub(super) fn push(&mut self, request: AuthorizationRequest, lifetime: Duration) -> String {
        let uri = format!("urn:ietf:params:oauth:request_uri:{}", random("par"));
        self.pushed.insert(uri.clone(), (request, Instant::now() + lifetime));
        uri
    }

    /// The pushed request of a `request_uri`, which is good for one use of its client.
    pub(super) fn pull(&mut self, client_id: &str, uri: &str) -> Option<AuthorizationRequest> {
        self.pushed.get(uri).filter(|(request, _)| request.client_id == client_id)?;
        let (request, deadline) = self.pushed.remove(uri)?;
        (Instant::now() < deadline).then_some(request)
    }

    /// Keeps a request until a person has decided, and gives its name.
    pub(super) fn wait(&mut self, request: AuthorizationRequest) -> String {
        let name = random("login");
        self.waiting.insert(name.clone(), request);
        name
    }

    /// The request that waits under a name.
    pub(super) fn waiting(&self, name: &str) -> Option<&AuthorizationRequest> {
        self.waiting.get(name)
    }

    /// The request that waits under a name; it waits no longer.
    pub(super) fn decided(&mut self, name: &str) -> Option<AuthorizationRequest> {
        self.waiting.remove(name)
    }

    /// Issues a code.
    pub(super) fn issue(
        &mut self,
        request: AuthorizationRequest,
        grant: Grant,
        lifetime: Duration,
    ) -> String {
        let code = random("code");
        let deadline = Instant::now() + lifetime;
        self.codes.insert(code.clone(), Code { request, grant, deadline, spent: false, family: None });
        code
    }

    pub(super) fn find(&mut self, code: &str) -> Option<&mut Code> {
        self.codes.get_mut(code)
    }
}
