//! Access tokens, refresh tokens and their families.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{registration::User, respond::OAuthError, sessions::SignIn, settings::Settings, signer::random};

/// Who was granted what.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) client_id: String,
    /// None for client credentials.
    pub(super) user: Option<User>,
    pub(super) scopes: Vec<String>,
    /// The resources and audiences that were asked for.
    pub(super) audiences: Vec<String>,
    pub(super) authorization_details: Option<Value>,
    /// How the user signed in.
    pub(super) sign_in: Option<SignIn>,
    /// Who acts for the subject (RFC 8693 section 4.1).
    pub(super) actor: Option<String>,
}

impl Grant {
    /// A grant of nothing to a client.
    pub(super) fn of(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            user: None,
            scopes: Vec::new(),
            audiences: Vec::new(),
            authorization_details: None,
            sign_in: None,
            actor: None,
        }
    }

    pub(super) fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }

    /// The grant for some of its resources only, or for all if none is named.
    pub(super) fn narrowed(mut self, resources: Vec<String>) -> Result<Self, OAuthError> {
        if resources.is_empty() {
            return Ok(self);
        }
        if !self.audiences.is_empty() && !resources.iter().all(|wish| self.audiences.contains(wish)) {
            return Err(OAuthError::new("invalid_target", "the resource is not one of those granted"));
        }
        self.audiences = resources;
        Ok(self)
    }

    pub(super) fn subject(&self) -> &str {
        self.user.as_ref().map_or(&self.client_id, |user| &user.subject)
    }
}

/// What a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The thumbprint of a DPoP key (RFC 9449 section 6).
    Dpop(String),
    /// The thumbprint of a certificate (RFC 8705 section 3).
    Certificate(String),
}

impl Binding {
    /// The claim `cnf`.
    pub(super) fn confirmation(&self) -> Value {
        match self {
            Self::Dpop(thumbprint) => json!({ "jkt": thumbprint }),
            Self::Certificate(thumbprint) => json!({ "x5t#S256": thumbprint }),
        }
    }
}

/// The place of a family in [`Tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FamilyId(usize);

/// All tokens that came from one decision of a user.
#[derive(Debug)]
struct Family {
    grant: Grant,
    /// What the refresh tokens of a public client are bound to.
    binding: Option<Binding>,
    alive: bool,
    generation: u64,
}

#[derive(Debug)]
struct RefreshToken {
    family: FamilyId,
    issued: Instant,
    spent: Option<Instant>,
}

/// An access token's record.
#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) grant: Grant,
    pub(super) binding: Option<Binding>,
    /// None for client credentials.
    pub(super) family: Option<FamilyId>,
    /// 1 for the first access token of a family, or of a client's own, and so on.
    pub(super) generation: u64,
    pub(super) issued: SystemTime,
    pub(super) lifetime: Duration,
    pub(super) deadline: Instant,
    pub(super) revoked: bool,
}

/// A wish to redeem a refresh token.
#[derive(Debug)]
pub(super) struct Redemption<'a> {
    pub(super) client_id: &'a str,
    pub(super) value: &'a str,
    /// The scopes asked for, which may only narrow the grant.
    pub(super) scopes: Option<Vec<String>>,
    /// The resources asked for, likewise.
    pub(super) resources: Vec<String>,
    /// What the client has proved to hold.
    pub(super) binding: Option<&'a Binding>,
}

/// What a refresh token was worth.
#[derive(Debug)]
pub(super) struct Redeemed {
    pub(super) family: FamilyId,
    pub(super) grant: Grant,
    /// The refresh token for the answer, if any.
    pub(super) refresh_token: Option<String>,
    /// Whether it was spent before and honoured by grace.
    pub(super) reuse: bool,
}

/// Why a refresh token was refused, and what came of it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: OAuthError,
    /// Whether it was spent before.
    pub(super) reuse: bool,
    /// Whether that killed the family.
    pub(super) killed: bool,
}

/// What revoking a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// There was nothing to end.
    Nothing,
    AccessToken,
    Family,
    /// The token is another client's.
    NotYours,
}

/// Every token of a server. Nothing is ever forgotten.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    families: Vec<Family>,
    refresh: HashMap<String, RefreshToken>,
    access: HashMap<String, AccessToken>,
    client_generations: HashMap<String, u64>,
}

impl Tokens {
    pub(super) fn begin_family(&mut self, grant: Grant, binding: Option<Binding>) -> FamilyId {
        self.families.push(Family { grant, binding, alive: true, generation: 0 });
        FamilyId(self.families.len() - 1)
    }

    pub(super) fn issue_refresh_token(&mut self, family: FamilyId) -> String {
        let token = random("rt");
        self.refresh.insert(token.clone(), RefreshToken { family, issued: Instant::now(), spent: None });
        token
    }

    /// The record of the next access token. It counts once it is kept under its value.
    pub(super) fn next_access_token(
        &mut self,
        grant: Grant,
        binding: Option<Binding>,
        family: Option<FamilyId>,
        lifetime: Duration,
    ) -> AccessToken {
        let generation = match family {
            Some(family) => &mut self.families[family.0].generation,
            None => self.client_generations.entry(grant.client_id.clone()).or_default(),
        };
        *generation += 1;
        AccessToken {
            grant,
            binding,
            family,
            generation: *generation,
            issued: SystemTime::now(),
            lifetime,
            deadline: Instant::now() + lifetime,
            revoked: false,
        }
    }

