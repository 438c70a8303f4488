//! An Instagram profile, independent of the vendor that fetched it.

use jiff::{SignedDuration, Timestamp};
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
    /// Its kind. `None` if unknown.
    pub kind: Option<PostKind>,
    /// The caption. Untrusted input.
    pub caption: String,
    /// Likes. `None` if the owner hides them.
    pub like_count: Option<i64>,
    /// Comments. `None` if unknown.
    pub comment_count: Option<i64>,
    /// Plays of a video. `None` if unknown, and for other kinds.
    pub view_count: Option<i64>,
    /// When it was posted. `None` if unknown.
    pub posted_at: Option<Timestamp>,
    /// Pinned by its owner, so that it stands among the latest posts whatever its age.
    #[serde(default)]
    pub is_pinned: bool,
}

impl Post {
    /// Whether a post can be from `at`, as far as is known at the time `now`: Instagram exists since 2010, and no post is from the future. The clocks
    /// of those who report the dates may differ by an hour.
    pub fn can_be_from(at: Timestamp, now: Timestamp) -> bool {
        at.as_second() >= FIRST_POSTS && at.duration_since(now) <= SignedDuration::from_hours(1)
    }

    /// Returns the age of the post at the time `now`. `None` if it is unknown.
    pub fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        let at = self.posted_at.filter(|at| Self::can_be_from(*at, now))?;
        Some(now.duration_since(at).max(SignedDuration::ZERO))
    }
}

/// The first of January 2010. Instagram's first posts are from July.
const FIRST_POSTS: i64 = 1_262_304_000;

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
