//! The signature of a webhook: HMAC-SHA256 over its time and its body, byte by byte as they were sent.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

/// How far a signature's time may lie from ours, in seconds. A recorded request is worthless after that; one from a future that far
/// away was not signed by Stripe just now either.
const TOLERANCE_SECONDS: u64 = 300;

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not of the form `t=…,v1=…`, or holds no `v1`.
    #[error("the signature header is malformed")]
    Malformed,
    /// It was signed too long ago, or in the future.
    #[error("the signature's time is more than {TOLERANCE_SECONDS} s away")]
    Stale,
    /// It was made with none of the secrets, or for another body.
    #[error("the signature does not match")]
    Mismatch,
}

/// Checks the header `Stripe-Signature` of a request with this body: one of its `v1` signatures must have been made with one of the
/// secrets. While a secret is being rolled Stripe signs with both, and we know both.
///
/// # Errors
/// Says why not. After [`SignatureError::Mismatch`] a fresh copy of the secrets may help.
pub fn verify(header: &str, body: &[u8], secrets: &[SecretString], now: Timestamp) -> Result<(), SignatureError> {
    let (mut time, mut signatures) = (None, Vec::new());
    for element in header.split(',') {
        match element.trim().split_once('=').ok_or(SignatureError::Malformed)? {
            ("t", text) if time.is_none() => time = Some(text),
            ("t", _) => return Err(SignatureError::Malformed),
            ("v1", text) => signatures.push(text),
            _ => {} // `v0` is for tests, and other schemes may come
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
    // An empty secret would let everybody sign.
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
    fn the_signature_is_the_one_that_stripes_own_library_makes() {
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
    fn five_minutes_are_forgiven_either_way() {
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
    fn a_header_that_is_none_is_malformed() {
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
