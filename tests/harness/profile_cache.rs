//! The profile cache: its entries in S3.

use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value;

use super::World;

/// Returns the key of a handle's entry in S3.
pub fn profile_cache_key(handle: &str) -> String {
    format!("instagram:{handle}:v1")
}

impl World {
    /// Returns the cache entry of a handle as text.
    pub async fn cached(&self, handle: &str) -> Option<String> {
        let bucket = &self.stack.outputs()["ProfileBucketName"];
        let object = self.s3.get_object().bucket(bucket).key(profile_cache_key(handle)).send().await.ok()?;
        Some(String::from_utf8(object.body.collect().await.expect("a body").to_vec()).expect("UTF-8"))
    }

    /// Returns the cache entry of a handle.
    pub async fn entry(&self, handle: &str) -> Value {
        serde_json::from_str(&self.cached(handle).await.expect("an entry")).expect("JSON")
    }

    /// Writes the cache entry of a handle.
    pub async fn put_cached(&self, handle: &str, content: impl Into<String>) {
        let bucket = &self.stack.outputs()["ProfileBucketName"];
        let body = ByteStream::from(content.into().into_bytes());
        self.s3.put_object().bucket(bucket).key(profile_cache_key(handle)).body(body).send().await.expect("an entry");
    }
}
