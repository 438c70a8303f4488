//! The profile cache in S3: one entry a handle, shared by all tenants. The bucket keeps versions, so that a run reads the very
//! profile it started with, whatever happens to the entry meanwhile.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use oslira_domain::Username;
use oslira_domain::cache::{self, CachedProfile};
use serde::{Deserialize, Serialize};

use crate::error::describe;
use crate::{AwsError, MissingVariable, variable};

/// Where one version of a cached profile lies.
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
    client: Client,
    bucket: String,
}

impl Profiles {
    /// The bucket in `PROFILE_BUCKET`.
    ///
    /// # Errors
    /// When the variable is missing.
    pub fn from_env(config: &SdkConfig) -> Result<Self, MissingVariable> {
        // Path style: bucket names are no host names on a local endpoint.
        let local = std::env::var_os("AWS_ENDPOINT_URL").is_some();
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(local).build();
        Ok(Self { client: Client::from_conf(config), bucket: variable("PROFILE_BUCKET")? })
    }

    /// The newest entry of a handle, with where it lies. Absent and unreadable entries are a miss: the next scrape replaces them.
    ///
    /// # Errors
    /// When S3 does not answer.
    pub async fn latest(&self, username: &Username) -> Result<Option<(CachedProfile, ProfileRef)>, AwsError> {
        self.read(ProfileRef { key: cache::key(username), version_id: None }).await
    }

    /// The profile that a run works on. `None` if it is gone after all: lifecycle rules removed it.
    ///
    /// # Errors
    /// When S3 does not answer.
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
        let body = object.body.collect().await.map_err(|_| AwsError::new("s3", "broken download"))?;
        let entry = serde_json::from_slice(&body.into_bytes()).ok();
        if entry.is_none() {
            tracing::warn!(key = at.key, "unreadable cache entry");
        }
        Ok(entry.map(|entry| (entry, ProfileRef { key: at.key, version_id })))
    }

    /// Stores an entry; the newest wins.
    ///
    /// # Errors
    /// When S3 does not answer.
    pub async fn put(&self, entry: &CachedProfile) -> Result<ProfileRef, AwsError> {
        let key = cache::key(&entry.profile.username);
        let body = serde_json::to_vec(entry).map_err(|error| AwsError::new("s3", error.to_string()))?;
        let put = self.client.put_object().bucket(&self.bucket).key(&key).content_type("application/json").body(ByteStream::from(body));
        let stored = put.send().await.map_err(|error| describe!("s3", error, aws_sdk_s3))?;
        Ok(ProfileRef { key, version_id: stored.version_id })
    }

    /// Whether the bucket answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), AwsError> {
        self.client.head_bucket().bucket(&self.bucket).send().await.map(drop).map_err(|error| describe!("s3", error, aws_sdk_s3))
    }
}
