//! Verifying Supabase's tokens.
//!
//! The algorithm is fixed by the key and never by the token: ES256 and RS256 only with a key of the project's JWKS, HS256 only with
//! the project's legacy secret. A token that says `none`, or signs HS256 with a public key, has no key to be verified with.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use oslira_aws::secrets::{Fetcher, Secrets};
use oslira_domain::UserId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

/// Clock skew that is forgiven, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// How long the key set is trusted without asking again; Supabase announces rotations well ahead.
const KEYS_LIFETIME: Duration = Duration::from_mins(10);
/// An unknown key id causes a new fetch at most this often: strangers must not make us hammer the issuer.
const REFETCH_PAUSE: Duration = Duration::from_secs(10);

/// How long the issuer may take to answer when there is no key to go on with: a cold start on a crowded machine is slow by itself.
const FIRST_PATIENCE: Duration = Duration::from_secs(8);
/// The same while the keys that are known still serve.
const PATIENCE: Duration = Duration::from_secs(3);

/// After a fetch that failed, the next is tried no sooner: while the issuer hangs, strangers must not make every request wait for it.
const FAILURE_PAUSE: Duration = Duration::from_secs(3);

/// What a token of another key is told.
const WRONG_SIGNATURE: &str = "The token's signature is not valid.";

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The token's own fault.
    #[error("{0}")]
    Rejected(&'static str),
    /// We cannot tell: keys or secret are out of reach.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: UserId,
    #[serde(default)]
    role: String,
}

#[derive(Deserialize)]
struct LegacySecret {
    jwt_secret: Option<SecretString>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    fetched: Option<Instant>,
    /// When and why the last fetch failed, if it did.
    failed: Option<(Instant, String)>,
}

/// Verifies bearer tokens of one Supabase project.
#[derive(Clone)]
pub struct TokenVerifier {
    /// Made for the first fetch: that takes longer than all else that an endpoint does at its start.
    http: Arc<OnceLock<reqwest::Client>>,
    issuer: String,
    legacy: Fetcher<LegacySecret, VerifierError>,
    keys: Arc<Mutex<Keys>>,
    first_patience: Duration,
}

impl TokenVerifier {
    /// A verifier for the project at `supabase_url`; keys are fetched when the first token arrives.
    #[expect(clippy::needless_pass_by_value, reason = "the gateway hands over its own")]
    pub fn new(supabase_url: &str, secrets: Secrets) -> Self {
        Self::with(supabase_url, secrets.fetcher("supabase-auth", |error| VerifierError::Unavailable(error.to_string())))
    }

    fn with(supabase_url: &str, legacy: Fetcher<LegacySecret, VerifierError>) -> Self {
        Self {
            http: Arc::default(),
            issuer: format!("{}/auth/v1", supabase_url.trim_end_matches('/')),
            legacy,
            keys: Arc::default(),
            first_patience: FIRST_PATIENCE,
        }
    }

    /// The user that the token speaks for.
    ///
    /// # Errors
    /// Says why not, without the token.
    pub async fn verify(&self, token: &str) -> Result<UserId, VerifierError> {
        let header = decode_header(token).map_err(|_| VerifierError::Rejected("The token is malformed."))?;
        let (algorithm, key) = match header.alg {
            Algorithm::HS256 => {
                let outcome = self.check(token, Algorithm::HS256, &self.legacy_key(false).await?);
                let Err(VerifierError::Rejected(WRONG_SIGNATURE)) = outcome else { return outcome };
                // The secret may have been rotated since it was read. If nobody can say, strangers' forgeries are what they were.
                let Ok(key) = self.legacy_key(true).await else { return outcome };
                return self.check(token, Algorithm::HS256, &key);
            }
            Algorithm::ES256 | Algorithm::RS256 => {
                let id = header.kid.ok_or(VerifierError::Rejected("The token names no key."))?;
                let (algorithm, key) = self.key(&id).await?.ok_or(VerifierError::Rejected("The token's key is unknown."))?;
                if algorithm != header.alg {
                    return Err(VerifierError::Rejected("The token's algorithm is not its key's."));
                }
                (algorithm, key)
            }
            _ => return Err(VerifierError::Rejected("The token's algorithm is not accepted.")),
        };
        self.check(token, algorithm, &key)
    }

