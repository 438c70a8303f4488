//! Reads profiles from the items of the Actor's dataset.
//!
//! The Actor guarantees neither an order of items nor an item for each handle. Its values are written in several ways: numbers as texts, flags as
//! numbers, a category as the text "None", a hidden number of likes as -1. An invalid field is left out rather than failing the item, and what is
//! left out is unknown: no count becomes 0. A profile is analyzed only if it is known to be public and to be that of the handle.

mod counts;
mod dates;
mod failure;
mod fields;
mod posts;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use jiff::Timestamp;
use oslira_domain::text::shown;
use oslira_domain::{Profile, Username};
use serde_json::Value;

use self::counts::count;
use self::fields::{field, flag, name, web_address};
use crate::{ScrapeOutcome, ScrapedItem, VendorError, wire};

const MAX_BIO: usize = 500;
const MAX_NAME: usize = 150;
/// The only fields of an item that are read. The others (related profiles, picture links) make up most of its size.
pub(crate) const FIELDS: &str = "id,inputUrl,username,url,fullName,biography,externalUrl,followersCount,followsCount,postsCount,isBusinessAccount,\
                                 businessCategoryName,private,isPrivate,is_private,verified,isVerified,is_verified,profilePicUrl,profilePicUrlHD,\
                                 latestPosts,error,errorDescription";

/// Returns the outcome of each requested handle, in their order. `now` is a time after the Actor run.
pub(crate) fn outcomes(dataset: &[u8], requested: &[Username], now: Timestamp) -> Result<Vec<ScrapedItem>, VendorError> {
    let items: Vec<Value> = wire::json(dataset).ok_or(VendorError::Invalid("no list of items"))?;
    let of = |username: &Username| {
        let found = items.iter().filter_map(|item| {
            let key = ["username", "inputUrl", "url"].iter().position(|key| names(&item[*key], username))?;
            let outcome = outcome(item, username, now);
            Some(((rank(&outcome, item), key, Reverse(richness(&outcome))), outcome))
        });
        // The first of the best: an attempt that failed, or that saw only a part, may have left an item before the one that succeeded.
        found.min_by_key(|(order, _)| *order).map_or(ScrapeOutcome::Blocked, |(_, outcome)| outcome)
    };
    Ok(requested.iter().map(|username| ScrapedItem { username: username.clone(), outcome: of(username) }).collect())
}

/// Orders the outcomes of several items of a handle: those that know most come first. An item that says that the profile is private is refuted
/// only by one that says that it is public and has its posts.
fn rank(outcome: &ScrapeOutcome, item: &Value) -> u8 {
    match outcome {
        ScrapeOutcome::Found(profile) if privacy(item) == Some(false) && !profile.posts.is_empty() => 0,
        ScrapeOutcome::Private(_) => 1,
        ScrapeOutcome::Found(_) => 2,
        ScrapeOutcome::WithoutPosts => 3,
        ScrapeOutcome::Restricted => 4,
        ScrapeOutcome::NotFound => 5,
        ScrapeOutcome::Blocked => 6,
    }
}

/// Returns how much an outcome says about the profile. A count of 0 says nothing: the Actor writes it for what it did not see, too.
fn richness(outcome: &ScrapeOutcome) -> usize {
    let (ScrapeOutcome::Found(profile) | ScrapeOutcome::Private(profile)) = outcome else { return 0 };
    let counts = [profile.follower_count, profile.following_count, profile.post_count];
    let texts = [&profile.external_url, &profile.profile_pic_url, &profile.business_category];
    let of_posts = profile.posts.iter().map(|post| {
        let counts = [post.like_count, post.comment_count, post.view_count];
        1 + counts.iter().flatten().count() + usize::from(post.posted_at.is_some()) + usize::from(!post.caption.is_empty())
    });
    counts.into_iter().flatten().filter(|count| *count > 0).count()
        + texts.into_iter().flatten().count()
        + usize::from(!profile.bio.is_empty())
        + of_posts.sum::<usize>()
}

/// Whether a value is the handle `username` or the URL of its profile.
fn names(value: &Value, username: &Username) -> bool {
    let text = if value.is_number() { name(value) } else { value.as_str().map(str::to_owned) };
    text.and_then(|text| text.parse::<Username>().ok()).is_some_and(|named| named == *username)
}

/// Returns whether the profile is private. `None` if the item does not say it.
fn privacy(item: &Value) -> Option<bool> {
    let stated = ["private", "isPrivate", "is_private"].map(|key| flag(&item[key]));
    // If the names contradict each other, it is private.
    stated.into_iter().flatten().reduce(|one, other| one || other)
}

