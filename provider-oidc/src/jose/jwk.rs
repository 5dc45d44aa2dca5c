//! Private keys as JWK and JWK sets (RFC 7517, RFC 7518 section 6, RFC 8037), read so that no copy of them stays behind.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AuthError, ExposeSecret as _, SecretString};
use openssl::{
    bn::{BigNum, BigNumContext, BigNumRef},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    nid::Nid,
    pkey::{Id, PKey, PKeyRef, Private},
    rsa::RsaPrivateKeyBuilder,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::key::{Found, Kind};

/// Reads a private JWK, or the one of a set that is meant.
pub(super) fn read(text: &str, key_id: Option<&str>) -> Result<Found, AuthError> {
    let malformed = || wrong("begins like JSON, but is no JSON object that a JWK could be; is it cut off?");
    let Ok(Json::Object(mut members)) = serde_json::from_str(text) else { return Err(malformed()) };
    match members.remove("keys") {
        Some(Json::List(keys)) => pick(keys, key_id)?.found(),
        Some(_) => Err(malformed()),
        None => Jwk(members).found(),
    }
}

/// The key of the set that is meant: by its id, else the only one that can sign. One odd key does not spoil the set.
fn pick(keys: Vec<Json>, key_id: Option<&str>) -> Result<Jwk, AuthError> {
    let objects = keys.into_iter().filter_map(|key| match key {
        Json::Object(members) => Some(Jwk(members)),
        _ => None,
    });
    let mut fitting: Vec<Jwk> = objects.filter(|key| key.text("d").is_some() && key.signs()).collect();
    if fitting.is_empty() {
        return Err(wrong(
            "is a JWK set without a private key that signs; give the set with the private keys",
        ));
    }
    let ids: Vec<&str> = fitting.iter().filter_map(|key| key.text("kid")).collect();
    let ids = if ids.is_empty() { "none with a `kid`".to_owned() } else { ids.join(", ") };
    if let Some(wanted) = key_id {
        fitting.retain(|key| key.text("kid") == Some(wanted));
    }
    match (fitting.len(), fitting.pop()) {
        (1, Some(key)) => Ok(key),
        (0, _) => {
            let wanted = key_id.unwrap_or_default();
            Err(wrong(&format!("is a JWK set without the private key {wanted:?}; it has {ids}")))
        }
        (n, _) => Err(wrong(&format!(
            "is a JWK set of which {n} keys fit ({ids}); say with `key_id` which one is meant"
        ))),
    }
}

/// A JWK: the members of a JSON object.
struct Jwk(BTreeMap<String, Json>);

impl Jwk {
    /// A text that is not empty.
    fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Json::Text(text)) => Some(text.expose_secret()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Whether it is for signing, as far as it says (RFC 7517 sections 4.2 and 4.3).
    fn signs(&self) -> bool {
        let sign = |one: &Json| matches!(one, Json::Text(text) if text.expose_secret() == "sign");
        self.text("use").is_none_or(|purpose| purpose == "sig")
            && match self.0.get("key_ops") {
                Some(Json::List(operations)) => operations.iter().any(sign),
                _ => true,
            }
    }

    fn found(&self) -> Result<Found, AuthError> {
        let kind = self.text("kty");
        if kind.is_none() {
            return Err(wrong("is a JSON object, but no JWK (no `kty`) and no JWK set (no `keys`)"));
        }
        if kind == Some("oct") {
            return Err(wrong(
                "is a symmetric JWK (`kty` oct); a shared secret is given as the client secret",
            ));
        }
        if self.text("d").is_none() {
            return Err(wrong("is a JWK of the public half alone (no `d`); give the private one"));
        }
        if !self.signs() {
            return Err(wrong("is a JWK that is not for signing (`use`, `key_ops`)"));
        }
        let key = match kind {
            Some("RSA") => self.rsa()?,
            Some("EC") => self.ec()?,
            Some("OKP") => self.okp()?,
            _ => return Err(wrong("is a JWK of an unknown kind (`kty`); RSA, EC and OKP can be used here")),
        };
        Ok(Found {
            key: key.map_err(|error| {
                wrong("is a JWK that OpenSSL does not take; is it damaged?").with_source(error)
            })?,
            algorithm: self.text("alg").map(str::to_owned),
            key_id: self.text("kid").map(str::to_owned),
        })
    }

    fn rsa(&self) -> Result<Result<PKey<Private>, ErrorStack>, AuthError> {
        let (n, e, d) = (self.bytes("n")?, self.bytes("e")?, self.bytes("d")?);
        // All of the others, or none (RFC 7518 section 6.3.2).
        let others = ["p", "q", "dp", "dq", "qi"];
        let others = if others.iter().all(|name| self.text(name).is_none()) {
            None
        } else {
            let mut read = Vec::with_capacity(others.len());
            for name in others {
                read.push(self.bytes(name)?);
            }
            Some(read)
        };
        let build = || {
            // The key that they become part of wipes them.
            let number = |bytes: &[u8]| BigNum::from_slice(bytes);
            let mut key = RsaPrivateKeyBuilder::new(number(&n)?, number(&e)?, number(&d)?)?;
            if let Some([p, q, dp, dq, qi]) = others.as_deref() {
                key = key.set_factors(number(p)?, number(q)?)?;
                key = key.set_crt_params(number(dp)?, number(dq)?, number(qi)?)?;
            }
            PKey::from_rsa(key.build())
        };
        Ok(build())
    }

    fn ec(&self) -> Result<Result<PKey<Private>, ErrorStack>, AuthError> {
        let curve = match self.text("crv") {
            Some("P-256") => Nid::X9_62_PRIME256V1,
            Some("P-384") => Nid::SECP384R1,
            Some("P-521") => Nid::SECP521R1,
            _ => {
                return Err(wrong(
                    "is an EC key on a curve (`crv`) that cannot be used here; P-256, P-384 and P-521 can",
                ));
            }
        };
        let (x, y, d) = (self.bytes("x")?, self.bytes("y")?, self.bytes("d")?);
        let build = || {
            let group = EcGroup::from_curve_name(curve)?;
            let (x, y) = (BigNum::from_slice(&x)?, BigNum::from_slice(&y)?);
            let public = EcKey::from_public_key_affine_coordinates(&group, &x, &y)?;
            let mut d = BigNum::from_slice(&d)?;
            let key = EcKey::from_private_components(&group, &d, public.public_key());
            d.clear();
            let key = key?;
            key.check_key()?;
            PKey::from_ec_key(key)
        };
        Ok(build())
    }

    fn okp(&self) -> Result<Result<PKey<Private>, ErrorStack>, AuthError> {
        if self.text("crv") != Some("Ed25519") {
            return Err(wrong("is an OKP key on a curve (`crv`) that cannot be used here; Ed25519 can"));
        }
        Ok(PKey::private_key_from_raw_bytes(&self.bytes("d")?, Id::ED25519))
    }

    fn bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, AuthError> {
        let Some(text) = self.text(name) else {
            return Err(wrong(&format!("is a JWK without `{name}`; give it whole")));
        };
        match URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')) {
            Ok(bytes) => Ok(Zeroizing::new(bytes)),
            Err(_) => Err(wrong(&format!("is a damaged JWK: its `{name}` is not base64url"))),
        }
    }
}

