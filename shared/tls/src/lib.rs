//! The TLS configuration of every client: one library, one provider, and the roots of the public authorities compiled in.
//!
//! Reading and parsing the system's roots at each start took longer than everything else that a function does before its first request.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Returns the public authorities, as Mozilla lists them.
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// Returns the configuration of a client that trusts `roots` and presents no certificate.
pub fn client_config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[expect(clippy::expect_used, reason = "both are compiled in")]
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("the provider supports TLS");
    config.with_root_certificates(roots).with_no_client_auth()
}

/// Returns the builder of every HTTP client.
pub fn http_builder() -> reqwest::ClientBuilder {
    let mut config = client_config(public_roots());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder().tls_backend_preconfigured(config)
}

/// Returns an HTTP client without further settings.
#[expect(clippy::expect_used, reason = "reqwest's own `new` panics as well: without settings nothing can fail")]
pub fn http_client() -> reqwest::Client {
    http_builder().build().expect("an HTTP client")
}
