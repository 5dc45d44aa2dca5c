//! What an operator does, over the Admin REST API.

use reqwest::Method;
use serde_json::{Value, json};

use super::options::Options;
use super::realm::{self, ADMIN, ADMIN_PASSWORD, API_SCOPES, RESOURCE_SERVER};
use super::{Error, Keycloak, Reply};

impl Keycloak {
    /// Ends a person's sessions, as an operator does in the console: their refresh tokens are refused from then on.
    pub async fn log_out_user(&self, user: &str) -> Result<(), Error> {
        let path = format!("{}/logout", self.user_path(user).await?);
        self.admin(Method::POST, &path, Some(&json!({}))).await.map(drop)
    }

    /// Takes back what a person has consented to, so that the next sign-in asks again.
    pub async fn forget_consents(&self, user: &str) -> Result<(), Error> {
        let path = format!("{}/consents", self.user_path(user).await?);
        let consents = self.admin(Method::GET, &path, None).await?;
        for consent in consents.as_array().into_iter().flatten() {
            let client = consent["clientId"].as_str().unwrap_or_default();
            self.admin(Method::DELETE, &format!("{path}/{client}"), None).await?;
        }
        Ok(())
    }

    /// How many sessions a person has.
    pub async fn session_count(&self, user: &str) -> Result<usize, Error> {
        let path = format!("{}/sessions", self.user_path(user).await?);
        let sessions = self.admin(Method::GET, &path, None).await?;
        Ok(sessions.as_array().map_or(0, Vec::len))
    }

    /// Changes settings of the realm, by a JSON merge patch of its representation, such as
    /// `{"accessTokenLifespan": 5}`.
    pub async fn set_realm(&self, changes: &Value) -> Result<(), Error> {
        let mut realm = self.admin(Method::GET, "", None).await?;
        realm::merge_realm(&mut realm, changes);
        self.admin(Method::PUT, "", Some(&realm)).await.map(drop)
    }

    /// Gives a confidential client another secret; the old one is refused from then on.
    pub async fn set_client_secret(&self, client: &str, secret: &str) -> Result<(), Error> {
        let found = self.admin(Method::GET, &format!("/clients?clientId={client}"), None).await?;
        let mut client = only(&found, "client", client)?.clone();
        let path = format!("/clients/{}", client["id"].as_str().unwrap_or_default());
        realm::merge(&mut client, &json!({"secret": secret}));
        self.admin(Method::PUT, &path, Some(&client)).await.map(drop)
    }

    /// What introspection says about a token, asked as the client `resource-server`.
    pub async fn introspect(&self, token: &str) -> Result<Value, Error> {
        let secret = realm::client_secret(RESOURCE_SERVER);
        let answer = self
            .http
            .post(self.endpoint("token/introspect"))
            .basic_auth(RESOURCE_SERVER, secret)
            .form(&[("token", token)])
            .send()
            .await?;
        let reply = Reply::read(answer).await?;
        match reply.status {
            200 => Ok(reply.body),
            status => Err(Error(format!("introspection: {status} {}", reply.body))),
        }
    }

    /// Calls the Admin REST API at a path below that of the realm, and gives its JSON answer, `null` if empty.
    pub async fn admin(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let address = format!("{}/admin/realms/{}{path}", self.base(), realm::NAME);
        self.call_as_admin(method, &address, body).await
    }

    /// Makes the realm and the client scopes of the API in a new server.
    pub(super) async fn make_realm(&self, options: &Options) -> Result<(), Error> {
        let realms = format!("{}/admin/realms", self.base());
        self.call_as_admin(Method::POST, &realms, Some(&realm::realm(options))).await?;
        for name in API_SCOPES {
            let scope = json!({
                "name": name,
                "description": name,
                "protocol": "openid-connect",
                "attributes": {
                    "include.in.token.scope": "true",
                    "display.on.consent.screen": "true",
                    "consent.screen.text": name,
                },
            });
            self.admin(Method::POST, "/client-scopes", Some(&scope)).await?;
        }
        let scopes = self.admin(Method::GET, "/client-scopes", None).await?;
        let clients = self.admin(Method::GET, "/clients?max=500", None).await?;
        let ours = realm::clients();
        let of_api = |scope: &&Value| API_SCOPES.iter().any(|name| scope["name"] == *name);
        for client in clients.as_array().into_iter().flatten() {
            if !ours.iter().any(|name| client["clientId"] == **name) {
                continue;
            }
            for scope in scopes.as_array().into_iter().flatten().filter(of_api) {
                let (client, scope) = (client["id"].as_str(), scope["id"].as_str());
                let (client, scope) = (client.unwrap_or_default(), scope.unwrap_or_default());
                let path = format!("/clients/{client}/optional-client-scopes/{scope}");
                self.admin(Method::PUT, &path, Some(&json!({}))).await?;
            }
        }
        Ok(())
    }

    async fn call_as_admin(
        &self,
        method: Method,
        address: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        // A token each time: it lives for a minute, and one made before the realm would not reach into it.
        let token = self.admin_token().await?;
        let mut request = self.http.request(method.clone(), address).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = Reply::read(request.send().await?).await?;
        match reply.status {
            200..=299 => Ok(reply.body),
            status => Err(Error(format!("{method} {address}: {status} {}", reply.body))),
        }
    }

    async fn admin_token(&self) -> Result<String, Error> {
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMIN),
            ("password", ADMIN_PASSWORD),
        ];
        let address = format!("{}/realms/master/protocol/openid-connect/token", self.base());
        let reply = Reply::read(self.http.post(address).form(&form).send().await?).await?;
        match reply.body["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(Error(format!("the administrator's token: {} {}", reply.status, reply.body))),
        }
    }

    async fn user_path(&self, user: &str) -> Result<String, Error> {
        let found = self.admin(Method::GET, &format!("/users?exact=true&username={user}"), None).await?;
        let id = only(&found, "user", user)?["id"].as_str().unwrap_or_default().to_owned();
        Ok(format!("/users/{id}"))
    }
}

/// The one entry of a list.
fn only<'a>(list: &'a Value, kind: &str, name: &str) -> Result<&'a Value, Error> {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => Err(Error(format!("no {kind} {name} in the realm"))),
    }
}
