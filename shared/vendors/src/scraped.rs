//! Reads profiles from the items of the Actor's dataset.
//!
//! The Actor guarantees neither an order of items nor an item for each handle. Its counts are numbers or texts, its category may be the text
//! "None", and a hidden number of likes is -1. An invalid field is left out rather than failing the item.

use std::collections::HashSet;

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
    let of = |username: &Username| {
        let found = items.iter().filter_map(|item| {
            let key =
                ["username", "inputUrl", "url"].iter().position(|key| item[key].as_str().is_some_and(|text| names(text, username)))?;
            let outcome = outcome(item, username);
            Some((rank(&outcome), key, outcome))
        });
        // The first of the best: an attempt that failed may have left an item before the one that succeeded.
        found.min_by_key(|(rank, key, _)| (*rank, *key)).map_or(ScrapeOutcome::Blocked, |(.., outcome)| outcome)
    };
    Ok(requested.iter().map(|username| ScrapedItem { username: username.clone(), outcome: of(username) }).collect())
}

/// Orders the outcomes of several items of a handle: those that know most come first.
const fn rank(outcome: &ScrapeOutcome) -> u8 {
    match outcome {
        ScrapeOutcome::Found(_) => 0,
        ScrapeOutcome::Private(_) => 1,
        ScrapeOutcome::WithoutPosts => 2,
        ScrapeOutcome::Restricted => 3,
        ScrapeOutcome::NotFound => 4,
        ScrapeOutcome::Blocked => 5,
    }
}

/// Whether a text is the handle `username` or the URL of its profile.
fn names(text: &str, username: &Username) -> bool {
    text.parse::<Username>().is_ok_and(|named| named == *username)
}

fn outcome(item: &Value, username: &Username) -> ScrapeOutcome {
    // An item with an error is no profile, although it may have an id, a name and a picture.
    if !matches!(&item["error"], Value::Null | Value::Bool(false)) && item["error"] != "" {
        return failure(item);
    }
    let picture = url(item, "profilePicUrlHD").or_else(|| url(item, "profilePicUrl"));
    let name = text(item, "fullName", MAX_NAME);
    let is_private = flag(item, "private");
    if name.is_none() && picture.is_none() && !is_private {
        return ScrapeOutcome::Blocked;
    }
    let [followers, following, post_count] = ["followersCount", "followsCount", "postsCount"].map(|key| count(&item[key]));
    // A public profile always has counts. Without any, the Actor saw something else.
    if !is_private && [followers, following, post_count] == [None; 3] {
        return ScrapeOutcome::Blocked;
    }
    let posts = if is_private { Vec::new() } else { posts(&item["latestPosts"]) };
    if !is_private && posts.is_empty() && post_count.is_some_and(|count| count > 0) {
        return ScrapeOutcome::WithoutPosts;
    }
    let category = category(item);
    let profile = Profile {
        username: username.clone(),
        display_name: name.unwrap_or_else(|| username.to_string()),
        bio: text(item, "biography", MAX_BIO).unwrap_or_default(),
        follower_count: followers,
        following_count: following,
        post_count,
        external_url: url(item, "externalUrl"),
        profile_pic_url: picture,
        is_verified: flag(item, "verified"),
        is_private,
        // A creator may have a category, too.
        is_business_account: item["isBusinessAccount"].as_bool().unwrap_or(category.is_some()),
        business_category: category,
        posts,
    };
    if is_private { ScrapeOutcome::Private(profile) } else { ScrapeOutcome::Found(profile) }
}

/// Returns the outcome of an item with an error. Only `not_found` says that there is no such profile, and not if it is explained as a
/// restriction by age or country. `no_items` means empty or private.
fn failure(item: &Value) -> ScrapeOutcome {
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_ascii_lowercase();
    let error = text("error");
    if error.contains("restricted") || text("errorDescription").contains("restricted") {
        ScrapeOutcome::Restricted
    } else if error == "not_found" {
        ScrapeOutcome::NotFound
    } else {
        ScrapeOutcome::Blocked
    }
}

/// Returns the business category. Instagram's lists may begin with "None", which stands for a part that is not chosen.
fn category(item: &Value) -> Option<String> {
    let categories = text(item, "businessCategoryName", MAX_NAME)?;
    let chosen: Vec<&str> = categories.split(',').map(str::trim).filter(|category| !matches!(*category, "" | "None")).collect();
    (!chosen.is_empty()).then(|| chosen.join(", "))
}

