//! Reads profiles from the items of the Actor's dataset.
//!
//! The Actor guarantees neither an order of items nor an item for each handle. Its counts are numbers or texts, its category may be the text
//! "None", and a hidden number of likes is -1. An invalid field is left out rather than failing the item.

use jiff::Timestamp;
use oslira_domain::{Post, PostKind, Profile, Username};
use serde_json::Value;

use crate::{ScrapeOutcome, ScrapedItem, VendorError, wire};

const MAX_POSTS: usize = 12;
/// Instagram's own limit.
const MAX_CAPTION: usize = 2200;
const MAX_BIO: usize = 500;
const MAX_NAME: usize = 150;
const MAX_URL: usize = 2048;

/// Returns the outcome of each requested handle, in their order.
pub(crate) fn outcomes(dataset: &[u8], requested: &[Username]) -> Result<Vec<ScrapedItem>, VendorError> {
    let items: Vec<Value> = wire::json(dataset).ok_or(VendorError::Invalid("no list of items"))?;
    let find = |key: &str, username: &Username| items.iter().find(|item| item[key].as_str().is_some_and(|text| names(text, username)));
    Ok(requested
        .iter()
        .map(|username| {
            let item = find("username", username).or_else(|| find("inputUrl", username)).or_else(|| find("url", username));
            let outcome = item.map_or(ScrapeOutcome::Blocked, |item| outcome(item, username));
            ScrapedItem { username: username.clone(), outcome }
        })
        .collect())
}

/// Whether a text is the handle `username` or the URL of its profile.
fn names(text: &str, username: &Username) -> bool {
    text.parse::<Username>().is_ok_and(|named| named == *username)
}

fn outcome(item: &Value, username: &Username) -> ScrapeOutcome {
    if let (Some(error), true) = (item["error"].as_str(), item["id"].is_null()) {
        // Other errors ("no_items": empty or private) do not say that there is no such profile.
        return if error == "not_found" { ScrapeOutcome::NotFound } else { ScrapeOutcome::Blocked };
    }
    let picture = url(item, "profilePicUrlHD").or_else(|| url(item, "profilePicUrl"));
    let name = text(item, "fullName", MAX_NAME);
    let is_private = flag(item, "private");
    if name.is_none() && picture.is_none() && !is_private {
        return ScrapeOutcome::Blocked;
    }
    let category = text(item, "businessCategoryName", MAX_NAME).filter(|category| category != "None");
    let profile = Profile {
        username: username.clone(),
        display_name: name.unwrap_or_else(|| username.to_string()),
        bio: text(item, "biography", MAX_BIO).unwrap_or_default(),
        follower_count: count(&item["followersCount"]).unwrap_or(0),
        following_count: count(&item["followsCount"]).unwrap_or(0),
        post_count: count(&item["postsCount"]).unwrap_or(0),
        external_url: url(item, "externalUrl"),
        profile_pic_url: picture,
        is_verified: flag(item, "verified"),
        is_private,
        is_business_account: flag(item, "isBusinessAccount") || category.is_some(),
        business_category: category,
        posts: if is_private { Vec::new() } else { posts(&item["latestPosts"]) },
    };
    if is_private { ScrapeOutcome::Private(profile) } else { ScrapeOutcome::Found(profile) }
}

/// Returns the latest posts, newest first. Those without a date come last.
fn posts(list: &Value) -> Vec<Post> {
    let mut posts: Vec<Post> = list.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(post).collect();
    posts.sort_by_key(|post| std::cmp::Reverse(post.posted_at));
    posts.truncate(MAX_POSTS);
    posts
}

