//! Deterministic metrics of a profile: computed here, included in the prompt and stored, so that no model has to compute them.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Post, PostKind, Profile};

/// The size of an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudienceScale {
    /// Below 10,000 followers.
    Nano,
    /// Below 50,000.
    Micro,
    /// Below 250,000.
    Mid,
    /// Below a million.
    Macro,
    /// Below three million.
    Mega,
    /// Three million and more.
    Enterprise,
}

impl AudienceScale {
    /// Returns the size for this number of followers.
    pub const fn of(followers: i64) -> Self {
        match followers {
            ..10_000 => Self::Nano,
            10_000..50_000 => Self::Micro,
            50_000..250_000 => Self::Mid,
            250_000..1_000_000 => Self::Macro,
            1_000_000..3_000_000 => Self::Mega,
            _ => Self::Enterprise,
        }
    }
}

/// How often a profile posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostingFrequency {
    /// Seven posts a week and more.
    Daily,
    /// Three and a half and more.
    SeveralPerWeek,
    /// One and more.
    Weekly,
    /// Less than one.
    LessThanWeekly,
    /// Fewer than two dated posts.
    Unknown,
}

/// The metrics. A metric that cannot be known is `None`: hidden likes, no followers, no posts. No metric is infinite or NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// How many posts the other metrics are computed from.
    pub posts_analyzed: usize,
    /// How many of them hide their likes.
    pub hidden_likes_posts: usize,
    /// Mean of likes and comments over posts whose likes and comments are known, in percent of the followers.
    pub engagement_rate_percent: Option<f64>,
    /// Mean likes of the posts with visible likes.
    pub avg_likes: Option<f64>,
    /// Mean comments of the posts whose comments are known.
    pub avg_comments: Option<f64>,
    /// Mean plays of the videos whose plays are known.
    pub avg_video_views: Option<f64>,
    /// Posts a week between the oldest and the newest of the posts. Older pinned posts are left out. `None` unless most posts have a date.
    pub posts_per_week: Option<f64>,
    /// How often the profile posts.
    pub posting_frequency: PostingFrequency,
    /// Whole days since the newest post. `None` unless most posts have a date.
    pub days_since_last_post: Option<i64>,
    /// The size of the audience. `None` if the number of followers is unknown.
    pub audience_scale: Option<AudienceScale>,
    /// Followers for each followed account. `None` if it follows none.
    pub follower_following_ratio: Option<f64>,
    /// The kind of more than half of the posts.
    pub dominant_format: Option<PostKind>,
}

impl Metrics {
    /// Computes the metrics of `profile` at the time `now`.
    pub fn of(profile: &Profile, now: Timestamp) -> Self {
        let posts = &profile.posts;
        let interactions = |post: &Post| known(post.like_count).zip(known(post.comment_count)).map(|(likes, comments)| likes + comments);
        let is_video = |post: &&Post| post.kind == Some(PostKind::Video);
        let followers = known(profile.follower_count).filter(|followers| *followers > 0.0);
        let engagement = mean(posts.iter().filter_map(interactions)).zip(followers).map(|(mean, followers)| mean / followers * 100.0);
        let following = known(profile.following_count).filter(|following| *following > 0.0);
        let ratio = known(profile.follower_count).zip(following).map(|(followers, following)| followers / following);
        let ages = regular_ages(posts, now);
        let per_week = posts_per_week(&ages);
        Self {
            posts_analyzed: posts.len(),
            hidden_likes_posts: posts.iter().filter(|post| known(post.like_count).is_none()).count(),
            engagement_rate_percent: engagement.map(two_decimals),
            avg_likes: mean(posts.iter().filter_map(|post| known(post.like_count))).map(two_decimals),
            avg_comments: mean(posts.iter().filter_map(|post| known(post.comment_count))).map(two_decimals),
            avg_video_views: mean(posts.iter().filter(is_video).filter_map(|post| known(post.view_count))).map(two_decimals),
            posts_per_week: per_week.map(two_decimals),
            posting_frequency: in_words(per_week),
            days_since_last_post: ages.iter().min().map(|newest| newest.as_secs() / 86_400),
            audience_scale: profile.follower_count.filter(|followers| *followers >= 0).map(AudienceScale::of),
            follower_following_ratio: ratio.map(two_decimals),
            dominant_format: [PostKind::Photo, PostKind::Video, PostKind::Carousel]
                .into_iter()
                .find(|kind| posts.iter().filter(|post| post.kind == Some(*kind)).count() * 2 > posts.len()),
        }
    }
}

