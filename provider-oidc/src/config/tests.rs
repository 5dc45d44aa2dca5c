use std::{collections::BTreeMap, time::Duration};

use keyfob_auth_core::{
    AuthError, Context, CredentialProvider, ErrorKind, Keep,
    registry::{SecretSource, Settings, Value},
};

use super::*;
use crate::Oidc;

const ISSUER: &str = "https://idp.example";

fn settings(keys: &[(&str, Value)]) -> Settings {
    let base = Settings::new("profile.work").with("issuer", Value::String(ISSUER.into()), Some(2)).with(
        "client_id",
        Value::String("app".into()),
        Some(3),
    );
    keys.iter().enumerate().fold(base, |all, (n, (key, value))| all.with(*key, value.clone(), Some(4 + n)))
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

fn read(keys: &[(&str, Value)]) -> Result<Oidc, AuthError> {
    let settings = settings(keys);
    let provider = Oidc::from_settings(&settings, &Context::new())?;
    settings.finish()?;
    Ok(provider)
}

#[test]
fn what_is_not_said_follows_from_the_secret() {
    let public = read(&[]).unwrap();
    assert!(matches!(public.config.client.proof, Proof::Nothing));
    assert_eq!(public.config.flow, Flow::Device);
    assert_eq!(public.config.scopes.to_string(), "openid");

    let confidential = read(&[("client_secret", text("s"))]).unwrap();
    assert!(matches!(confidential.config.client.proof, Proof::Basic { raw: false, .. }));
    assert_eq!(confidential.config.flow, Flow::ClientCredentials);
    assert!(confidential.config.scopes.is_empty());
}

#[cfg(feature = "jose")]
#[test]
fn rfc9700_2_5_a_key_proves_the_client_where_there_is_one_and_no_secret_takes_its_place_unasked() {
    let by_key = read(&[("key", text("k"))]).unwrap();
    assert!(matches!(by_key.config.client.proof, Proof::KeyJwt { .. }));
    assert_eq!(by_key.config.flow, Flow::ClientCredentials);
    let error = read(&[("key", text("k")), ("client_secret", text("s"))]).unwrap_err();
    assert!(error.to_string().contains("say by `client_auth` which"), "{error}");
}

#[test]
fn rfc9700_2_1_2_there_is_no_implicit_grant() {
    for flow in ["implicit", "hybrid", "token", "id_token token", "code token"] {
        let error = read(&[("flow", text(flow))]).unwrap_err();
        assert!(error.to_string().contains("must be one of"), "{flow}: {error}");
    }
    // Nor by the back door.
    for name in ["response_type", "response_mode"] {
        let error = Oidc::builder(ISSUER, "app").extra_parameter(name, "token").build(&Context::new());
        assert!(error.unwrap_err().message().contains(&format!("cannot set `{name}`")), "{name}");
    }
}

#[test]
fn rfc9700_2_4_a_password_is_taken_where_the_flow_says_so_and_nowhere_else() {
    let alice = [("username", text("alice")), ("password", text("p"))];
    for secret in [None, Some(("client_secret", text("s")))] {
        let keys: Vec<_> = alice.iter().cloned().chain(secret.clone()).collect();
        let error = read(&keys).unwrap_err();
        assert!(error.to_string().contains("it is not taken unasked"), "{error}");
        let keys: Vec<_> = keys.into_iter().chain([("flow", text("password"))]).collect();
        assert_eq!(read(&keys).unwrap().config.flow, Flow::Password);
    }
}

#[test]
fn rfc8707_2_a_resource_is_an_absolute_uri_without_a_fragment() {
    let build = |resource: &str| Oidc::builder(ISSUER, "app").resource(resource).build(&Context::new());
    for good in
        ["https://api.example", "https://api.example/orders?v=2", "urn:example:orders", "api://orders"]
    {
        assert_eq!(build(good).unwrap().config.resources, [good]);
    }
    for bad in ["", "orders", "/orders", "//api.example/orders", "https://api.example/#top"] {
        let error = build(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("RFC 8707"), "{bad:?}: {error}");
    }
}

#[test]
fn a_key_that_says_no_is_of_every_flow() {
    for (key, yes) in
        [("open_browser", true), ("pushed_authorization_requests", true), ("end_session", false)]
    {
        let of = |value| read(&[("flow", text("device")), (key, Value::Bool(value))]);
        assert!(of(false).is_ok(), "{key}");
        assert_eq!(of(true).is_err(), yes, "{key}");
    }
}

#[test]
fn every_key_is_read() {
    let scopes = Value::List(vec![text("a"), text("b c")]);
    let secret = Value::Table(BTreeMap::from([("env".into(), (text("KEYFOB_TEST_SECRET"), None))]));
    // All of them at once have a use with no flow.
    let settings = settings(&[
        ("client_secret", secret),
        ("client_auth", text("client_secret_post")),
        ("flow", text("device")),
        ("scopes", scopes),
        ("audience", text("api")),
        ("token_endpoint", text("https://idp.example/t?x=1")),
        ("device_authorization_endpoint", text("https://idp.example/d")),
        ("revocation_endpoint", text("https://idp.example/r")),
        ("resource", Value::List(vec![text("https://a.example"), text("https://b.example")])),
        (
            "extra_parameters",
            Value::Table(BTreeMap::from([
                ("organization".into(), (text("x"), None)),
                ("tag".into(), (Value::List(vec![text("1"), text("2")]), None)),
            ])),
        ),
        ("authorization_details", text("[]")),
        ("id_token_audiences", Value::List(vec![text("web"), text("cli")])),
        ("redirect_uri", Value::List(vec![text("http://127.0.0.1:8400/cb"), text("http://localhost/cb")])),
        ("response_mode", text("form_post")),
        ("pushed_authorization_requests", Value::Bool(true)),
        ("login_hint", text("alice")),
        ("prompt", text("login")),
        ("acr_values", text("gold")),
        ("max_age", Value::Integer(60)),
        ("ui_locales", text("de en")),
        ("open_browser", Value::Bool(false)),
        ("login_timeout", Value::Integer(120)),
        ("any_scope_on_refresh", Value::Bool(true)),
        ("username", text("alice")),
        ("password", text("p")),
        ("assertion", text("jwt")),
        ("subject", text("bob")),
        ("subject_token", text("s")),
        ("subject_token_type", text("urn:s")),
        ("actor_token", text("a")),
        ("actor_token_type", text("urn:a")),
        ("requested_token_type", text("urn:r")),
        ("ca_file", text("/etc/ca.pem")),
        ("proxy", text("http://proxy.example:3128")),
        ("timeout", Value::Integer(5)),
    ]);
    assert!(settings.has("issuer") && settings.has("client_id"));
    let provider = Oidc::builder(ISSUER, "app").settings(&settings).unwrap().build(&Context::new()).unwrap();
    settings.finish().unwrap();
    let config = &provider.config;
    assert!(matches!(config.client.proof, Proof::Post(_)));
    assert_eq!((config.flow, config.scopes.to_string().as_str()), (Flow::Device, "a b c"));
    assert_eq!(config.audiences, ["api"]);
    for (which, url) in [(Which::Token, "t"), (Which::DeviceAuthorization, "d"), (Which::Revocation, "r")] {
        assert_eq!(config.endpoint(which).unwrap().to_string(), format!("https://idp.example/{url}"));
    }
    assert_eq!(config.resources, ["https://a.example", "https://b.example"]);
    let extra =
        [("organization", "x"), ("tag", "1"), ("tag", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(config.extra, extra);
    assert_eq!(config.authorization_details.as_deref(), Some("[]"));
    assert_eq!(config.id_token_audiences, ["web", "cli"]);
    let browser = &config.browser;
    let uris: Vec<_> = browser.redirect_uris.iter().map(|uri| uri.as_str()).collect();
    assert_eq!(uris, ["http://127.0.0.1:8400/cb", "http://localhost/cb"]);
    assert_eq!((browser.response_mode, browser.pushed), (ResponseMode::FormPost, Some(true)));
    assert_eq!((browser.login_hint.as_deref(), browser.prompt.as_deref()), (Some("alice"), Some("login")));
    assert_eq!(browser.acr_values.as_deref(), Some("gold"));
    assert_eq!(browser.max_age, Some(Duration::from_secs(60)));
    assert_eq!(browser.ui_locales.as_deref(), Some("de en"));
    assert_eq!((browser.open_browser, browser.login_timeout), (false, Duration::from_secs(120)));
    assert!(config.any_scope_on_refresh);
    assert_eq!(config.username.as_deref(), Some("alice"));
    assert!(config.password.is_some() && config.jwt_bearer.given.is_some());
    assert_eq!(config.jwt_bearer.subject.as_deref(), Some("bob"));
    let exchange = &config.exchange;
    assert!(exchange.subject_token.is_some() && exchange.actor_token.is_some());
    assert_eq!(exchange.subject_token_type, "urn:s");
    assert_eq!(exchange.actor_token_type, "urn:a");
    assert_eq!(exchange.requested_token_type.as_deref(), Some("urn:r"));
    let network = &config.network;
    assert!(network.authorities.is_some() && matches!(&network.proxy, crate::http::Proxy::At(_)));
    assert_eq!(network.deadline, Some(Duration::from_secs(5)));
    assert!(provider.secret_revision().is_some(), "an environment variable can change");
    assert_eq!(provider.keeps(), Keep::Store);
}

#[test]
fn the_identity_is_what_was_configured() {
    let identity = read(&[]).unwrap().identity();
    assert_eq!((identity.kind.as_str(), identity.grant.as_str()), ("oidc", "device_code"));
    assert_eq!((identity.issuer.as_str(), identity.client.as_str()), (ISSUER, "app"));
    assert_eq!(identity.label, "work", "a profile's name is part of it");
    assert_eq!(read(&[("client_secret", text("s"))]).unwrap().identity().grant, "client_credentials");
}

#[test]
fn mistakes_are_named_with_key_and_line() {
    for (keys, said) in [
        (vec![("issuer", text("http://idp.example"))], "`issuer` must be an https URL"),
        (vec![("issuer", text("idp.example"))], "`issuer` is not a URL"),
        (vec![("issuer", text("https://idp.example?x"))], "`issuer` must have no query"),
        (vec![("client_id", text(""))], "`client_id` must not be empty"),
        (vec![("client_auth", text("client_secret_basic"))], "`client_secret` is needed"),
        (vec![("client_auth", text("basic"))], "must be one of"),
        (vec![("flow", text("client_credentials"))], "`client_secret` is needed"),
        (vec![("flow", text("devise"))], "did you mean `device`"),
        (vec![("client_auth", text("none")), ("client_secret", text("s"))], "`client_auth` is \"none\""),
        (vec![("scopes", text("openid"))], "`scopes` must be a list"),
        (vec![("scopes", Value::List(vec![text("a\"b")]))], "`scopes` have characters"),
        (vec![("token_endpoint", text("http://idp.example/t"))], "`token_endpoint` must be an https URL"),
        (vec![("token_endpoint", text("https://idp.example/t#f"))], "`token_endpoint` must have no fragment"),
        (vec![("flow", text("password"))], "`username` is needed"),
        (vec![("flow", text("password")), ("username", text("a"))], "`password` is needed"),
        (vec![("flow", text("jwt_bearer"))], "`assertion` is needed for the jwt_bearer flow, or a `key`"),
        (vec![("client_auth", text("private_key_jwt"))], "`key` is needed"),
        (vec![("client_auth", text("tls_client_auth"))], "`certificate` is needed"),
        (vec![("certificate_key", text("k"))], "`certificate` is needed"),
        (vec![("timeout", Value::Integer(0))], "`timeout` must be 1 or more"),
        #[cfg(feature = "jose")]
        (vec![("client_secret", text("s")), ("key", text("k"))], "`key` and `client_secret` are both there"),
        (
            vec![("client_auth", text("private_key_jwt")), ("client_secret", text("s"))],
            "`client_secret` has no use",
        ),
        (vec![("redirect_uri", text("http://app.example/cb"))], "`redirect_uri` must be https, or http on"),
        (vec![("redirect_uri", text("http://127.0.0.1/cb#f"))], "`redirect_uri` must have no fragment"),
        (vec![("authorization_details", text("{}"))], "`authorization_details` must be a JSON array"),
        (vec![("resource", text("orders"))], "`resource` must be an absolute URI without a fragment"),
        (vec![("proxy", text("proxy:3128"))], "`proxy` must be the http or https URL"),
        (
            vec![("extra_parameters", Value::Table(BTreeMap::from([("state".into(), (text("x"), None))])))],
            "`extra_parameters` cannot set `state`",
        ),
        (
            vec![("username", text("a")), ("client_secret", text("s"))],
            "`username` and `password` are of the flow",
        ),
        (
            vec![("client_assertion", text("j")), ("client_auth", text("none"))],
            "`client_assertion` has no use",
        ),
        (
            vec![
                ("client_assertion", text("j")),
                ("client_auth", text("client_secret_post")),
                ("client_secret", text("s")),
            ],
            "`client_assertion` has no use",
        ),
        (vec![("assertion_lifetime", Value::Integer(0))], "`assertion_lifetime` must be"),
        (vec![("token_endpiont", text("https://idp.example/t"))], "did you mean `token_endpoint`"),
    ] {
        let error = read(&keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        // A key that is missing has no line; its table has, in a file.
        let missing = said.contains("is needed");
        assert_eq!(error.origin().is_some_and(|origin| origin.starts_with("line ")), !missing, "{error}");
    }
}

#[test]
fn a_key_without_a_use_is_told_with_where_it_has_one() {
    let secret = ("client_secret", text("s"));
    let flow = |name: &str| ("flow", text(name));
    let alice = ("username", text("alice"));
    for (keys, said) in [
        (
            vec![flow("device"), alice.clone()],
            "`username` has no use with the flow \"device\": it is of \"password\"; leave it out, or set `flow`",
        ),
        (vec![flow("browser"), ("password", text("p"))], "`password` has no use with the flow \"browser\""),
        (
            vec![("redirect_uri", text("http://127.0.0.1/cb"))],
            "`redirect_uri` has no use with the flow \"device\", which is taken if `flow` says none: it is of \
             \"browser\" and \"auto\"",
        ),
        (
            vec![secret.clone(), ("prompt", text("login"))],
            "`prompt` has no use with the flow \"client_credentials\"",
        ),
        (vec![flow("device"), ("max_age", Value::Integer(60))], "`max_age` has no use"),
        (vec![flow("device"), ("assertion", text("j"))], "`assertion` has no use"),
        (vec![flow("device"), ("subject_token", text("j"))], "`subject_token` has no use"),
        (vec![flow("device"), ("actor_token", text("j"))], "`actor_token` has no use"),
        (vec![secret.clone(), ("end_session", Value::Bool(true))], "`end_session` has no use"),
        (
            vec![flow("jwt_bearer"), ("assertion", text("j")), ("subject", text("bob"))],
            "`subject` has no use beside `assertion`",
        ),
        (
            vec![secret.clone(), flow("token_exchange"), ("actor_token_type", text("urn:a"))],
            "`actor_token_type` has no use without `actor_token`",
        ),
        (vec![secret.clone(), ("key_id", text("k"))], "`key_id` has no use without a `key` that signs"),
        (vec![("key_passphrase", text("p"))], "`key_passphrase` has no use without a `key` that signs"),
        (
            vec![secret.clone(), ("signing_alg", text("RS256"))],
            "`signing_alg` has no use where nothing is signed",
        ),
        (
            vec![("assertion_lifetime", Value::Integer(60))],
            "`assertion_lifetime` has no use where keyfob makes no assertion",
        ),
        #[cfg(feature = "jose")]
        (
            vec![("key", text("k")), ("client_assertion", text("j"))],
            "`key` has no use here: nothing is signed with it",
        ),
    ] {
        let error = read(&keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.origin().is_some_and(|origin| origin.starts_with("line ")), "{error}");
    }
    for keys in [
        vec![flow("auto"), ("max_age", Value::Integer(60)), ("end_session", Value::Bool(true))],
        vec![flow("password"), alice, ("password", text("p")), ("id_token_audiences", text("web"))],
        // A fact about the server, whoever asks.
        vec![secret.clone(), ("authorization_endpoint", text("https://idp.example/authorize"))],
        // Of a service that acts for its callers.
        vec![secret, ("actor_token", text("a")), ("actor_token_type", text("urn:a"))],
        vec![flow("jwt_bearer"), ("assertion", text("j"))],
        #[cfg(feature = "jose")]
        vec![flow("jwt_bearer"), ("key", text("k")), ("subject", text("bob")), ("key_id", text("1"))],
        #[cfg(feature = "jose")]
        vec![
            ("client_secret", text("s")),
            ("client_auth", text("client_secret_jwt")),
            ("signing_alg", text("HS384")),
            ("assertion_lifetime", Value::Integer(60)),
        ],
    ] {
        read(&keys).unwrap();
    }
}

#[test]
fn the_builder_refuses_what_cannot_work() {
    let context = Context::new();
    let builder = || Oidc::builder(ISSUER, "app");
    assert!(builder().build(&context).is_ok());
    assert!(builder().extra_parameter("organization", "x").build(&context).is_ok());
    assert!(Oidc::builder("http://localhost:8080", "app").build(&context).is_ok());
    for name in ["claims", "prompt", "login_hint", "acr_values", "max_age", "ui_locales"] {
        let error = builder().extra_parameter(name, "x").build(&context).unwrap_err();
        assert!(error.message().contains(&format!("cannot set `{name}`")), "{error}");
    }
    for bad in [
        builder().extra_parameter("grant_type", "password"),
        builder().assertion_lifetime(Duration::from_millis(999)),
        builder().username("alice").password(SecretSource::Literal("marker".into())),
        #[cfg(feature = "jose")]
        builder().key(SecretSource::Literal("marker".into())).client_auth(ClientAuth::None),
        builder().extra_parameter("client_secret", "marker"),
        builder().flow(Flow::ClientCredentials),
        builder().token_endpoint("http://idp.example/t"),
        Oidc::builder("http://idp.example", "app"),
        Oidc::builder(ISSUER, ""),
    ] {
        let error = bad.build(&context).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.provider(), Some("oidc"));
        assert!(!error.to_string().contains("marker"), "{error}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let builder = Oidc::builder(ISSUER, "app")
        .client_secret(SecretSource::Literal("marker-1".into()))
        .extra_parameter("key", "marker-2")
        .token_endpoint("https://idp.example/t?key=marker-3");
    assert!(!format!("{builder:?}").contains("marker"));
    let unchecked = Oidc::builder("https://user:marker@idp.example", "app");
    let shown = format!("{unchecked:?}");
    assert!(!shown.contains("marker") && shown.contains("idp.example"), "{shown}");
    let provider = builder.build(&Context::new()).unwrap();
    assert!(!format!("{provider:?}").contains("marker"), "{provider:?}");
}

#[test]
fn every_key_is_documented() {
    let source = include_str!("settings.rs");
    // Every other part stands between quotes; no text in that file is anything but a key or one of a key's values.
    let quoted = source.split('"').skip(1).step_by(2);
    let is_key = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let keys: Vec<_> = quoted.filter(is_key).chain(Which::ALL.map(Which::key)).collect();
    assert!(keys.len() > 40, "{keys:?}");
    let documentation = include_str!("../docs.md");
    for key in keys {
        assert!(documentation.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn who_and_what_was_configured_tells_logins_apart() {
    let tenant = |change: &dyn Fn(OidcBuilder) -> OidcBuilder| {
        let builder =
            Oidc::builder(ISSUER, "app").client_secret(SecretSource::Literal("s".into())).label("work");
        change(builder).build(&Context::new()).unwrap().identity().tenant
    };
    let password = |user: &'static str| {
        move |builder: OidcBuilder| {
            builder.flow(Flow::Password).username(user).password(SecretSource::Literal("p".into()))
        }
    };
    let exchange = |token: &'static str| {
        move |builder: OidcBuilder| {
            builder.flow(Flow::TokenExchange).subject_token(SecretSource::Literal(token.into()))
        }
    };
    let bearer = |subject: &'static str| {
        move |builder: OidcBuilder| {
            let assertion = SecretSource::File("/assertion".into());
            builder.flow(Flow::JwtBearer).assertion(assertion).subject(subject)
        }
    };
    let pairs: [(String, String); 7] = [
        (tenant(&|b| b.extra_parameter("tenant", "x")), tenant(&|b| b.extra_parameter("tenant", "y"))),
        (tenant(&password("alice")), tenant(&password("bob"))),
        (tenant(&exchange("marker-1")), tenant(&exchange("marker-2"))),
        (tenant(&bearer("alice")), tenant(&bearer("bob"))),
        (tenant(&|b| b.audience("orders")), tenant(&|b| b.audience("billing"))),
        (tenant(&|b| b.resource("https://a.example")), tenant(&|b| b)),
        (tenant(&|b| b.scopes(["read"])), tenant(&|b| b.scopes(["write"]))),
    ];
    for (one, other) in pairs {
        assert_ne!(one, other);
        assert!(!one.contains("marker"), "{one}");
    }
    assert_eq!(tenant(&|b| b), "", "what says nothing adds nothing");
    // A person's login stays when other scopes are asked for.
    let device = |scope: &'static str| move |b: OidcBuilder| b.flow(Flow::Device).scopes([scope]);
    assert_eq!(tenant(&device("a")), tenant(&device("b")));
}
