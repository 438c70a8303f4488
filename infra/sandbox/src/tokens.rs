//! Signing keys, access tokens as Supabase Auth issues them, and forged tokens that an API must reject.

use std::sync::{PoisonError, RwLock};

use anyhow::Context;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKey, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    UnparsedPublicKey,
};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as B64, Engine as _};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Algorithm {
    /// The project's current key on the elliptic curve P-256.
    #[default]
    ES256,
    /// The project's RSA key.
    RS256,
    /// The legacy shared secret.
    HS256,
}

/// The contents of a token. Every claim can be invalid, for tests that expect a rejection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The user, a UUID.
    pub sub: String,
    /// The user's email address, derived from `sub` if absent.
    #[serde(default)]
    pub email: Option<String>,
    /// The signature algorithm.
    #[serde(default)]
    pub alg: Algorithm,
    /// Seconds until the token expires, 3600 if absent, negative for an expired token.
    #[serde(default)]
    pub expires_in: Option<i64>,
    /// The key id in the header, if not the signing key's.
    #[serde(default)]
    pub kid: Option<String>,
    /// The issuer, if not the project.
    #[serde(default)]
    pub iss: Option<String>,
    /// The audience, if not `authenticated`: a text or a list.
    #[serde(default)]
    pub aud: Option<Value>,
    /// The time before which the token is invalid, in seconds since 1970.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// Further claims, which replace all others. A null removes the claim.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

/// A kind of forged token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// The header has `alg: none`, and the signature is empty.
    AlgNone,
    /// The algorithm is HS256, and the secret is the public ES256 key.
    Hs256PublicKey,
    /// Another ES256 key signs, and the header has the real key id.
    WrongSignature,
    /// The key and the key id are ones that the project never published.
    UnknownKid,
}

/// The start of an X.509 public key on P-256. The 65 bytes of the point follow it.
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];

#[derive(Debug)]
struct EcKey {
    kid: String,
    pair: EcdsaKeyPair,
}

impl EcKey {
    fn new() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("cannot create a P-256 key")?;
        Ok(Self { kid: uuid::Uuid::new_v4().to_string(), pair })
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).context("cannot sign with ES256")?;
        Ok(signature.as_ref().to_vec())
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        json!({"kty": "EC", "crv": "P-256", "x": B64.encode(x), "y": B64.encode(y), "alg": "ES256", "use": "sig",
            "key_ops": ["verify"], "ext": true, "kid": self.kid})
    }
}

/// The keys of the project.
#[derive(Debug)]
pub struct KeyRing {
    issuer: String,
    secret: String,
    /// The oldest first. The last one signs.
    ec: RwLock<Vec<EcKey>>,
    rsa_kid: String,
    rsa: RsaKey,
}

impl KeyRing {
    /// Creates new keys.
    ///
    /// # Errors
    /// Fails when the system's random number generator does.
    pub fn new(issuer: String, secret: String) -> anyhow::Result<Self> {
        let rsa = RsaKey::generate(KeySize::Rsa2048).context("cannot create an RSA key")?;
        Ok(Self { issuer, secret, ec: RwLock::new(vec![EcKey::new()?]), rsa_kid: uuid::Uuid::new_v4().to_string(), rsa })
    }

    /// Adds an ES256 key, which signs from now on, and returns its id. The old keys stay valid.
    ///
    /// # Errors
    /// As [`KeyRing::new`].
    pub fn rotate(&self) -> anyhow::Result<String> {
        let key = EcKey::new()?;
        let kid = key.kid.clone();
        self.ec.write().unwrap_or_else(PoisonError::into_inner).push(key);
        Ok(kid)
    }

    fn with_current<T>(&self, sign: impl FnOnce(&EcKey) -> anyhow::Result<T>) -> anyhow::Result<T> {
        sign(self.ec.read().unwrap_or_else(PoisonError::into_inner).last().context("the key ring is empty")?)
    }

    /// Returns the published keys, the newest first. The shared secret is not published.
    pub fn jwks(&self) -> Value {
        let mut keys: Vec<Value> = self.ec.read().unwrap_or_else(PoisonError::into_inner).iter().rev().map(EcKey::jwk).collect();
        let public = self.rsa.public_key();
        keys.push(json!({"kty": "RSA", "n": B64.encode(public.modulus().big_endian_without_leading_zero()),
            "e": B64.encode(public.exponent().big_endian_without_leading_zero()), "alg": "RS256", "use": "sig",
            "key_ops": ["verify"], "ext": true, "kid": self.rsa_kid}));
        json!({"keys": keys})
    }

    fn claims(&self, request: &TokenRequest) -> Value {
        let now = Timestamp::now().as_second();
        let email = request.email.clone().unwrap_or_else(|| format!("{}@example.com", request.sub));
        let mut claims = json!({
            "iss": request.iss.as_ref().unwrap_or(&self.issuer), "sub": request.sub,
            "aud": request.aud.clone().unwrap_or_else(|| "authenticated".into()),
            "iat": now, "exp": now + request.expires_in.unwrap_or(3600), "email": email, "phone": "", "role": "authenticated",
            "aal": "aal1", "amr": [{"method": "password", "timestamp": now}], "session_id": uuid::Uuid::new_v4().to_string(),
            "is_anonymous": false, "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"email": email, "email_verified": true, "phone_verified": false, "sub": request.sub}
        });
        if let Some(claims) = claims.as_object_mut() {
            if let Some(nbf) = request.nbf {
                claims.insert("nbf".to_owned(), nbf.into());
            }
            for (name, value) in &request.claims {
                if value.is_null() {
                    claims.remove(name)
                } else {
                    claims.insert(name.clone(), value.clone())
                };
            }
        }
        claims
    }

