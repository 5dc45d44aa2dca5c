use keyfob_auth_core::Login;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example";
const NOW: u64 = 1_800_000_000;

fn expected() -> Expected<'static> {
    Expected::new(ISSUER, "client", UNIX_EPOCH + Duration::from_secs(NOW))
}

fn jwt(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.c2ln", encode(header), encode(claims))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "1", "aud": "client", "exp": NOW + 300, "iat": NOW, "preferred_username": "alice",
    })
}

/// The claims with these changed; null removes one.
fn changed(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn with(changes: &Value) -> String {
    jwt(&json!({"alg": "RS256"}), &changed(changes))
}

#[track_caller]
fn accepted(token: &str) -> Account {
    account_of_login(token, &expected()).unwrap()
}

#[track_caller]
fn refused(token: &str, why: &str) {
    refused_by(token, &expected(), why);
}

#[track_caller]
fn refused_by(token: &str, expected: &Expected<'_>, why: &str) {
    let error = account_of_login(token, expected).unwrap_err();
    assert_eq!(error.kind(), keyfob_auth_core::ErrorKind::Refused);
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_valid_id_token_names_the_account() {
    let account = accepted(&with(&json!({})));
    assert_eq!(account.issuer.as_deref(), Some(ISSUER));
    assert_eq!((account.subject.as_str(), account.name.as_deref()), ("1", Some("alice")));
}

#[test]
fn the_name_is_the_first_that_a_person_would_know() {
    for (changes, name) in [
        (json!({"email": "a@x", "name": "Alice A."}), Some("alice")),
        (json!({"preferred_username": "", "email": "a@x"}), Some("a@x")),
        (json!({"preferred_username": 7, "name": "Alice A."}), Some("Alice A.")),
        (json!({"preferred_username": null}), None),
    ] {
        assert_eq!(accepted(&with(&changes)).name.as_deref(), name, "{changes}");
    }
}

#[test]
fn oidc_core_3_1_3_7_2_iss_is_the_issuer_byte_for_byte() {
    refused(&with(&json!({"iss": "https://idp.example/"})), "`iss`");
    refused(&with(&json!({"iss": "https://other.example"})), "`iss`");
    refused(&with(&json!({"iss": null})), "`iss`");
    refused(&with(&json!({"iss": [ISSUER]})), "`iss`");
}

#[test]
fn oidc_core_2_sub_is_there() {
    refused(&with(&json!({"sub": null})), "`sub`");
    refused(&with(&json!({"sub": ""})), "`sub`");
    refused(&with(&json!({"sub": 1})), "`sub`");
}

#[test]
fn oidc_core_3_1_3_7_3_aud_contains_the_client() {
    refused(&with(&json!({"aud": "other"})), "`aud`");
    refused(&with(&json!({"aud": "client other"})), "`aud`");
    refused(&with(&json!({"aud": []})), "`aud`");
    refused(&with(&json!({"aud": null})), "`aud`");
    refused(&with(&json!({"aud": ["other"], "azp": "client"})), "`aud`");
    refused(&with(&json!({"aud": {"client": true}})), "`aud`");
}

#[test]
fn oidc_core_3_1_3_7_3_an_aud_that_is_not_known_here_is_refused() {
    for aud in [json!(["client", "other"]), json!(["other", "client"]), json!(["client", ""])] {
        for azp in [json!("client"), json!(null)] {
            refused(&with(&json!({"aud": aud, "azp": azp})), "`id_token_audiences`");
        }
    }
    let audiences = ["other".to_owned(), "third".to_owned()];
    let known = Expected { audiences: &audiences, ..expected() };
    for aud in [json!(["client", "other"]), json!(["third", "client", "other"])] {
        assert!(account_of_login(&with(&json!({"aud": aud, "azp": "client"})), &known).is_ok(), "{aud}");
    }
    refused_by(&with(&json!({"aud": ["client", "fourth"], "azp": "client"})), &known, "\"fourth\"");
    refused_by(&with(&json!({"aud": ["other", "third"], "azp": "client"})), &known, "not for this client");
}

#[test]
fn oidc_core_3_1_3_7_4_several_aud_need_azp() {
    let audiences = ["other".to_owned()];
    let known = Expected { audiences: &audiences, ..expected() };
    refused_by(&with(&json!({"aud": ["client", "other"]})), &known, "`azp`");
    assert!(account_of_login(&with(&json!({"aud": ["client", "other"], "azp": "client"})), &known).is_ok());
    accepted(&with(&json!({"aud": ["client"]})));
    accepted(&with(&json!({"aud": ["client", "client"]})));
}

#[test]
fn oidc_core_3_1_3_7_5_azp_is_the_client() {
    refused(&with(&json!({"azp": "other"})), "`azp`");
    let audiences = ["other".to_owned()];
    let known = Expected { audiences: &audiences, ..expected() };
    refused_by(&with(&json!({"aud": ["client", "other"], "azp": "other"})), &known, "`azp`");
    refused(&with(&json!({"azp": 7})), "`azp`");
    accepted(&with(&json!({"azp": "client"})));
}

#[test]
fn oidc_core_3_1_3_7_6_alg_none_is_refused() {
    for alg in [json!("none"), json!("None"), json!(null), json!("")] {
        refused(&jwt(&json!({"alg": alg}), &claims()), "`alg`");
    }
}

#[test]
fn oidc_core_3_1_3_7_9_exp_is_to_come() {
    refused(&with(&json!({"exp": NOW - 60})), "`exp`");
    refused(&with(&json!({"exp": 0})), "`exp`");
    refused(&with(&json!({"exp": null})), "`exp`");
    refused(&with(&json!({"exp": "tomorrow"})), "`exp`");
    accepted(&with(&json!({"exp": NOW - 59})));
    accepted(&with(&json!({"exp": NOW as f64 + 0.5})));
    accepted(&with(&json!({"exp": 1e300})));
}

#[test]
fn oidc_core_3_1_3_7_10_iat_is_there_and_not_to_come() {
    refused(&with(&json!({"iat": null})), "`iat`");
    refused(&with(&json!({"iat": "now"})), "`iat`");
    refused(&with(&json!({"iat": NOW + 61})), "in the future (`iat`)");
    accepted(&with(&json!({"iat": NOW + 60})));
    accepted(&with(&json!({"iat": NOW - 3600})));
}

#[test]
fn rfc7519_4_1_5_nbf_is_not_to_come() {
    refused(&with(&json!({"nbf": NOW + 61})), "not valid yet (`nbf`)");
    refused(&with(&json!({"nbf": "soon"})), "`nbf`");
    accepted(&with(&json!({"nbf": NOW + 60})));
    accepted(&with(&json!({"nbf": null})));
}

#[test]
fn oidc_core_3_1_3_7_11_nonce_is_the_one_that_was_sent() {
    let sent = Expected { nonce: Some("n-1"), ..expected() };
    assert!(account_of_login(&with(&json!({"nonce": "n-1"})), &sent).is_ok());
    for (nonce, why) in [
        (json!("n-2"), "answers another login"),
        (json!("n-1 "), "answers another login"),
        (json!(["n-1"]), "answers another login"),
        (json!(""), "answers another login"),
        (json!(null), "no `nonce`"),
    ] {
        refused_by(&with(&json!({"nonce": nonce})), &sent, why);
    }
    refused(&with(&json!({"nonce": "n-1"})), "was not made here");
    refused(&with(&json!({"nonce": ""})), "was not made here");
}

#[test]
fn oidc_core_3_1_3_7_12_acr_is_one_that_was_demanded() {
    let demanded = Expected { acr_values: Some("gold silver"), ..expected() };
    for acr in ["gold", "silver"] {
        assert!(account_of_login(&with(&json!({"acr": acr})), &demanded).is_ok());
    }
    for acr in [json!("bronze"), json!("gold silver"), json!(null), json!(["gold"]), json!("")] {
        refused_by(&with(&json!({"acr": acr})), &demanded, "`acr`");
    }
    accepted(&with(&json!({"acr": "bronze"})));
}

#[test]
fn oidc_core_3_1_3_7_13_auth_time_is_there_and_no_older_than_max_age() {
    let demanded = |seconds| Expected { max_age: Some(Duration::from_secs(seconds)), ..expected() };
    for auth_time in [json!(null), json!("then"), json!([NOW])] {
        refused_by(&with(&json!({"auth_time": auth_time})), &demanded(300), "`auth_time`");
    }
    refused_by(&with(&json!({"auth_time": NOW - 361})), &demanded(300), "longer ago");
    refused_by(&with(&json!({"auth_time": NOW - 61})), &demanded(0), "longer ago");
    for (auth_time, max_age) in [(NOW - 360, 300), (NOW - 60, 0), (0, u64::MAX)] {
        assert!(account_of_login(&with(&json!({"auth_time": auth_time})), &demanded(max_age)).is_ok());
    }
    accepted(&with(&json!({"auth_time": 0})));
}

/// The left half of SHA-256, SHA-384 and SHA-512 of `token`, as `openssl dgst` has them.
const HALVES: [&str; 3] = [
    "PEaenWxYddN6Q_NT1PiOYQ",
    "Cm6hANx1qgPTYYSWu3KFaieklEAsPkh3",
    "ImXaughy_DrvFp0Hk2XlkPDLyO1GwqeYTIpkKAPP2Ww",
];

#[test]
fn oidc_core_3_1_3_6_at_hash_is_of_the_access_token() {
    let came = Expected { access_token: Some("token"), code: Some("code"), ..expected() };
    let token = |alg: &str, changes: &Value| jwt(&json!({"alg": alg}), &changed(changes));
    let algs: &[(&str, &str)] = &[
        ("RS256", HALVES[0]),
        ("ES256", HALVES[0]),
        #[cfg(feature = "jose")]
        ("PS384", HALVES[1]),
        #[cfg(feature = "jose")]
        ("ES512", HALVES[2]),
        #[cfg(feature = "jose")]
        ("EdDSA", HALVES[2]),
    ];
    for (alg, half) in algs {
        assert!(account_of_login(&token(alg, &json!({"at_hash": half})), &came).is_ok(), "{alg}");
        for other in [json!(format!("{half}A")), json!(&half[1..]), json!(""), json!(7)] {
            refused_by(&token(alg, &json!({"at_hash": other})), &came, "`at_hash`");
            refused_by(&token(alg, &json!({"c_hash": other})), &came, "`c_hash`");
            let renewal = account_of_renewal(&token(alg, &json!({"at_hash": other})), &came, None);
            assert_eq!(renewal.unwrap(), None);
        }
    }
    refused_by(&token("RS256", &json!({"c_hash": HALVES[0]})), &came, "`c_hash`");
    assert!(account_of_login(&token("RS256", &json!({})), &came).is_ok(), "it need not be there");
    accepted(&token("RS256", &json!({"at_hash": "of what is not known"})));
}

#[test]
fn rfc7515_4_1_11_crit_is_refused() {
    refused(&jwt(&json!({"alg": "RS256", "crit": ["x"]}), &claims()), "`crit`");
}

#[test]
fn oidc_core_3_1_3_7_1_an_encrypted_token_is_refused_in_words() {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM"}).to_string());
    refused(&format!("{header}.a2V5.aXY.Y2lwaGVy.dGFn"), "JWE");
    refused(&jwt(&json!({"alg": "dir", "enc": "A256GCM"}), &claims()), "JWE");
}

#[test]
fn rfc7519_7_2_a_malformed_jwt_is_refused() {
    for token in ["", ".", "..", "a.b.c", "not a token", "e30.e30", "W10.W10.x", "e30.e30.e30.e30"] {
        assert!(account_of_login(token, &expected()).is_err(), "{token:?}");
    }
    let good = with(&json!({}));
    assert!(account_of_login(&format!("{good}.x"), &expected()).is_err());
    assert!(account_of_login(&good.replace('.', ". "), &expected()).is_err());
}

#[test]
fn oidc_core_12_2_a_renewal_is_of_the_same_iss_and_sub() {
    let account = |subject: &str| Account { subject: subject.into(), ..Account::default() };
    let token = with(&json!({}));
    assert!(account_of_renewal(&token, &expected(), None).unwrap().is_some());
    assert!(account_of_renewal(&token, &expected(), Some(&account("1"))).unwrap().is_some());
    assert!(account_of_renewal(&token, &expected(), Some(&account("2"))).is_err());
    let elsewhere = Account { issuer: Some("https://other.example".into()), ..account("1") };
    assert!(account_of_renewal(&token, &expected(), Some(&elsewhere)).is_err());
    assert!(account_of_renewal(&with(&json!({"iss": "https://other.example"})), &expected(), None).is_err());
    // Whatever else is wrong with the token.
    for header in [json!({"alg": "none"}), json!({"alg": "RS256", "crit": ["x"]}), json!({})] {
        for wrong in [json!({"sub": "2", "aud": "other"}), json!({"iss": "https://other.example"})] {
            let token = jwt(&header, &changed(&wrong));
            assert!(
                account_of_renewal(&token, &expected(), Some(&account("1"))).is_err(),
                "{header} {wrong}"
            );
        }
    }
}

#[test]
fn oidc_core_12_2_an_id_token_that_does_not_hold_loses_no_renewal() {
    let account = Account { subject: "1".into(), ..Account::default() };
    let tokens = [
        with(&json!({"aud": "other"})),
        with(&json!({"azp": "other"})),
        with(&json!({"exp": null})),
        with(&json!({"iat": null})),
        with(&json!({"sub": null})),
        with(&json!({"iss": null})),
        jwt(&json!({"alg": "none"}), &claims()),
        "a.b.c.d.e".into(),
        "opaque".into(),
        String::new(),
    ];
    for token in tokens {
        assert_eq!(account_of_renewal(&token, &expected(), Some(&account)).unwrap(), None, "{token}");
    }
}

#[test]
fn oidc_core_12_2_an_untimely_id_token_loses_no_renewal() {
    let other = Account { subject: "2".into(), ..Account::default() };
    for changes in [json!({"exp": NOW - 1000}), json!({"iat": NOW + 1000}), json!({"nbf": NOW + 1000})] {
        let token = with(&changes);
        assert_eq!(account_of_renewal(&token, &expected(), None).unwrap(), None, "{changes}");
        assert!(
            account_of_renewal(&token, &expected(), Some(&other)).is_err(),
            "its subject counts all the same"
        );
    }
}

#[test]
fn oidc_core_12_2_a_renewal_with_another_aud_auth_time_or_nonce_is_not_taken() {
    let signed_in = json!({"auth_time": NOW - 9, "nonce": "n-1", "aud": ["client", "api"], "azp": "client"});
    let former = with(&signed_in);
    let audiences = ["api".to_owned(), "more".to_owned()];
    let renewal = |changes: Value| {
        let mut claims = signed_in.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().cloned().unwrap());
        let expected = Expected { former: Some(&former), audiences: &audiences, ..expected() };
        account_of_renewal(&with(&claims), &expected, None).unwrap()
    };
    for same in [
        json!({}),
        json!({"auth_time": null}),
        json!({"nonce": null}),
        json!({"aud": ["api", "client"]}),
        json!({"preferred_username": "bob"}),
    ] {
        assert!(renewal(same.clone()).is_some(), "{same}");
    }
    for other in [
        json!({"auth_time": NOW}),
        json!({"nonce": "n-2"}),
        json!({"aud": "client"}),
        json!({"aud": ["client", "api", "more"]}),
    ] {
        assert_eq!(renewal(other.clone()), None, "{other}");
    }
    let unreadable = Expected { former: Some("not a token"), audiences: &audiences, ..expected() };
    assert!(account_of_renewal(&former, &unreadable, None).unwrap().is_some());
}

#[test]
fn the_claims_of_a_login_can_be_asked_for() {
    let login = |token: String| Login { id_token: Some(token.into()), ..Login::default() };
    let claims = claims_of(&login(with(
        &json!({"email": "a@x", "groups": ["staff", 7, "ops"], "exp": 0, "department": {"id": 3}}),
    )))
    .unwrap();
    assert_eq!((claims.subject(), claims.name(), claims.email()), (Some("1"), Some("alice"), Some("a@x")));
    assert_eq!(claims.groups(), ["staff", "ops"]);
    assert_eq!(claims.get("department"), Some(&json!({"id": 3})));
    assert_eq!((claims.as_map().len(), claims.get("nothing")), (9, None));
    let shown = format!("{claims:?}");
    assert!(shown.contains("email") && !shown.contains("a@x"), "{shown}");

    let one = claims_of(&login(with(&json!({"groups": "staff", "sub": null})))).unwrap();
    assert_eq!((one.groups(), one.subject()), (vec!["staff"], None));
    assert!(claims_of(&login(with(&json!({})))).unwrap().groups().is_empty());
    for none in [Login::default(), login("opaque".into()), login("a.b.c.d.e".into())] {
        assert_eq!(claims_of(&none), None);
    }
}

proptest! {
    #[test]
    fn no_claim_panics(
        alg in prop::sample::select(vec!["RS256", "ES384", "EdDSA", "256", "x", "ä", "HS512"]),
        changes in prop::collection::vec((
            prop::sample::select(vec!["aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "auth_time", "acr", "sub"]),
            prop_oneof![
                Just(json!(null)),
                Just(json!("client")),
                Just(json!(["client"])),
                Just(json!({"client": {}})),
                any::<f64>().prop_map(|n| json!(n)),
                any::<i64>().prop_map(|n| json!(n)),
                any::<String>().prop_map(|text| json!(text)),
            ],
        ), 0..4),
        max_age: u64,
    ) {
        let changes: Map<String, Value> = changes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let token = jwt(&json!({"alg": alg}), &changed(&Value::Object(changes)));
        let former = with(&json!({"auth_time": NOW}));
        let expected = Expected {
            nonce: Some("client"),
            access_token: Some("token"),
            code: Some(""),
            max_age: Some(Duration::from_secs(max_age)),
            acr_values: Some("client"),
            former: Some(&former),
            ..expected()
        };
        for expected in [expected, Expected { nonce: None, ..expected }] {
            let _ = account_of_login(&token, &expected);
            let _ = account_of_renewal(&token, &expected, None);
        }
    }
}
