//! Verifies Supabase's tokens.
//!
//! The key determines the algorithm, never the token: ES256 and RS256 require a key of the project's JWKS, HS256 the project's legacy secret.
//! No key verifies a token with `alg: none`, or one signed by HS256 with a public key.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use oslira_credential::{Credential, CredentialError, age};
use oslira_domain::UserId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

/// The accepted clock skew in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// How long a key set is used before it is fetched again. Supabase publishes a new key well before it signs with it.
const KEYS_LIFETIME: Duration = Duration::from_mins(10);
/// The minimum interval between fetches that unknown key ids cause: unauthenticated clients must not be able to flood the issuer.
const REFETCH_PAUSE: Duration = Duration::from_secs(10);

/// The timeout of a fetch while no key is known. It is generous because a cold start on a busy machine is slow.
const FIRST_FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// The timeout of a fetch while known keys can still be used.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval between a failed fetch and the next one: while the issuer does not respond, unknown key ids must not delay every request.
const FAILURE_PAUSE: Duration = Duration::from_secs(3);

/// The reason for rejecting a token that another key signed.
const WRONG_SIGNATURE: &str = "The token's signature is not valid.";

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The token is invalid, for this reason.
    #[error("{0}")]
    Rejected(&'static str),
    /// The token cannot be verified, because the keys or the secret are unavailable.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: UserId,
    #[serde(default)]
    role: String,
}

/// The secret `supabase-auth`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LegacySecret {
    jwt_secret: Option<SecretString>,
}

impl From<CredentialError> for VerifierError {
    fn from(error: CredentialError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    fetched: Option<SystemTime>,
    /// When and why the last fetch failed, unless it succeeded.
    failed: Option<(SystemTime, String)>,
}

/// Verifies the bearer tokens of one Supabase project.
#[derive(Clone)]
pub struct TokenVerifier {
    /// Created by the first fetch: creating a client takes longer than the rest of an endpoint's start.
    http: Arc<OnceLock<reqwest::Client>>,
    issuer: String,
    legacy: Credential<LegacySecret>,
    keys: Arc<Mutex<Keys>>,
    first_fetch_timeout: Duration,
}

impl TokenVerifier {
    /// Creates a verifier for the project at `supabase_url`. It fetches the keys when the first token arrives.
    pub(crate) fn new(supabase_url: &str, legacy: Credential<LegacySecret>) -> Self {
        Self {
            http: Arc::default(),
            issuer: format!("{}/auth/v1", supabase_url.trim_end_matches('/')),
            legacy,
            keys: Arc::default(),
            first_fetch_timeout: FIRST_FETCH_TIMEOUT,
        }
    }

    /// Returns the user whom the token identifies.
    ///
    /// # Errors
    /// Returns the reason, which does not contain the token.
    pub async fn verify(&self, token: &str) -> Result<UserId, VerifierError> {
        let header = decode_header(token).map_err(|_| VerifierError::Rejected("The token is malformed."))?;
        let (algorithm, key) = match header.alg {
            Algorithm::HS256 => {
                let outcome = self.check(token, Algorithm::HS256, &legacy_key(self.legacy.current().await?.as_ref())?);
                let Err(VerifierError::Rejected(WRONG_SIGNATURE)) = outcome else { return outcome };
                // The secret may have been rotated since it was read. If it cannot be fetched, the token is still rejected: a forged one must
                // not look like an outage.
                let Ok(secret) = self.legacy.renewed().await else { return outcome };
                return self.check(token, Algorithm::HS256, &legacy_key(&secret)?);
            }
            Algorithm::ES256 | Algorithm::RS256 => {
                let id = header.kid.ok_or(VerifierError::Rejected("The token has no key id."))?;
                let (algorithm, key) = self.key(&id).await?.ok_or(VerifierError::Rejected("The token's key is unknown."))?;
                if algorithm != header.alg {
                    return Err(VerifierError::Rejected("The token's algorithm does not match its key."));
                }
                (algorithm, key)
            }
            _ => return Err(VerifierError::Rejected("The token's algorithm is not accepted.")),
        };
        self.check(token, algorithm, &key)
    }