    /// The user that a token speaks for, if `key` signed it.
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
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "The token was not made for this service.",
                ErrorKind::InvalidSignature => WRONG_SIGNATURE,
                _ => "The token is not valid.",
            })
        })?;
        if claims.claims.role == "authenticated" {
            Ok(claims.claims.sub)
        } else {
            Err(VerifierError::Rejected("The token is not a user's."))
        }
    }

    /// The shared secret, read anew when it was `refused`.
    async fn legacy_key(&self, refused: bool) -> Result<DecodingKey, VerifierError> {
        let secret = (self.legacy)(refused).await?;
        // A secret shorter than its hash is no secret; an empty one would let everybody sign.
        let secret = secret.jwt_secret.filter(|secret| secret.expose_secret().len() >= 32);
        let secret = secret.ok_or(VerifierError::Rejected("The token's algorithm is not accepted."))?;
        Ok(DecodingKey::from_secret(secret.expose_secret().as_bytes()))
    }

    /// The public key `id`. Fetches the set when it is old, or when the id is unknown and the last fetch is a while ago.
    async fn key(&self, id: &str) -> Result<Option<(Algorithm, DecodingKey)>, VerifierError> {
        let mut keys = self.keys.lock().await;
        let age = keys.fetched.map(|at| at.elapsed());
        let known = keys.by_id.get(id).cloned();
        let fresh = age.is_some_and(|age| age < KEYS_LIFETIME);
        let just_asked = age.is_some_and(|age| age < REFETCH_PAUSE);
        if (known.is_some() && fresh) || (known.is_none() && just_asked) {
            return Ok(known);
        }
        let why = match &keys.failed {
            Some((at, why)) if at.elapsed() < FAILURE_PAUSE => why.clone(),
            _ => match self.fetch(if keys.by_id.is_empty() { self.first_patience } else { PATIENCE }).await {
                Ok(by_id) => {
                    *keys = Keys { by_id, fetched: Some(Instant::now()), failed: None };
                    return Ok(keys.by_id.get(id).cloned());
                }
                Err(why) => {
                    keys.failed = Some((Instant::now(), why.clone()));
                    why
                }
            },
        };
        // The issuer is down: a key that we know stays good until its token expires.
        known.map(Some).ok_or(VerifierError::Unavailable(why))
    }

    async fn fetch(&self, patience: Duration) -> Result<HashMap<String, (Algorithm, DecodingKey)>, String> {
        let unavailable = |error: reqwest::Error| format!("JWKS: {}", error.without_url());
        let request =
            self.http.get_or_init(oslira_tls::http_client).get(format!("{}/.well-known/jwks.json", self.issuer)).timeout(patience);
        let set: JwkSet =
            request.send().await.and_then(reqwest::Response::error_for_status).map_err(unavailable)?.json().await.map_err(unavailable)?;
        let usable = set.keys.iter().filter_map(|key| {
            let algorithm = match &key.algorithm {
                AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => return None, // a symmetric key in a public set is somebody's mistake, never a key
            };
            Some((key.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(key).ok()?)))
        });
        Ok(usable.collect())
    }
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

    /// An issuer that answers every request with `answer`, or never; and how often it was asked.
    async fn issuer(answer: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let Some(answer) = answer else {
                    silent.push(stream);
                    continue;
                };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (url, asked)
    }

    fn verifier(url: &str, legacy: Option<&'static str>) -> TokenVerifier {
        let fetcher: Fetcher<LegacySecret, VerifierError> =
            Arc::new(move |_| Box::pin(async move { Ok(LegacySecret { jwt_secret: legacy.map(Into::into) }) }));
        TokenVerifier::with(url, fetcher)
    }

    fn claims(url: &str) -> Value {
        let soon = jiff::Timestamp::now().as_second() + 300;
        json!({ "sub": USER, "role": "authenticated", "aud": "authenticated", "iss": format!("{url}/auth/v1"), "exp": soon })
    }

    /// A token of a key of the set that nobody has seen.
    fn of_key(url: &str, id: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&json!({ "alg": "ES256", "kid": id, "typ": "JWT" })), part(&claims(url)), URL_SAFE_NO_PAD.encode([0; 64]))
    }

    fn of_secret(url: &str, secret: &str) -> String {
        encode(&Header::new(Algorithm::HS256), &claims(url), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn a_legacy_secret_shorter_than_its_hash_signs_nothing() {
        let url = "http://127.0.0.1:1";
        let long = "0123456789abcdef0123456789abcdef";
        let user = verifier(url, Some(long)).verify(&of_secret(url, long)).await.unwrap();
        assert_eq!(user.to_string(), USER);
        for short in ["", "secret", "0123456789abcdef0123456789abcde"] {
            let refused = verifier(url, Some(short)).verify(&of_secret(url, short)).await;
            assert!(matches!(refused, Err(VerifierError::Rejected(_))), "{short}: {refused:?}");
        }
        // No legacy secret at all, and one that another key was used for.
        assert!(matches!(verifier(url, None).verify(&of_secret(url, "")).await, Err(VerifierError::Rejected(_))));
        assert!(matches!(
            verifier(url, Some(long)).verify(&of_secret(url, &long.replace('0', "1"))).await,
            Err(VerifierError::Rejected(_))
        ));
    }

    #[tokio::test]
    async fn a_rotated_legacy_secret_is_read_anew_and_the_old_one_signs_no_more() {
        let (url, old, new) = ("http://127.0.0.1:1", "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let rotated = Arc::new(AtomicUsize::new(0));
        let asked = rotated.clone();
        let fetcher: Fetcher<LegacySecret, VerifierError> = Arc::new(move |refused| {
            let reads = asked.fetch_add(usize::from(refused), Ordering::Relaxed) + usize::from(refused);
            let secret = if reads == 0 { old } else { new };
            Box::pin(async move { Ok(LegacySecret { jwt_secret: Some(secret.into()) }) })
        });
        let verifier = TokenVerifier::with(url, fetcher);
        assert!(verifier.verify(&of_secret(url, old)).await.is_ok());
        assert_eq!(rotated.load(Ordering::Relaxed), 0, "nothing is read anew for a token that is good");
        assert!(verifier.verify(&of_secret(url, new)).await.is_ok());
        assert!(matches!(verifier.verify(&of_secret(url, old)).await, Err(VerifierError::Rejected(WRONG_SIGNATURE))));
    }

    #[tokio::test]
    async fn a_silent_issuer_is_waited_for_once_and_is_not_the_tokens_fault() {
        let (url, asked) = issuer(None).await;
        let verifier = TokenVerifier { first_patience: Duration::from_millis(300), ..verifier(&url, None) };
        let started = Instant::now();
        for id in ["a", "b", "a"] {
            let refused = verifier.verify(&of_key(&url, id)).await;
            assert!(matches!(refused, Err(VerifierError::Unavailable(_))), "{refused:?}");
        }
        assert!(started.elapsed() < FAILURE_PAUSE, "{:?}", started.elapsed());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // Later it is asked again.
        verifier.keys.lock().await.failed = Instant::now().checked_sub(FAILURE_PAUSE).map(|at| (at, String::new()));
        assert!(verifier.verify(&of_key(&url, "a")).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_issuer_that_fails_is_not_the_tokens_fault_and_one_that_knows_no_such_key_makes_it_so() {
        let (url, asked) = issuer(Some("HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
        let failing = verifier(&url, None);
        for _ in 0..3 {
            assert!(matches!(failing.verify(&of_key(&url, "a")).await, Err(VerifierError::Unavailable(_))));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let (url, asked) = issuer(Some("HTTP/1.1 200 X\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"keys\":[]}")).await;
        let empty = verifier(&url, None);
        for _ in 0..3 {
            assert!(matches!(empty.verify(&of_key(&url, "a")).await, Err(VerifierError::Rejected(_))));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