fn outcome(item: &Value, username: &Username, now: Timestamp) -> ScrapeOutcome {
    let has_error = failure::has_error(item);
    let privacy = if failure::is_private(item) { Some(true) } else { privacy(item) };
    let is_private = privacy == Some(true);
    // An item with an error is no profile, although it may have an id, a name and a picture.
    if has_error && !is_private {
        return failure::failure(item);
    }
    let profile = profile(item, username, is_private, now);
    if is_private {
        return ScrapeOutcome::Private(profile);
    }
    if !is_seen(item, &profile) {
        return ScrapeOutcome::Blocked;
    }
    // Without its posts a profile is analyzed only if it has none, or is at least known to be public.
    let may_have_none = match profile.post_count {
        Some(count) => count == 0,
        None => privacy == Some(false),
    };
    if profile.posts.is_empty() && !may_have_none { ScrapeOutcome::WithoutPosts } else { ScrapeOutcome::Found(profile) }
}

/// Whether the Actor saw the public profile. Where Instagram refused to show it, the item has no name and no picture, no count, or only counts of 0
/// beside nothing that a profile could have. Every account has a picture, a new one Instagram's default: an empty account with its picture is real.
fn is_seen(item: &Value, profile: &Profile) -> bool {
    let counts = [profile.follower_count, profile.following_count, profile.post_count];
    let has_name = text(item, "fullName", MAX_NAME).is_some();
    if !(has_name || profile.profile_pic_url.is_some()) || counts == [None; 3] {
        return false;
    }
    let has_picture = profile.profile_pic_url.as_deref().is_some_and(|url| !is_of_the_page(url));
    let has_text = !profile.bio.is_empty() || profile.external_url.is_some() || profile.business_category.is_some();
    counts.into_iter().flatten().any(|count| count > 0) || !profile.posts.is_empty() || has_picture || has_text || profile.is_verified
}

/// Whether a picture belongs to Instagram's page and to no account, such as the logo of the page to sign in.
fn is_of_the_page(url: &str) -> bool {
    url.split('/')
        .nth(2)
        .is_some_and(|host| host.eq_ignore_ascii_case("static.cdninstagram.com") || host.eq_ignore_ascii_case("www.instagram.com"))
}

fn profile(item: &Value, username: &Username, is_private: bool, now: Timestamp) -> Profile {
    let posts = if is_private { Vec::new() } else { posts::posts(&item["latestPosts"], now) };
    let category = category(item);
    let least = i64::try_from(posts.len()).unwrap_or(0);
    Profile {
        username: username.clone(),
        display_name: text(item, "fullName", MAX_NAME).unwrap_or_else(|| username.to_string()),
        bio: text(item, "biography", MAX_BIO).unwrap_or_default(),
        follower_count: count(&item["followersCount"]),
        following_count: count(&item["followsCount"]),
        // Fewer posts than came are not the number of all.
        post_count: count(&item["postsCount"]).filter(|count| *count >= least),
        external_url: web_address(&item["externalUrl"]),
        profile_pic_url: web_address(&item["profilePicUrlHD"]).or_else(|| web_address(&item["profilePicUrl"])),
        is_verified: flag(field(item, &["verified", "isVerified", "is_verified"])).unwrap_or(false),
        is_private,
        // A creator may have a category, too.
        is_business_account: flag(&item["isBusinessAccount"]).unwrap_or(category.is_some()),
        business_category: category,
        posts,
    }
}

/// Returns the business category. Instagram's lists may begin with "None", which stands for a part that is not chosen.
fn category(item: &Value) -> Option<String> {
    let categories = text(item, "businessCategoryName", MAX_NAME)?;
    let is_chosen = |category: &&str| !["", "none", "null"].iter().any(|absent| category.eq_ignore_ascii_case(absent));
    let chosen: Vec<&str> = categories.split(',').map(str::trim).filter(is_chosen).collect();
    (!chosen.is_empty()).then(|| chosen.join(", "))
}

/// Returns a text as a reader sees it, cut to `max` characters. `None` if nothing is left. Control characters, of which PostgreSQL cannot store
/// all, become blanks, because they may separate words.
fn text(item: &Value, key: &str, max: usize) -> Option<String> {
    let cut: String = shown(item[key].as_str()?).trim().chars().take(max).collect();
    (!cut.is_empty()).then_some(cut)
}