    /// Returns the user whom the token identifies, if `key` signed it.
    fn check(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<UserId, VerifierError> {
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&["authenticated"]);
        let claims = decode::<TokenClaims>(token, key, &rules).map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            VerifierError::Rejected(match error.kind() {
                ErrorKind::ExpiredSignature => "The token has expired.",
                ErrorKind::ImmatureSignature => "The token is not valid yet.",
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "The token was not issued for this service.",
                ErrorKind::InvalidSignature => WRONG_SIGNATURE,
                _ => "The token is not valid.",
            })
        })?;
        if claims.claims.role == "authenticated" {
            Ok(claims.claims.sub)
        } else {
            Err(VerifierError::Rejected("The token does not belong to a user."))
        }
    }

    /// Fetches the key set if there is none, before the first token arrives. A failure is not remembered.
    pub(crate) async fn warm_up(&self) {
        let mut keys = self.keys.lock().await;
        if keys.by_id.is_empty()
            && let Ok(by_id) = self.fetch(FETCH_TIMEOUT).await
        {
            *keys = Keys { by_id, fetched: Some(SystemTime::now()), failed: None };
        }
    }

    /// Returns the public key `id`. Fetches the key set if it is old, or if the id is unknown and the last fetch is long enough ago.
    async fn key(&self, id: &str) -> Result<Option<(Algorithm, DecodingKey)>, VerifierError> {
        let mut keys = self.keys.lock().await;
        let since = keys.fetched.map(age);
        let known = keys.by_id.get(id).cloned();
        let fresh = since.is_some_and(|since| since < KEYS_LIFETIME);
        let just_fetched = since.is_some_and(|since| since < REFETCH_PAUSE);
        if (known.is_some() && fresh) || (known.is_none() && just_fetched) {
            return Ok(known);
        }
        let why = match &keys.failed {
            Some((at, why)) if age(*at) < FAILURE_PAUSE => why.clone(),
            _ => match self.fetch(if keys.by_id.is_empty() { self.first_fetch_timeout } else { FETCH_TIMEOUT }).await {
                Ok(by_id) => {
                    *keys = Keys { by_id, fetched: Some(SystemTime::now()), failed: None };
                    return Ok(keys.by_id.get(id).cloned());
                }
                Err(why) => {
                    keys.failed = Some((SystemTime::now(), why.clone()));
                    why
                }
            },
        };
        // While the issuer is unavailable, known keys stay valid.
        known.map(Some).ok_or(VerifierError::Unavailable(why))
    }

    async fn fetch(&self, timeout: Duration) -> Result<HashMap<String, (Algorithm, DecodingKey)>, String> {
        let unavailable = |error: reqwest::Error| format!("JWKS: {}", error.without_url());
        let request = self.http.get_or_init(oslira_tls::http_client).get(format!("{}/.well-known/jwks.json", self.issuer)).timeout(timeout);
        let set: JwkSet =
            request.send().await.and_then(reqwest::Response::error_for_status).map_err(unavailable)?.json().await.map_err(unavailable)?;
        let usable = set.keys.iter().filter_map(|key| {
            let algorithm = match &key.algorithm {
                AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => return None, // a symmetric key in a public set would be known to every client
            };
            Some((key.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(key).ok()?)))
        });
        Ok(usable.collect())
    }
}