/// Returns a count as a number. `None` for a negative one, which means unknown to the vendor.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53, and above it a rounded mean is as good")]
fn known(count: Option<i64>) -> Option<f64> {
    count.filter(|count| *count >= 0).map(|count| count as f64)
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = numbers.fold((0.0, 0_u32), |(sum, count), number| (sum + number, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Rounds for people. Numbers too large for the rounding have no decimals anyway.
fn two_decimals(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Returns the ages of the posts that stand where they do because of their age. A pinned post that is older than all others says nothing
/// about how often or how recently the profile posts. A profile whose posts are all pinned has no other dates.
///
/// If no more than half of the posts have a date, there are none: the undated ones may be the newest.
fn regular_ages(posts: &[Post], now: Timestamp) -> Vec<SignedDuration> {
    let (pinned, regular): (Vec<&Post>, Vec<&Post>) = posts.iter().partition(|post| post.is_pinned);
    let of = |posts: &[&Post]| posts.iter().filter_map(|post| post.age(now)).collect::<Vec<_>>();
    let (ages, of_pinned) = (of(&regular), of(&pinned));
    if regular.is_empty() {
        return if of_pinned.len() * 2 > pinned.len() { of_pinned } else { Vec::new() };
    }
    if ages.len() * 2 <= regular.len() {
        return Vec::new();
    }
    let oldest = ages.iter().max().copied();
    of_pinned.into_iter().filter(|age| Some(*age) <= oldest).chain(ages).collect()
}

/// Returns the posts a week over the span of `ages`. A span of less than a day counts as one day.
fn posts_per_week(ages: &[SignedDuration]) -> Option<f64> {
    let intervals = u32::try_from(ages.len()).ok()?.checked_sub(1).filter(|intervals| *intervals > 0)?;
    let span = *ages.iter().max()? - *ages.iter().min()?;
    Some(f64::from(intervals) / span.as_secs_f64().max(86_400.0) * 604_800.0)
}

fn in_words(posts_per_week: Option<f64>) -> PostingFrequency {
    match posts_per_week {
        None => PostingFrequency::Unknown,
        Some(rate) if rate >= 7.0 => PostingFrequency::Daily,
        Some(rate) if rate >= 3.5 => PostingFrequency::SeveralPerWeek,
        Some(rate) if rate >= 1.0 => PostingFrequency::Weekly,
        Some(_) => PostingFrequency::LessThanWeekly,
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;
    use AudienceScale::{Enterprise, Macro, Mega, Micro, Mid, Nano};
    use PostingFrequency::{Daily, LessThanWeekly, SeveralPerWeek, Weekly};

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn post(kind: PostKind, likes: Option<i64>, comments: Option<i64>, hours_ago: Option<i64>) -> Post {
        let posted_at = hours_ago.map(|hours| now() - hours.hours());
        Post {
            id: "1".to_owned(),
            kind: Some(kind),
            caption: String::new(),
            like_count: likes,
            comment_count: comments,
            view_count: None,
            posted_at,
            is_pinned: false,
        }
    }

    fn profile(followers: impl Into<Option<i64>>, following: impl Into<Option<i64>>, posts: Vec<Post>) -> Profile {
        Profile {
            username: "nike".parse().unwrap(),
            display_name: "Nike".to_owned(),
            bio: String::new(),
            follower_count: followers.into(),
            following_count: following.into(),
            post_count: Some(12),
            external_url: None,
            profile_pic_url: None,
            is_verified: false,
            is_private: false,
            is_business_account: false,
            business_category: None,
            posts,
        }
    }

    #[test]
    fn an_ordinary_profile() {
        let posts = vec![
            post(PostKind::Video, Some(100), Some(20), Some(30)),
            post(PostKind::Video, None, Some(10), Some(54)),
            post(PostKind::Photo, Some(50), None, Some(30 + 48)),
        ];
        let metrics = Metrics::of(&profile(10_000, 300, posts), now());
        let expected = Metrics {
            posts_analyzed: 3,
            hidden_likes_posts: 1,
            engagement_rate_percent: Some(1.2),
            avg_likes: Some(75.0),
            avg_comments: Some(15.0),
            avg_video_views: None,
            posts_per_week: Some(7.0),
            posting_frequency: PostingFrequency::Daily,
            days_since_last_post: Some(1),
            audience_scale: Some(AudienceScale::Micro),
            follower_following_ratio: Some(33.33),
            dominant_format: Some(PostKind::Video),
        };
        assert_eq!(metrics, expected);
        assert_eq!(serde_json::to_value(&metrics).unwrap()["posting_frequency"], "daily");
    }

    #[test]
    fn an_unknown_metric_is_none() {
        let nothing = Metrics::of(&profile(0, 0, Vec::new()), now());
        assert_eq!(
            [nothing.engagement_rate_percent, nothing.avg_likes, nothing.posts_per_week, nothing.follower_following_ratio],
            [None; 4]
        );
        assert_eq!(
            (nothing.posting_frequency, nothing.days_since_last_post, nothing.dominant_format),
            (PostingFrequency::Unknown, None, None)
        );

        let unknown = Metrics::of(&profile(None, None, vec![post(PostKind::Photo, Some(9), Some(4), Some(1))]), now());
        assert_eq!((unknown.audience_scale, unknown.engagement_rate_percent, unknown.follower_following_ratio), (None, None, None));
        assert_eq!((nothing.audience_scale, unknown.avg_likes), (Some(Nano), Some(9.0)));
        assert_eq!(Metrics::of(&profile(-1, 5, Vec::new()), now()).audience_scale, None);

        let hidden = Metrics::of(&profile(500, 10, vec![post(PostKind::Photo, Some(-1), Some(4), None)]), now());
        assert_eq!((hidden.hidden_likes_posts, hidden.engagement_rate_percent, hidden.avg_comments), (1, None, Some(4.0)));

        let zero = Metrics::of(&profile(0, 10, vec![post(PostKind::Photo, Some(9), Some(4), None)]), now());
        assert_eq!((zero.engagement_rate_percent, zero.follower_following_ratio), (None, Some(0.0)));
    }

    #[test]
    fn the_frequency_changes_at_its_limits() {
        let every = |hours: i64| (0..4).map(|n| post(PostKind::Photo, None, None, Some(n * hours))).collect::<Vec<_>>();
        let words = [0, 24, 25, 48, 49, 168, 169].map(|hours| Metrics::of(&profile(1, 1, every(hours)), now()).posting_frequency);
        assert_eq!(words, [Daily, Daily, SeveralPerWeek, SeveralPerWeek, Weekly, Weekly, LessThanWeekly]);
    }

    #[test]
    fn an_older_pinned_post_says_nothing_about_frequency_and_recency() {
        let pinned = |hours| Post { is_pinned: true, ..post(PostKind::Photo, Some(1), None, Some(hours)) };
        let daily = || (0..11).map(|day| post(PostKind::Photo, Some(1), None, Some(24 * day + 30))).collect::<Vec<_>>();
        let of = |posts: Vec<Post>| {
            let metrics = Metrics::of(&profile(1, 1, posts), now());
            (metrics.posting_frequency, metrics.days_since_last_post, metrics.posts_analyzed)
        };
        assert_eq!(of([vec![pinned(3 * 365 * 24)], daily()].concat()), (Daily, Some(1), 12));
        assert_eq!(of([vec![post(PostKind::Photo, None, None, Some(3 * 365 * 24))], daily()].concat()), (LessThanWeekly, Some(1), 12));
        // One within the range of the others, or newer, counts.
        assert_eq!(of([vec![pinned(2)], daily()].concat()), (SeveralPerWeek, Some(0), 12));
        // Without any other post, the pinned ones are all there is.
        assert_eq!(of(vec![pinned(24 * 400), pinned(24 * 500)]), (LessThanWeekly, Some(400), 2));
    }

    #[test]
    fn audience_sizes_begin_at_their_limits() {
        let scales = [-5, 9_999, 10_000, 50_000, 250_000, 1_000_000, 3_000_000].map(AudienceScale::of);
        assert_eq!(scales, [Nano, Nano, Micro, Mid, Macro, Mega, Enterprise]);
    }

    #[test]
    fn a_date_that_is_impossible_or_that_most_posts_lack_says_nothing() {
        let dated = |hours| post(PostKind::Photo, None, None, Some(hours));
        let undated = || post(PostKind::Photo, None, None, None);
        let pinned = |hours| Post { is_pinned: true, ..dated(hours) };
        let epoch = || Post { posted_at: Some(Timestamp::UNIX_EPOCH), ..undated() };
        let old = 7 * 365 * 24;
        for (posts, days, frequency) in [
            (vec![dated(-500), dated(30)], None, PostingFrequency::Unknown),
            (vec![dated(-500), dated(30), dated(54)], Some(1), Daily),
            (vec![dated(0), dated(24), dated(48), epoch()], Some(0), Daily),
            (vec![pinned(old), undated(), undated(), undated()], None, PostingFrequency::Unknown),
            (vec![pinned(old), pinned(old), undated()], None, PostingFrequency::Unknown),
            (vec![pinned(old), undated(), dated(30)], None, PostingFrequency::Unknown),
            (vec![pinned(old), dated(30), dated(54), undated()], Some(1), Daily),
            (vec![pinned(old), dated(30)], Some(1), PostingFrequency::Unknown),
            (vec![dated(old), undated(), undated()], None, PostingFrequency::Unknown),
            (vec![undated()], None, PostingFrequency::Unknown),
        ] {
            let metrics = Metrics::of(&profile(1, 1, posts.clone()), now());
            assert_eq!((metrics.days_since_last_post, metrics.posting_frequency), (days, frequency), "{posts:?}");
        }
    }

    #[test]
    fn only_known_numbers_enter_a_mean() {
        let viewed = |kind, views| Post { view_count: views, ..post(kind, Some(10), Some(2), None) };
        let posts = vec![
            viewed(PostKind::Video, Some(90_000)),
            viewed(PostKind::Video, None),
            viewed(PostKind::Photo, Some(0)),
            viewed(PostKind::Carousel, Some(0)),
            post(PostKind::Photo, Some(990), None, None),
            post(PostKind::Photo, None, Some(500), None),
            Post { kind: None, ..post(PostKind::Photo, None, None, None) },
        ];
        let metrics = Metrics::of(&profile(1000, 10, posts), now());
        assert_eq!((metrics.avg_video_views, metrics.engagement_rate_percent), (Some(90_000.0), Some(1.2)));
        assert_eq!((metrics.avg_likes, metrics.avg_comments, metrics.dominant_format), (Some(206.0), Some(101.6), None));
        let likes_only = Metrics::of(&profile(1000, 10, vec![post(PostKind::Photo, Some(9), None, None)]), now());
        assert_eq!((likes_only.engagement_rate_percent, likes_only.avg_likes), (None, Some(9.0)));
    }

    fn any_post() -> impl Strategy<Value = Post> {
        let count = || proptest::option::of(any::<i64>());
        let kind = prop_oneof![Just(PostKind::Photo), Just(PostKind::Video), Just(PostKind::Carousel)];
        let second = proptest::option::of(-377_705_023_201_i64..253_402_207_200);
        (kind, count(), count(), count(), second).prop_map(|(kind, like_count, comment_count, view_count, second)| Post {
            posted_at: second.map(|second| Timestamp::from_second(second).unwrap()),
            view_count,
            ..post(kind, like_count, comment_count, None)
        })
    }

    proptest! {
        #[test]
        fn no_number_is_ever_infinite_or_nan(
            followers: i64, following: i64, posts in proptest::collection::vec(any_post(), 0..14), second in -377_705_023_201_i64..253_402_207_200
        ) {
            let metrics = Metrics::of(&profile(followers, following, posts), Timestamp::from_second(second).unwrap());
            let numbers = [metrics.engagement_rate_percent, metrics.avg_likes, metrics.avg_comments, metrics.avg_video_views,
                metrics.posts_per_week, metrics.follower_following_ratio];
            for number in numbers.into_iter().flatten() {
                prop_assert!(number.is_finite() && number >= 0.0, "{number}");
            }
            prop_assert!(metrics.days_since_last_post.is_none_or(|days| days >= 0));
        }
    }
}
