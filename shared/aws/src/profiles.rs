//! The profile cache in S3: one entry for each handle, shared by all tenants. The bucket keeps versions, so that a run reads the profile that
//! it started with even if the entry is replaced meanwhile.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use oslira_domain::Username;
use oslira_domain::cache::{self, CachedProfile};
use serde::{Deserialize, Serialize};

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// The location of one version of a cache entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRef {
    /// The object's key.
    pub key: String,
    /// The object's version.
    pub version_id: Option<String>,
}

/// The bucket of profiles.
#[derive(Clone)]
pub struct Profiles {
    client: Lazy<Client>,
    bucket: String,
}

impl Profiles {
    /// Returns the profiles in `bucket`.
    pub fn new(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        let client = lazily(config, |config| {
            // Path style on a local endpoint, where bucket names do not resolve as host names.
            let is_local = config.endpoint_url().is_some();
            Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(is_local).build())
        });
        Self { client, bucket: bucket.into() }
    }

    /// Returns the newest entry of a handle with its location. An entry that is absent, unreadable or of another profile than its key says is
    /// a miss: the next scrape replaces it.
    ///
    /// # Errors
    /// Fails when S3 is unavailable.
    pub async fn latest(&self, username: &Username) -> Result<Option<(CachedProfile, ProfileRef)>, AwsError> {
        let found = self.read(ProfileRef { key: cache::key(username), version_id: None }).await?;
        Ok(found.filter(|(entry, _)| entry.profile.username == *username))
    }

    /// Returns the entry of a run. `None` if lifecycle rules have removed it.
    ///
    /// # Errors
    /// Fails when S3 is unavailable.
    pub async fn get(&self, at: &ProfileRef) -> Result<Option<CachedProfile>, AwsError> {
        Ok(self.read(at.clone()).await?.map(|(entry, _)| entry))
    }

    async fn read(&self, at: ProfileRef) -> Result<Option<(CachedProfile, ProfileRef)>, AwsError> {
        let object = match self.client.get_object().bucket(&self.bucket).key(&at.key).set_version_id(at.version_id.clone()).send().await {
            Ok(object) => object,
            Err(error) => {
                let gone = error.as_service_error().is_some_and(|error| {
                    use aws_sdk_s3::error::ProvideErrorMetadata;
                    matches!(error, GetObjectError::NoSuchKey(_)) || matches!(error.code(), Some("NoSuchVersion" | "NoSuchKey"))
                });
                return if gone { Ok(None) } else { Err(describe!("s3", error, aws_sdk_s3)) };
            }
        };
        let version_id = object.version_id.filter(|id| id != "null").or(at.version_id);
        let body = object.body.collect().await.map_err(|_| AwsError::new("s3", "interrupted download"))?;
        let entry = serde_json::from_slice(&body.into_bytes()).ok();
        if entry.is_none() {
            tracing::warn!(key = at.key, "unreadable cache entry");
        }
        Ok(entry.map(|entry| (entry, ProfileRef { key: at.key, version_id })))
    }

    /// Stores an entry in the place of the existing one.
    ///
    /// # Errors
    /// Fails when S3 is unavailable.
    pub async fn put(&self, entry: &CachedProfile) -> Result<ProfileRef, AwsError> {
        let key = cache::key(&entry.profile.username);
        let body = serde_json::to_vec(entry).map_err(|error| AwsError::new("s3", error.to_string()))?;
        let put = self.client.put_object().bucket(&self.bucket).key(&key).content_type("application/json").body(ByteStream::from(body));
        let stored = put.send().await.map_err(|error| describe!("s3", error, aws_sdk_s3))?;
        Ok(ProfileRef { key, version_id: stored.version_id })
    }

    /// Removes the entry of a handle, if there is one. Runs in progress still read the version that they started with.
    ///
    /// # Errors
    /// Fails when S3 is unavailable.
    pub async fn drop_entry(&self, username: &Username) -> Result<(), AwsError> {
        let dropped = self.client.delete_object().bucket(&self.bucket).key(cache::key(username)).send().await;
        dropped.map(drop).map_err(|error| describe!("s3", error, aws_sdk_s3))
    }

    /// Whether the bucket answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), AwsError> {
        self.client.head_bucket().bucket(&self.bucket).send().await.map(drop).map_err(|error| describe!("s3", error, aws_sdk_s3))
    }
}