/// Returns the key in the shared secret. A secret shorter than its hash does not count: anyone can sign with an empty one.
fn legacy_key(secret: &LegacySecret) -> Result<DecodingKey, VerifierError> {
    let secret = secret.jwt_secret.as_ref().filter(|secret| secret.expose_secret().len() >= 32);
    let secret = secret.ok_or(VerifierError::Rejected("The token's algorithm is not accepted."))?;
    Ok(DecodingKey::from_secret(secret.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const USER: &str = "00000000-0000-4000-8000-000000000001";

    /// Starts an issuer that sends `response` to every request, or nothing. Returns its address and the number of its requests.
    async fn issuer(response: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let Some(response) = response else {
                    silent.push(stream);
                    continue;
                };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(response.as_bytes()).await;
            }
        });
        (url, requests)
    }

    fn verifier(url: &str, legacy: Option<&'static str>) -> TokenVerifier {
        TokenVerifier::new(url, Credential::fixed(LegacySecret { jwt_secret: legacy.map(Into::into) }))
    }

    fn claims(url: &str) -> Value {
        let soon = jiff::Timestamp::now().as_second() + 300;
        json!({ "sub": USER, "role": "authenticated", "aud": "authenticated", "iss": format!("{url}/auth/v1"), "exp": soon })
    }

    /// Returns a token with a key id that the issuer has not published, and without a valid signature.
    fn with_key_id(url: &str, id: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&json!({ "alg": "ES256", "kid": id, "typ": "JWT" })), part(&claims(url)), URL_SAFE_NO_PAD.encode([0; 64]))
    }

    fn signed_with_secret(url: &str, secret: &str) -> String {
        encode(&Header::new(Algorithm::HS256), &claims(url), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn a_legacy_secret_shorter_than_the_hash_verifies_no_token() {
        let url = "http://127.0.0.1:1";
        let long = "0123456789abcdef0123456789abcdef";
        let user = verifier(url, Some(long)).verify(&signed_with_secret(url, long)).await.unwrap();
        assert_eq!(user.to_string(), USER);
        for short in ["", "secret", "0123456789abcdef0123456789abcde"] {
            let refused = verifier(url, Some(short)).verify(&signed_with_secret(url, short)).await;
            assert!(matches!(refused, Err(VerifierError::Rejected(_))), "{short}: {refused:?}");
        }
        // A project without a legacy secret, and a token signed with another secret.
        assert!(matches!(verifier(url, None).verify(&signed_with_secret(url, "")).await, Err(VerifierError::Rejected(_))));
        assert!(matches!(
            verifier(url, Some(long)).verify(&signed_with_secret(url, &long.replace('0', "1"))).await,
            Err(VerifierError::Rejected(_))
        ));
    }

    #[tokio::test]
    async fn a_rotated_legacy_secret_is_read_again_and_the_old_one_is_rejected() {
        let (url, old, new) = ("http://127.0.0.1:1", "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let fetches = Arc::new(AtomicUsize::new(0));
        let count = fetches.clone();
        let verifier = TokenVerifier::new(
            url,
            Credential::new(move || {
                let secret = if count.fetch_add(1, Ordering::Relaxed) == 0 { old } else { new };
                std::future::ready(Ok(LegacySecret { jwt_secret: Some(secret.into()) }))
            }),
        );
        assert!(verifier.verify(&signed_with_secret(url, old)).await.is_ok());
        assert_eq!(fetches.load(Ordering::Relaxed), 1, "a valid token does not cause another fetch");
        assert!(verifier.verify(&signed_with_secret(url, new)).await.is_ok());
        assert!(matches!(verifier.verify(&signed_with_secret(url, old)).await, Err(VerifierError::Rejected(WRONG_SIGNATURE))));
    }

    #[tokio::test]
    async fn an_issuer_that_does_not_respond_is_waited_for_once() {
        let (url, requests) = issuer(None).await;
        let verifier = TokenVerifier { first_fetch_timeout: Duration::from_millis(300), ..verifier(&url, None) };
        let started = std::time::Instant::now();
        for id in ["a", "b", "a"] {
            let refused = verifier.verify(&with_key_id(&url, id)).await;
            assert!(matches!(refused, Err(VerifierError::Unavailable(_))), "{refused:?}");
        }
        assert!(started.elapsed() < FAILURE_PAUSE, "{:?}", started.elapsed());
        assert_eq!(requests.load(Ordering::Relaxed), 1);
        // After the pause the keys are fetched again.
        verifier.keys.lock().await.failed = Some((SystemTime::now() - FAILURE_PAUSE, String::new()));
        assert!(verifier.verify(&with_key_id(&url, "a")).await.is_err());
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_token_is_rejected_only_when_the_issuer_has_no_such_key() {
        let (url, requests) = issuer(Some("HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
        let failing = verifier(&url, None);
        for _ in 0..3 {
            assert!(matches!(failing.verify(&with_key_id(&url, "a")).await, Err(VerifierError::Unavailable(_))));
        }
        assert_eq!(requests.load(Ordering::Relaxed), 1);
        let (url, requests) = issuer(Some("HTTP/1.1 200 X\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"keys\":[]}")).await;
        let empty = verifier(&url, None);
        for _ in 0..3 {
            assert!(matches!(empty.verify(&with_key_id(&url, "a")).await, Err(VerifierError::Rejected(_))));
        }
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }
}