    pub(super) fn keep(&mut self, value: String, token: AccessToken) {
        self.access.insert(value, token);
    }

    /// Redeems a refresh token: spends it if the settings say so, and detects the reuse of a spent one.
    pub(super) fn redeem(&mut self, settings: &Settings, wish: Redemption<'_>) -> Result<Redeemed, Refused> {
        let Redemption { client_id, value, scopes, resources, binding } = wish;
        let refuse = |error| Refused { error, reuse: false, killed: false };
        let invalid = |description| refuse(OAuthError::invalid_grant(description));
        let now = Instant::now();

        let token = self.refresh.get_mut(value).ok_or_else(|| invalid("the refresh token is unknown"))?;
        let family = &mut self.families[token.family.0];
        if family.grant.client_id != client_id {
            return Err(invalid("the refresh token is another client's"));
        }
        let reuse = token.spent.is_some();
        if !family.alive {
            return Err(Refused { reuse, ..invalid("the refresh token is revoked") });
        }
        if settings.refresh_token_lifetime.is_some_and(|lifetime| now >= token.issued + lifetime) {
            return Err(Refused { reuse, ..invalid("the refresh token has expired") });
        }
        if family.binding.as_ref().is_some_and(|bound| Some(bound) != binding) {
            return Err(Refused { reuse, ..invalid("the refresh token is bound to another key") });
        }
        if let Some(spent) = token.spent
            && settings.reuse_grace.is_none_or(|grace| now >= spent + grace)
        {
            let killed = settings.reuse_detection;
            family.alive = !killed;
            return Err(Refused { reuse, killed, ..invalid("the refresh token was used before") });
        }
        let mut grant = family.grant.clone();
        if let Some(scopes) = scopes {
            if !scopes.iter().all(|scope| grant.scopes.contains(scope)) {
                let error = OAuthError::new("invalid_scope", "a refresh cannot widen the scope");
                return Err(Refused { reuse, ..refuse(error) });
            }
            grant.scopes = scopes;
        }
        let grant = grant.narrowed(resources).map_err(|error| Refused { reuse, ..refuse(error) })?;

        let family = token.family;
        let refresh_token = if settings.omit_refresh_token_on_refresh {
            None
        } else if settings.refresh_token_rotation {
            token.spent.get_or_insert(now);
            Some(self.issue_refresh_token(family))
        } else {
            Some(value.to_owned())
        };
        Ok(Redeemed { family, grant, refresh_token, reuse })
    }

    /// The record of an access token that is neither expired nor revoked.
    pub(super) fn active(&self, value: &str) -> Option<&AccessToken> {
        self.access.get(value).filter(|token| self.is_active(token))
    }

    /// The grant of a refresh token that could be redeemed now.
    pub(super) fn active_refresh(&self, settings: &Settings, value: &str) -> Option<&Grant> {
        let token = self.refresh.get(value)?;
        let family = &self.families[token.family.0];
        let expired =
            settings.refresh_token_lifetime.is_some_and(|lifetime| token.issued.elapsed() >= lifetime);
        (family.alive && token.spent.is_none() && !expired).then_some(&family.grant)
    }

    /// Revokes a token of a client: an access token alone, or the whole family of a refresh token.
    pub(super) fn revoke(&mut self, client_id: &str, value: &str) -> Revoked {
        if let Some(token) = self.refresh.get(value) {
            let family = &mut self.families[token.family.0];
            if family.grant.client_id != client_id {
                return Revoked::NotYours;
            }
            let was_alive = std::mem::replace(&mut family.alive, false);
            return if was_alive { Revoked::Family } else { Revoked::Nothing };
        }
        if self.access.get(value).is_some_and(|token| token.grant.client_id != client_id) {
            return Revoked::NotYours;
        }
        if self.revoke_access_token(value) { Revoked::AccessToken } else { Revoked::Nothing }
    }

    /// Revokes an access token and tells whether it was active.
    pub(super) fn revoke_access_token(&mut self, value: &str) -> bool {
        let was_active = self.active(value).is_some();
        if let Some(token) = self.access.get_mut(value) {
            token.revoked = true;
        }
        was_active
    }

    /// Revokes every access token and tells how many were active.
    pub(super) fn revoke_all_access_tokens(&mut self) -> usize {
        let active = self.access.values().filter(|token| self.is_active(token)).count();
        for token in self.access.values_mut() {
            token.revoked = true;
        }
        active
    }

    /// Kills a family and tells whether it was alive.
    pub(super) fn kill(&mut self, family: FamilyId) -> bool {
        std::mem::replace(&mut self.families[family.0].alive, false)
    }

    /// Kills the families of a user and tells how many were alive.
    pub(super) fn log_out(&mut self, user: &str) -> usize {
        self.kill_those(|grant| grant.user.as_ref().is_some_and(|granted| granted.name == user))
    }

    /// Kills the families of a session and tells how many were alive.
    pub(super) fn end_session(&mut self, id: &str) -> usize {
        self.kill_those(|grant| grant.sign_in.as_ref().is_some_and(|sign_in| sign_in.session == id))
    }

    fn kill_those(&mut self, are_they: impl Fn(&Grant) -> bool) -> usize {
        let theirs = self.families.iter_mut().filter(|family| family.alive && are_they(&family.grant));
        theirs.map(|family| family.alive = false).count()
    }

    fn is_active(&self, token: &AccessToken) -> bool {
        let alive = token.family.is_none_or(|family| self.families[family.0].alive);
        alive && !token.revoked && Instant::now() < token.deadline
    }
}
