//! The signature of a webhook: HMAC-SHA256 over its time and the exact bytes of its body.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use jiff::Timestamp;
use oslira_credential::{Credential, CredentialError, Refusal};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// How many seconds a signature's time may differ from the current time. An intercepted request is useless after that.
const TOLERANCE_SECONDS: u64 = 300;

/// The secret `stripe-webhook`.
#[derive(Debug, Clone, Deserialize)]
pub struct StripeWebhookSecret {
    /// The signing secrets of the endpoint: one, or two while it is being rolled.
    pub secrets: Vec<SecretString>,
}

/// Verifies that Stripe signed a webhook's body.
#[derive(Debug, Clone)]
pub struct SignatureVerifier {
    secret: Credential<StripeWebhookSecret>,
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header does not have the form `t=…,v1=…`, or has no `v1`.
    #[error("the signature header is malformed")]
    Malformed,
    /// It was made too long ago, or in the future.
    #[error("the signature's time differs by more than {TOLERANCE_SECONDS} s")]
    Stale,
    /// It was made with none of the signing secrets, or for another body.
    #[error("the signature does not match")]
    Mismatch,
    /// The signing secrets cannot be fetched.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// A signature that does not match may have been made with a secret that was rolled just now.
impl Refusal for SignatureError {
    fn is_refusal(&self) -> bool {
        *self == Self::Mismatch
    }
}

impl SignatureVerifier {
    /// Makes a verifier of signatures that are made with `secret`.
    pub fn new(secret: Credential<StripeWebhookSecret>) -> Self {
        Self { secret }
    }

    /// Fetches the signing secrets, before the first webhook arrives. Errors are ignored.
    pub async fn warm_up(&self) {
        self.secret.warm_up().await;
    }