    /// Signs an access token.
    ///
    /// # Errors
    /// Fails when the system's random number generator does.
    pub fn token(&self, request: &TokenRequest) -> anyhow::Result<String> {
        let claims = self.claims(request);
        let header = |alg: &str, kid: Option<&str>| match request.kid.as_deref().or(kid) {
            Some(kid) => json!({"alg": alg, "kid": kid, "typ": "JWT"}),
            None => json!({"alg": alg, "typ": "JWT"}),
        };
        match request.alg {
            Algorithm::ES256 => self.with_current(|key| signed(&header("ES256", Some(&key.kid)), &claims, |message| key.sign(message))),
            Algorithm::RS256 => signed(&header("RS256", Some(&self.rsa_kid)), &claims, |message| {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).context("cannot sign with RS256")?;
                Ok(signature)
            }),
            Algorithm::HS256 => signed(&header("HS256", None), &claims, |message| Ok(mac(self.secret.as_bytes(), message))),
        }
    }

    /// Forges an access token for this user.
    ///
    /// # Errors
    /// As [`KeyRing::token`].
    pub fn forged(&self, sub: &str, forgery: Forgery) -> anyhow::Result<String> {
        let claims = self.claims(&TokenRequest { sub: sub.to_owned(), ..TokenRequest::default() });
        self.with_current(|key| match forgery {
            Forgery::AlgNone => signed(&json!({"alg": "none", "typ": "JWT"}), &claims, |_| Ok(Vec::new())),
            Forgery::Hs256PublicKey => {
                let der = [&P256_HEADER, key.pair.public_key().as_ref()].concat();
                let pem = pem(&der);
                signed(&json!({"alg": "HS256", "kid": key.kid, "typ": "JWT"}), &claims, |message| Ok(mac(pem.as_bytes(), message)))
            }
            Forgery::WrongSignature => {
                let other = EcKey::new()?;
                signed(&json!({"alg": "ES256", "kid": key.kid, "typ": "JWT"}), &claims, |message| other.sign(message))
            }
            Forgery::UnknownKid => {
                let other = EcKey::new()?;
                signed(&json!({"alg": "ES256", "kid": other.kid, "typ": "JWT"}), &claims, |message| other.sign(message))
            }
        })
    }

    /// Returns the claims of a token that this project signed and that has not expired.
    pub fn verified(&self, token: &str) -> Option<Value> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let decode = |part: &str| serde_json::from_slice::<Value>(&B64.decode(part).ok()?).ok();
        let (header, claims, signature) = (decode(header)?, decode(payload)?, B64.decode(signature).ok()?);
        let valid = match header["alg"].as_str()? {
            "ES256" => self.ec.read().unwrap_or_else(PoisonError::into_inner).iter().any(|key| {
                header["kid"] == key.kid.as_str()
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
                        .verify(message.as_bytes(), &signature)
                        .is_ok()
            }),
            "RS256" => {
                let key: PublicKeyX509Der<'_> = self.rsa.public_key().as_der().ok()?;
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.as_ref()).verify(message.as_bytes(), &signature).is_ok()
            }
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
                hmac::verify(&key, message.as_bytes(), &signature).is_ok()
            }
            _ => false,
        };
        (valid && claims["exp"].as_i64()? > Timestamp::now().as_second()).then_some(claims)
    }
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<String> {
    let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    let signature = sign(message.as_bytes())?;
    Ok(format!("{message}.{}", B64.encode(signature)))
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new("http://127.0.0.1/auth/v1".to_owned(), "a-secret-of-thirty-two-characters!".to_owned()).unwrap()
    }

    fn user() -> TokenRequest {
        TokenRequest { sub: "7a6f0d3e-6f5c-4e0a-9d0e-0f6f5c4e0a9d".to_owned(), ..TokenRequest::default() }
    }

    #[test]
    fn tokens_of_every_algorithm_verify_and_survive_a_rotation() {
        let ring = ring();
        for alg in [Algorithm::ES256, Algorithm::RS256, Algorithm::HS256] {
            let token = ring.token(&TokenRequest { alg, ..user() }).unwrap();
            ring.rotate().unwrap();
            let claims = ring.verified(&token).unwrap();
            assert_eq!((claims["aud"].as_str(), claims["role"].as_str()), (Some("authenticated"), Some("authenticated")), "{alg:?}");
        }
        assert_eq!(ring.jwks()["keys"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn forged_and_expired_tokens_do_not_verify() {
        let ring = ring();
        for forgery in [Forgery::AlgNone, Forgery::Hs256PublicKey, Forgery::WrongSignature, Forgery::UnknownKid] {
            assert_eq!(ring.verified(&ring.forged("u", forgery).unwrap()), None, "{forgery:?}");
        }
        assert_eq!(ring.verified(&ring.token(&TokenRequest { expires_in: Some(-60), ..user() }).unwrap()), None);
        assert_eq!(ring.verified("not.a.token"), None);
    }

    #[test]
    fn every_claim_can_be_set_or_removed() {
        let ring = ring();
        let claims = serde_json::from_value(json!({"email": null, "role": "anon", "ref": 7})).unwrap();
        let claims = ring.verified(&ring.token(&TokenRequest { claims, nbf: Some(5), ..user() }).unwrap()).unwrap();
        assert_eq!((&claims["role"], &claims["ref"], &claims["nbf"], claims.get("email")), (&json!("anon"), &json!(7), &json!(5), None));
    }
}