fn wrong(what: &str) -> AuthError {
    AuthError::configuration(format!("the key {what}"))
}

/// The public members that its kind must have, in the order of their names (RFC 7638 section 3).
pub(super) fn public(key: &PKeyRef<Private>, kind: Kind) -> Result<Map<String, Value>, ErrorStack> {
    let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let members = match kind {
        Kind::Rsa | Kind::RsaPss => {
            let rsa = key.rsa()?;
            vec![("e", encode(rsa.e().to_vec())), ("kty", "RSA".into()), ("n", encode(rsa.n().to_vec()))]
        }
        Kind::P256 => ec_members(key, "P-256", 32)?,
        Kind::P384 => ec_members(key, "P-384", 48)?,
        Kind::P521 => ec_members(key, "P-521", 66)?,
        Kind::Ed25519 => {
            vec![("crv", "Ed25519".into()), ("kty", "OKP".into()), ("x", encode(key.raw_public_key()?))]
        }
    };
    Ok(members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

fn ec_members(
    key: &PKeyRef<Private>,
    curve: &str,
    size: i32,
) -> Result<Vec<(&'static str, String)>, ErrorStack> {
    let key = key.ec_key()?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    let mut scratch = BigNumContext::new()?;
    key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut scratch)?;
    let encode = |number: &BigNumRef| Ok(URL_SAFE_NO_PAD.encode(number.to_vec_padded(size)?));
    Ok(vec![("crv", curve.into()), ("kty", "EC".into()), ("x", encode(&x)?), ("y", encode(&y)?)])
}

/// The members and the private ones besides, as JSON.
pub(super) fn write(
    key: &PKeyRef<Private>,
    members: &Map<String, Value>,
) -> Result<SecretString, ErrorStack> {
    let number = |number: Option<&BigNumRef>| number.map(|number| Zeroizing::new(number.to_vec()));
    let private: Vec<(&str, Option<Zeroizing<Vec<u8>>>)> = match key.id() {
        Id::EC => {
            let key = key.ec_key()?;
            let size = key.group().degree().div_ceil(8).cast_signed();
            vec![("d", Some(Zeroizing::new(key.private_key().to_vec_padded(size)?)))]
        }
        Id::RSA | Id::RSA_PSS => {
            let key = key.rsa()?;
            vec![
                ("d", number(Some(key.d()))),
                ("p", number(key.p())),
                ("q", number(key.q())),
                ("dp", number(key.dmp1())),
                ("dq", number(key.dmq1())),
                ("qi", number(key.iqmp())),
            ]
        }
        _ => vec![("d", Some(Zeroizing::new(key.raw_private_key()?)))],
    };
    let public = serde_json::to_string(members).unwrap_or_default();
    // More than there can be, so that the buffer does not grow and leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(public.len() + 16 * key.size() + 256));
    text.push_str(public.trim_end_matches('}'));
    for (name, value) in private {
        if let Some(value) = value {
            text.push_str(",\"");
            text.push_str(name);
            text.push_str("\":\"");
            URL_SAFE_NO_PAD.encode_string(&*value, &mut text);
            text.push('"');
        }
    }
    text.push('}');
    Ok(SecretString::from(text.as_str()))
}

/// JSON as far as a JWK has it. The texts are wiped.
enum Json {
    Text(SecretString),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(SecretString::from(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = seq.next_element()? {
                    list.push(one);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    members.insert(name, value);
                }
                Ok(Json::Object(members))
            }

            fn visit_unit<E: Error>(self) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }
        }

        from.deserialize_any(Any)
    }
}
