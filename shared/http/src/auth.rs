//! Verifying Supabase's tokens.
//!
//! The algorithm is fixed by the key and never by the token: ES256 and RS256 only with a key of the project's JWKS, HS256 only with
//! the project's legacy secret. A token that says `none`, or signs HS256 with a public key, has no key to be verified with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use oslira_aws::secrets::Secrets;
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
}

/// Verifies bearer tokens of one Supabase project.
#[derive(Clone)]
pub struct TokenVerifier {
    http: reqwest::Client,
    issuer: String,
    secrets: Secrets,
    keys: Arc<Mutex<Keys>>,
}

impl TokenVerifier {
    /// A verifier for the project at `supabase_url`; keys are fetched when the first token arrives.
    pub fn new(http: reqwest::Client, supabase_url: &str, secrets: Secrets) -> Self {
        Self { http, issuer: format!("{}/auth/v1", supabase_url.trim_end_matches('/')), secrets, keys: Arc::default() }
    }

    /// The user that the token speaks for.
    ///
    /// # Errors
    /// Says why not, without the token.
    pub async fn verify(&self, token: &str) -> Result<UserId, VerifierError> {
        let header = decode_header(token).map_err(|_| VerifierError::Rejected("The token is malformed."))?;
        let (algorithm, key) = match header.alg {
            Algorithm::HS256 => (Algorithm::HS256, self.legacy_key().await?),
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
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&["authenticated"]);
        let claims = decode::<TokenClaims>(token, &key, &rules).map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            VerifierError::Rejected(match error.kind() {
                ErrorKind::ExpiredSignature => "The token has expired.",
                ErrorKind::ImmatureSignature => "The token is not valid yet.",
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "The token was not made for this service.",
                _ => "The token is not valid.",
            })
        })?;
        if claims.claims.role == "authenticated" {
            Ok(claims.claims.sub)
        } else {
            Err(VerifierError::Rejected("The token is not a user's."))
        }
    }

    async fn legacy_key(&self) -> Result<DecodingKey, VerifierError> {
        let secret: LegacySecret =
            self.secrets.get("supabase-auth", false).await.map_err(|error| VerifierError::Unavailable(error.to_string()))?;
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
        match self.fetch().await {
            Ok(by_id) => {
                *keys = Keys { by_id, fetched: Some(Instant::now()) };
                Ok(keys.by_id.get(id).cloned())
            }
            // The issuer is down: a key that we know stays good until its token expires.
            Err(error) => known.map(Some).ok_or(error),
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, (Algorithm, DecodingKey)>, VerifierError> {
        let unavailable = |error: reqwest::Error| VerifierError::Unavailable(format!("JWKS: {}", error.without_url()));
        let request = self.http.get(format!("{}/.well-known/jwks.json", self.issuer)).timeout(Duration::from_secs(3));
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