fn post(item: &Value) -> Option<Post> {
    let id = text(item, "id", 64).or_else(|| text(item, "shortCode", 64))?;
    let kind = match item["type"].as_str() {
        Some("Video") => PostKind::Video,
        Some("Sidecar") => PostKind::Carousel,
        _ => PostKind::Photo,
    };
    Some(Post {
        id,
        kind,
        caption: text(item, "caption", MAX_CAPTION).unwrap_or_default(),
        like_count: count(&item["likesCount"]),
        comment_count: count(&item["commentsCount"]),
        view_count: count(&item["videoViewCount"]),
        posted_at: item["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok()),
    })
}

/// Returns a text without control characters, of which PostgreSQL cannot store all, cut to `max` characters. `None` if nothing is left.
fn text(item: &Value, key: &str, max: usize) -> Option<String> {
    let kept: String = item[key].as_str()?.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let cut: String = kept.trim().chars().take(max).collect();
    (!cut.is_empty()).then_some(cut)
}

/// Returns a web address. Others, such as `javascript:`, are left out, because clients make links of them. So is one that is too long.
fn url(item: &Value, key: &str) -> Option<String> {
    let url = item[key].as_str()?.trim();
    let web = url.starts_with("https://") || url.starts_with("http://");
    (web && url.len() <= MAX_URL && !url.contains(char::is_control)).then(|| url.to_owned())
}

fn flag(item: &Value, key: &str) -> bool {
    item[key].as_bool().unwrap_or(false)
}

/// Returns a count that is a number or a text such as "1,204". `None` if it is unknown or hidden (-1).
fn count(value: &Value) -> Option<i64> {
    let number = match value {
        Value::String(text) => text.replace([',', '_', ' '], "").parse().ok(),
        other => other.as_i64(),
    };
    number.filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ScrapeOutcome::{Blocked, Found, NotFound, Private};

    fn scrape(items: &Value, requested: &[&str]) -> Vec<ScrapeOutcome> {
        let requested: Vec<Username> = requested.iter().map(|name| name.parse().unwrap()).collect();
        let found = outcomes(items.to_string().as_bytes(), &requested).unwrap();
        assert_eq!(found.iter().map(|item| item.username.clone()).collect::<Vec<_>>(), requested);
        found.into_iter().map(|item| item.outcome).collect()
    }

    fn found(item: &Value) -> Profile {
        match scrape(&json!([item]), &["nike"]).remove(0) {
            ScrapeOutcome::Found(profile) => profile,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_item_is_a_profile() {
        let profile = found(&json!({
            "inputUrl": "https://www.instagram.com/nike", "id": "13460080", "username": "nike", "fullName": "Nike", "biography": "Just\u{0} Do It.\nNow",
            "externalUrl": "https://nike.example/", "followersCount": 1000, "followsCount": "1,204", "postsCount": 3, "isBusinessAccount": true,
            "businessCategoryName": "Sportswear", "private": false, "verified": true, "profilePicUrl": "https://pic/1", "profilePicUrlHD": "https://pic/hd",
            "latestPosts": [
                {"id": "1", "type": "Image", "caption": "old", "likesCount": 5, "commentsCount": 2, "timestamp": "2026-11-01T10:00:00.000Z"},
                {"id": "2", "type": "Video", "caption": null, "likesCount": -1, "commentsCount": "7", "videoViewCount": 90, "timestamp": "2026-11-20T10:00:00.000Z"},
                {"shortCode": "C3", "type": "Sidecar", "likesCount": 1.5, "timestamp": "yesterday"},
                {"caption": "neither id nor code"}
            ]
        }));
        let expected = json!({
            "username": "nike", "display_name": "Nike", "bio": "Just Do It.\nNow", "follower_count": 1000, "following_count": 1204, "post_count": 3,
            "external_url": "https://nike.example/", "profile_pic_url": "https://pic/hd", "is_verified": true, "is_private": false,
            "is_business_account": true, "business_category": "Sportswear",
            "posts": [
                {"id": "2", "kind": "video", "caption": "", "like_count": null, "comment_count": 7, "view_count": 90, "posted_at": "2026-11-20T10:00:00Z"},
                {"id": "1", "kind": "photo", "caption": "old", "like_count": 5, "comment_count": 2, "view_count": null, "posted_at": "2026-11-01T10:00:00Z"},
                {"id": "C3", "kind": "carousel", "caption": "", "like_count": null, "comment_count": null, "view_count": null, "posted_at": null}
            ]
        });
        assert_eq!(serde_json::to_value(profile).unwrap(), expected);
    }

    #[test]
    fn invalid_fields_are_left_out() {
        let profile = found(&json!({
            "id": "1", "username": "NIKE", "fullName": " ", "biography": 7, "externalUrl": "javascript:alert(1)", "followersCount": "640000000",
            "followsCount": "many", "businessCategoryName": "None", "profilePicUrl": "https://pic/1", "verified": "yes", "latestPosts": "none"
        }));
        assert_eq!((profile.display_name.as_str(), profile.follower_count, profile.following_count), ("nike", 640_000_000, 0));
        assert_eq!((profile.external_url, profile.business_category, profile.is_business_account), (None, None, false));
        assert!(profile.posts.is_empty() && !profile.is_verified);
    }

    #[test]
    fn sizes_are_capped() {
        let many: Vec<Value> = (0..30).map(|n| json!({"id": n.to_string(), "caption": "é".repeat(9000)})).collect();
        let profile = found(&json!({
            "id": "1", "username": "nike", "fullName": "é".repeat(9000), "biography": "é".repeat(9000), "latestPosts": many,
            "externalUrl": format!("https://{}", "a".repeat(9000))
        }));
        assert_eq!((profile.posts.len(), profile.posts[0].caption.chars().count()), (MAX_POSTS, MAX_CAPTION));
        assert_eq!((profile.bio.chars().count(), profile.display_name.chars().count(), profile.external_url), (MAX_BIO, MAX_NAME, None));
    }

    #[test]
    fn every_handle_gets_its_item_in_any_order() {
        let items = json!([
            {"username": "gone", "url": "https://www.instagram.com/gone", "error": "not_found", "errorDescription": "Page not found"},
            {"url": "https://www.instagram.com/hidden", "error": "no_items"},
            {"id": "5", "username": "locked", "private": true, "latestPosts": []},
            {"id": "4", "username": "shy", "fullName": "", "profilePicUrl": null},
            {"id": "3", "username": "new_name", "inputUrl": "https://www.instagram.com/Old_Name/", "fullName": "Renamed"},
            {"id": "2", "username": "Nike", "fullName": "Nike"}
        ]);
        let outcomes = scrape(&items, &["nike", "old_name", "shy", "locked", "hidden", "gone", "never_mentioned"]);
        assert!(
            matches!(&outcomes[..], [Found(nike), Found(renamed), Blocked, Private(locked), Blocked, NotFound, Blocked]
                if nike.display_name == "Nike" && renamed.username.as_str() == "old_name" && locked.is_private),
            "{outcomes:?}"
        );
        assert_eq!(scrape(&json!([]), &["nike"]), [Blocked]);
    }

    #[test]
    fn a_dataset_that_is_not_a_list_is_an_error() {
        let requested = ["nike".parse().unwrap()];
        for body in ["", "{}", "[{\"id\":", "<html>"] {
            assert!(outcomes(body.as_bytes(), &requested).is_err(), "{body}");
        }
        assert!(outcomes(b"[1, null, [], \"x\"]", &requested).is_ok());
    }
}