/// Returns the latest posts, newest first, each once. Those without a date come last.
fn posts(list: &Value) -> Vec<Post> {
    let mut known = HashSet::new();
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut posts: Vec<Post> = items.iter().filter_map(post).filter(|post| known.insert(post.id.clone())).collect();
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
        // For reels, the views are often 0 and the plays are the number that Instagram displays.
        view_count: count(&item["videoPlayCount"]).max(count(&item["videoViewCount"])),
        posted_at: item["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok()),
        is_pinned: flag(item, "isPinned"),
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

/// Returns a count that is a whole number, or a text such as "1,204" or "1.2M". `None` if it is unknown or hidden (-1).
fn count(value: &Value) -> Option<i64> {
    let number = match value {
        Value::String(text) => written(text)?,
        other => other.as_i64().or_else(|| whole(other.as_f64()?))?,
    };
    (number >= 0).then_some(number)
}

/// Reads a number as people and pages write it: with thousands separators, or abbreviated.
fn written(text: &str) -> Option<i64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && *c != '_').collect::<String>().to_ascii_lowercase();
    let (digits, factor) = match text.strip_suffix(['k', 'm', 'b']) {
        Some(digits) if text.ends_with('k') => (digits, Some(1e3)),
        Some(digits) if text.ends_with('m') => (digits, Some(1e6)),
        Some(digits) => (digits, Some(1e9)),
        None => (text.as_str(), None),
    };
    let (integer, fraction) = digits.rsplit_once([',', '.']).unwrap_or((digits, ""));
    let integer = integer.replace([',', '.'], "");
    if integer.is_empty() || !integer.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // "12.345" is twelve thousand, "1.2M" has a fraction.
    if factor.is_none() && is_grouped(digits) {
        return format!("{integer}{fraction}").parse().ok();
    }
    let number = format!("{integer}.{fraction}0").parse::<f64>().ok()?;
    whole(factor.map_or(number, |factor: f64| (number * factor).round()))
}

/// Whether every separator of a number stands before three digits.
fn is_grouped(number: &str) -> bool {
    let mut groups = number.split([',', '.']);
    groups.next().is_some_and(|first| first.len() <= 3) && groups.clone().next().is_some() && groups.all(|group| group.len() == 3)
}