    /// Verifies the header `Stripe-Signature` of a request with this body: one of its `v1` signatures must have been made with one of the
    /// signing secrets. While a secret is being rolled, Stripe signs with the old and the new one.
    ///
    /// # Errors
    /// Fails with [`SignatureError`].
    pub async fn verify(&self, header: &str, body: &[u8], now: Timestamp) -> Result<(), SignatureError> {
        self.secret.with(|secret| std::future::ready(verify(header, body, &secret.secrets, now))).await
    }
}

fn verify(header: &str, body: &[u8], secrets: &[SecretString], now: Timestamp) -> Result<(), SignatureError> {
    let (mut time, mut signatures) = (None, Vec::new());
    for element in header.split(',') {
        match element.trim().split_once('=').ok_or(SignatureError::Malformed)? {
            ("t", text) if time.is_none() => time = Some(text),
            ("t", _) => return Err(SignatureError::Malformed),
            ("v1", text) => signatures.push(text),
            _ => {} // `v0` is for tests, and Stripe may add other schemes
        }
    }
    let time = time.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).ok_or(SignatureError::Malformed)?;
    let seconds: i64 = time.parse().map_err(|_| SignatureError::Malformed)?;
    if signatures.is_empty() {
        return Err(SignatureError::Malformed);
    }
    if now.as_second().abs_diff(seconds) > TOLERANCE_SECONDS {
        return Err(SignatureError::Stale);
    }
    let signatures: Vec<Vec<u8>> = signatures.into_iter().filter_map(|text| hex::decode(text).ok()).collect();
    // Anyone can sign with an empty secret.
    let secrets = secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    let mut matches = false;
    for secret in secrets {
        let mut expected = hmac::Context::with_key(&Key::new(HMAC_SHA256, secret.as_bytes()));
        expected.update(time.as_bytes());
        expected.update(b".");
        expected.update(body);
        let expected = expected.sign();
        for signature in &signatures {
            matches |= verify_slices_are_equal(expected.as_ref(), signature).is_ok();
        }
    }
    if matches { Ok(()) } else { Err(SignatureError::Mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","note":"caf\u00e9 caf\xc3\xa9"}"#;
    const AT: i64 = 1_795_400_000;

    fn sign(secret: &str, at: i64, body: &[u8]) -> String {
        let signed = [format!("{at}.").as_bytes(), body].concat();
        hex::encode(hmac::sign(&Key::new(HMAC_SHA256, secret.as_bytes()), &signed))
    }

    fn check(header: &str, body: &[u8], secrets: &[&str], now: i64) -> Result<(), SignatureError> {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        verify(header, body, &secrets, Timestamp::from_second(now).unwrap())
    }

    fn header(secret: &str) -> String {
        format!("t={AT},v1={}", sign(secret, AT, BODY))
    }

    #[test]
    fn the_signature_is_that_of_stripes_own_library() {
        // stripe.WebhookSignature._compute_signature("1795400000.{}", "whsec_sandbox")
        let known = "t=1795400000,v1=5bdfac207dba75b5817ff072c21dd507a22734df8a51f13e7ebaccf85afae1b4";
        assert_eq!(check(known, b"{}", &["whsec_sandbox"], AT), Ok(()));
    }

    #[test]
    fn any_v1_of_any_secret_is_enough() {
        let (old, new) = (sign("whsec_old", AT, BODY), sign("whsec_new", AT, BODY));
        for header in [
            format!("t={AT},v1={old}"),
            format!("t={AT},v1={old},v0=abc,v1={new}"),
            format!("t={AT}, v1={}, v1={old}", "0".repeat(64)),
            format!("v0={new},v1=nothex,v1={old},t={AT},v2=x=y"),
        ] {
            assert_eq!(check(&header, BODY, &["whsec_old"], AT), Ok(()), "{header}");
            assert_eq!(check(&header, BODY, &["whsec_new", "whsec_old"], AT), Ok(()), "{header}");
        }
        assert_eq!(check(&format!("t={AT},v1={old},v1={new}"), BODY, &["whsec_new"], AT), Ok(()));
    }

    #[test]
    fn another_body_time_or_secret_does_not_match() {
        let altered = [BODY, b" "].concat();
        assert_eq!(check(&header("whsec_a"), &altered, &["whsec_a"], AT), Err(SignatureError::Mismatch));
        assert_eq!(check(&header("whsec_a"), b"", &["whsec_a"], AT), Err(SignatureError::Mismatch));
        assert_eq!(check(&header("whsec_a"), BODY, &["whsec_b"], AT), Err(SignatureError::Mismatch));
        assert_eq!(check(&header("whsec_a"), BODY, &[], AT), Err(SignatureError::Mismatch));
        assert_eq!(check(&header(""), BODY, &[""], AT), Err(SignatureError::Mismatch));
        let moved = header("whsec_a").replace(&AT.to_string(), &(AT + 1).to_string());
        assert_eq!(check(&moved, BODY, &["whsec_a"], AT), Err(SignatureError::Mismatch));
        let cut = &header("whsec_a")[..60];
        assert_eq!(check(cut, BODY, &["whsec_a"], AT), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_difference_of_five_minutes_is_accepted_either_way() {
        for now in [AT - 300, AT - 1, AT + 300] {
            assert_eq!(check(&header("whsec_a"), BODY, &["whsec_a"], now), Ok(()));
        }
        for now in [AT - 301, AT - 900, AT + 301, 0] {
            assert_eq!(check(&header("whsec_a"), BODY, &["whsec_a"], now), Err(SignatureError::Stale));
        }
        let far = format!("t={},v1={}", i64::MAX, sign("whsec_a", i64::MAX, BODY));
        assert_eq!(check(&far, BODY, &["whsec_a"], AT), Err(SignatureError::Stale));
    }

    #[test]
    fn a_malformed_header_is_rejected() {
        let v1 = sign("whsec_a", AT, BODY);
        for header in [
            String::new(),
            "nonsense".to_owned(),
            format!("t={AT}"),
            format!("t={AT},v0={v1}"),
            format!("v1={v1}"),
            format!("t=,v1={v1}"),
            format!("t=soon,v1={v1}"),
            format!("t=+{AT},v1={v1}"),
            format!("t=99999999999999999999,v1={v1}"),
            format!("t={AT},t={AT},v1={v1}"),
            format!("t={AT},{v1}"),
        ] {
            assert_eq!(check(&header, BODY, &["whsec_a"], AT), Err(SignatureError::Malformed), "{header}");
        }
    }
}
