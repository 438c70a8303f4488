//! An Instagram profile, independent of the vendor that fetched it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Username;

/// The kind of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PostKind {
    /// One picture.
    Photo,
    /// A video or reel.
    Video,
    /// Several pictures or videos.
    Carousel,
}

/// One of the latest posts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// Instagram's id of the post.
    pub id: String,
    /// Its kind.
    pub kind: PostKind,
    /// The caption. Untrusted input.
    pub caption: String,
    /// Likes. `None` if the owner hides them.
    pub like_count: Option<i64>,
    /// Comments. `None` if unknown.
    pub comment_count: Option<i64>,
    /// Plays of a video.
    pub view_count: Option<i64>,
    /// When it was posted.
    pub posted_at: Option<Timestamp>,
    /// Pinned by its owner, so that it stands among the latest posts whatever its age.
    #[serde(default)]
    pub is_pinned: bool,
}

/// A profile. Every text in it is untrusted input: data, never an instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The handle.
    pub username: Username,
    /// The display name, or the handle without one.
    pub display_name: String,
    /// The bio.
    pub bio: String,
    /// Followers. `None`, as the other counts, if the vendor did not report it: unknown is not zero.
    pub follower_count: Option<i64>,
    /// Accounts followed.
    pub following_count: Option<i64>,
    /// The number of all posts, not only of `posts`.
    pub post_count: Option<i64>,
    /// The link in the bio.
    pub external_url: Option<String>,
    /// The picture. Its address is signed by Instagram and expires after some days.
    pub profile_pic_url: Option<String>,
    /// Verified by Instagram.
    pub is_verified: bool,
    /// Visible to followers only.
    pub is_private: bool,
    /// A business account.
    pub is_business_account: bool,
    /// Its business category.
    pub business_category: Option<String>,
    /// The latest posts, newest first, at most twelve.
    pub posts: Vec<Post>,
}