/// Returns a number without a fraction as an integer. Counts are far below 2^53, where every integer is exact.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as i64)
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
                {"id": "1", "type": "Image", "isPinned": true, "caption": "old", "likesCount": 5, "commentsCount": 2, "timestamp": "2026-11-01T10:00:00.000Z"},
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
                {"id": "2", "kind": "video", "caption": "", "like_count": null, "comment_count": 7, "view_count": 90, "posted_at": "2026-11-20T10:00:00Z", "is_pinned": false},
                {"id": "1", "kind": "photo", "caption": "old", "like_count": 5, "comment_count": 2, "view_count": null, "posted_at": "2026-11-01T10:00:00Z", "is_pinned": true},
                {"id": "C3", "kind": "carousel", "caption": "", "like_count": null, "comment_count": null, "view_count": null, "posted_at": null, "is_pinned": false}
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
        assert_eq!((profile.display_name.as_str(), profile.follower_count, profile.following_count), ("nike", Some(640_000_000), None));
        assert_eq!((profile.external_url, profile.business_category, profile.is_business_account), (None, None, false));
        assert!(profile.posts.is_empty() && !profile.is_verified);
    }

    #[test]
    fn sizes_are_capped() {
        let many: Vec<Value> = (0..30).map(|n| json!({"id": n.to_string(), "caption": "é".repeat(9000)})).collect();
        let profile = found(&json!({
            "id": "1", "username": "nike", "fullName": "é".repeat(9000), "biography": "é".repeat(9000), "latestPosts": many, "postsCount": 30,
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
            {"id": "3", "username": "new_name", "inputUrl": "https://www.instagram.com/Old_Name/", "fullName": "Renamed", "followersCount": 1},
            {"id": "2", "username": "Nike", "fullName": "Nike", "followersCount": 1}
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
    fn a_count_is_read_as_it_is_written_and_unknown_is_not_zero() {
        for (value, expected) in [
            (json!(0), Some(0)),
            (json!(1_200_000.0), Some(1_200_000)),
            (json!("12345"), Some(12_345)),
            (json!("12,345"), Some(12_345)),
            (json!("12.345"), Some(12_345)),
            (json!("1.234.567"), Some(1_234_567)),
            (json!("12\u{a0}345"), Some(12_345)),
            (json!("1,204.0"), Some(1204)),
            (json!("1.2M"), Some(1_200_000)),
            (json!("1,2 m"), Some(1_200_000)),
            (json!("1.125k"), Some(1125)),
            (json!("15K"), Some(15_000)),
            (json!("0.5b"), Some(500_000_000)),
            (json!("640000000"), Some(640_000_000)),
            (json!(null), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!(1.5), None),
            (json!("1.5"), None),
            (json!(1e300), None),
            (json!("many"), None),
            (json!(""), None),
            (json!("M"), None),
            (json!("1e5"), None),
            (json!("nan"), None),
            (json!("inf"), None),
            (json!([1]), None),
        ] {
            assert_eq!(count(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_public_item_without_any_count_is_no_profile() {
        let mut item = json!({"id": "1", "username": "nike", "fullName": "Jane Doe", "profilePicUrl": "https://pic/1", "private": false,
            "followersCount": null, "latestPosts": []});
        assert_eq!(scrape(&json!([item]), &["nike"]), [Blocked]);
        item["followsCount"] = json!(10);
        let profile = found(&item);
        assert_eq!((profile.follower_count, profile.following_count, profile.post_count), (None, Some(10), None));
    }

    #[test]
    fn an_item_with_an_error_is_no_profile() {
        let item = |error: Value, description: &str| {
            json!([{"inputUrl": "https://www.instagram.com/nike", "username": "nike", "id": "1", "fullName": "Some Name",
                "profilePicUrl": "https://pic/1", "followersCount": 5, "error": error, "errorDescription": description}])
        };
        for (error, description, expected) in [
            (json!("not_found"), "Page not found", NotFound),
            (json!("not_found"), "Restricted profile", ScrapeOutcome::Restricted),
            (json!("restricted_page"), "Restricted access, only partial data available", ScrapeOutcome::Restricted),
            (json!("no_items"), "Empty or private data for provided input", Blocked),
            (json!({"code": 1}), "", Blocked),
        ] {
            assert_eq!(scrape(&item(error, description), &["nike"]), [expected], "{description}");
        }
    }

    #[test]
    fn the_real_item_counts_wherever_it_stands() {
        let error = json!({"username": "nike", "error": "no_items", "errorDescription": "Empty or private data"});
        let real = json!({"id": "1", "username": "nike", "fullName": "Nike", "followersCount": 5000, "postsCount": 0, "latestPosts": []});
        for items in [json!([error, real]), json!([real, error])] {
            assert!(matches!(&scrape(&items, &["nike"])[..], [Found(profile)] if profile.follower_count == Some(5000)));
        }
    }

    #[test]
    fn a_profile_whose_posts_did_not_come_differs_from_one_without_posts() {
        let item = |count: Value| json!([{"id": "1", "username": "nike", "fullName": "Nike", "followersCount": 5, "postsCount": count, "latestPosts": []}]);
        assert_eq!(scrape(&item(json!(320)), &["nike"]), [ScrapeOutcome::WithoutPosts]);
        for count in [json!(0), json!(null)] {
            assert!(matches!(&scrape(&item(count), &["nike"])[..], [Found(_)]));
        }
    }

    #[test]
    fn a_post_counts_once_and_the_plays_of_a_reel_are_its_views() {
        let reel =
            json!({"id": "1", "type": "Video", "productType": "clips", "videoViewCount": 0, "videoPlayCount": 90_000, "isPinned": true});
        let profile =
            found(&json!({"id": "1", "username": "nike", "fullName": "Nike", "postsCount": 2, "latestPosts": [reel, {"id": "2"}, reel]}));
        let posts: Vec<_> = profile.posts.iter().map(|post| (post.id.as_str(), post.view_count, post.is_pinned)).collect();
        assert_eq!(posts, [("1", Some(90_000), true), ("2", None, false)]);
    }

    #[test]
    fn a_category_that_is_not_chosen_is_none() {
        let of = |category: &str| {
            found(&json!({"id": "1", "username": "nike", "fullName": "N", "postsCount": 0, "businessCategoryName": category}))
        };
        for (category, expected) in
            [("None", None), ("", None), ("None,None", None), ("None,Entrepreneur", Some("Entrepreneur")), ("Gym, Spa", Some("Gym, Spa"))]
        {
            let profile = of(category);
            assert_eq!((profile.business_category.as_deref(), profile.is_business_account), (expected, expected.is_some()), "{category}");
        }
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
