//! Dataset items as `apify/instagram-profile-scraper` writes them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::captions::{bio, caption};
use super::niches::PLACES;
use super::person::{Person, Special};
use crate::seed::{Choices, hash};

/// A dataset item and how it is billed.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) item: Value,
    pub(crate) is_error: bool,
}

/// Returns the items of a handle: one, or that of a failed attempt and that of the next one.
pub(crate) fn items(person: &Person, now: Timestamp) -> Vec<Listing> {
    let attempt = (person.special == Special::Retried).then(|| Listing { item: no_items(&person.handle), is_error: true });
    attempt.into_iter().chain([item(person, now)]).collect()
}

fn item(person: &Person, now: Timestamp) -> Listing {
    match person.special {
        Special::Missing => Listing { item: not_found(&person.handle), is_error: true },
        Special::Restricted => Listing { item: restricted(person), is_error: true },
        Special::Blocked => Listing { item: blocked(&person.handle), is_error: false },
        _ => Listing { item: profile(person, now), is_error: false },
    }
}

/// Returns the item of a handle that does not exist.
fn not_found(handle: &str) -> Value {
    json!({"username": handle, "url": page(handle), "error": "not_found", "errorDescription": "Page not found"})
}

/// Returns the item that a blocked scraper writes: an id without any details.
pub(crate) fn blocked(handle: &str) -> Value {
    json!({"inputUrl": page(handle), "id": numeric_id(handle, 10), "username": handle, "url": page(handle), "private": false,
        "verified": false, "latestPosts": [], "latestIgtvVideos": [], "relatedProfiles": []})
}

/// Returns the item of an attempt that saw nothing.
fn no_items(handle: &str) -> Value {
    json!({"username": handle, "inputUrl": page(handle), "error": "no_items", "errorDescription": "Empty or private data for provided input"})
}

/// Returns the item of a handle that Instagram shows only to users of some age or in some countries: without data, or with a part of them.
fn restricted(person: &Person) -> Value {
    let handle = person.handle.as_str();
    if handle.contains("partial") {
        json!({"inputUrl": page(handle), "username": handle, "id": numeric_id(handle, 10), "fullName": person.name,
            "profilePicUrl": picture(handle, 150), "error": "restricted_page", "errorDescription": "Restricted access, only partial data available"})
    } else {
        json!({"username": handle, "inputUrl": page(handle), "error": "not_found", "errorDescription": "Restricted profile"})
    }
}

fn page(handle: &str) -> String {
    format!("https://www.instagram.com/{handle}")
}

fn numeric_id(text: &str, digits: u32) -> String {
    let span = 9 * 10_u64.pow(digits - 1);
    (10_u64.pow(digits - 1) + hash(text.as_bytes()) % span).to_string()
}

fn picture(text: &str, size: u16) -> String {
    let id = hash(text.as_bytes());
    format!(
        "https://scontent.cdninstagram.example/v/t51.2885-19/{id}_n.jpg?stp=dst-jpg_s{size}x{size}&_nc_cat=1&oh=00_{id:016x}&oe=6A9F1C2E"
    )
}

/// Returns a count, as text in some items, as the scraper does.
fn count(number: i64, as_text: bool) -> Value {
    if as_text { number.to_string().into() } else { number.into() }
}

fn profile(person: &Person, now: Timestamp) -> Value {
    let mut draw = person.choices("item");
    let handle = person.handle.as_str();
    let as_text = person.special == Special::Huge;
    let private = person.special == Special::Private;
    let mut posts =
        if private || matches!(person.special, Special::Empty | Special::Postless) { Vec::new() } else { latest_posts(person, now) };
    if person.special == Special::Pinned {
        pin(&mut posts);
    }
    let link = draw.chance(70).then(|| format!("https://{}.example/{}", handle.replace(['_', '.'], "-"), person.niche.link));
    let category: Value = match (person.business, draw.index(4)) {
        (true, _) => person.niche.category.into(),
        (false, 0) => "None".into(),
        (false, 1) => "None,Entrepreneur".into(),
        (false, _) => Value::Null,
    };
    json!({
        "inputUrl": page(handle), "id": numeric_id(handle, 10), "username": handle, "url": page(handle), "fullName": person.name,
        "biography": bio(person), "externalUrl": link,
        "externalUrlShimmed": link.as_ref().map(|link| format!("https://l.instagram.example/?u={link}")),
        "externalUrls": link.iter().map(|link| json!({"title": "", "lynx_url": link, "url": link, "link_type": "external"})).collect::<Vec<_>>(),
        "followersCount": if person.special == Special::Uncounted { Value::Null } else { count(person.followers, as_text) }, "followsCount": count(person.follows, as_text),
        "postsCount": count(person.posts, as_text), "hasChannel": false, "highlightReelCount": draw.between(0, 14),
        "isBusinessAccount": person.business, "joinedRecently": false, "businessCategoryName": category, "private": private,
        "verified": person.verified, "profilePicUrl": picture(handle, 150), "profilePicUrlHD": picture(handle, 320),
        "facebookPage": null, "igtvVideoCount": draw.between(0, 9), "relatedProfiles": related(person), "latestIgtvVideos": [],
        "latestPosts": posts, "fbid": numeric_id(&format!("fb {handle}"), 17)
    })
}

/// Puts a pinned post of three years ago first and lists another one twice.
fn pin(posts: &mut Vec<Value>) {
    let Some(mut pinned) = posts.pop() else { return };
    pinned["isPinned"] = true.into();
    pinned["timestamp"] = "2023-11-22T10:00:00.000Z".into();
    posts.truncate(10);
    posts.insert(0, pinned);
    posts.push(posts[1].clone());
}

fn related(person: &Person) -> Vec<Value> {
    let mut draw = person.choices("related");
    let count = draw.index(4);
    draw.sample(person.niche.hashtags, count)
        .into_iter()
        .map(|tag| {
            let username = format!("{tag}.daily");
            json!({"id": numeric_id(&username, 10), "username": username, "full_name": format!("Daily {tag}"), "is_private": false,
                "is_verified": false, "profile_pic_url": picture(&username, 150)})
        })
        .collect()
}

/// Returns twelve posts of the last ninety days, the newest first. They are the same for a whole day.
fn latest_posts(person: &Person, now: Timestamp) -> Vec<Value> {
    let midnight = now.to_zoned(TimeZone::UTC).start_of_day().map_or(now, |day| day.timestamp());
    let mut draw = person.choices("posts");
    let per_day = draw.between(1, 6);
    let mut age_minutes = 0;
    (0..12)
        .map(|index| {
            age_minutes += draw.between(120, 2 * 24 * 60 * per_day / 2);
            // Twelve steps of at most six days stay within ninety days.
            let at = midnight.checked_sub(SignedDuration::from_mins(age_minutes)).unwrap_or(midnight);
            post(person, index, at, &mut draw.aspect(&format!("post {index}")))
        })
        .collect()
}

fn post(person: &Person, index: usize, at: Timestamp, draw: &mut Choices) -> Value {
    let handle = person.handle.as_str();
    let id = numeric_id(&format!("{handle} {index}"), 19);
    let short_code = short_code(&id);
    let kind = ["Image", "Video", "Sidecar"][draw.index(3)];
    let (text, hashtags) = caption(person, draw);
    let average = person.followers * person.likes_per_mille / 1_000;
    let likes = average * draw.between(45, 190) / 100;
    let comments = likes * draw.between(8, 60) / 1_000;
    let place = draw.chance(35).then(|| draw.pick(PLACES));
    let mut post = json!({
        "id": id, "type": kind, "shortCode": short_code, "caption": text, "hashtags": hashtags, "mentions": [],
        "url": format!("https://www.instagram.com/p/{short_code}/"), "commentsCount": comments, "firstComment": "", "latestComments": [],
        "dimensionsHeight": 1350, "dimensionsWidth": 1080, "displayUrl": picture(&id, 1080), "images": [],
        "alt": format!("Photo by {} on {}.", person.name, at.strftime("%B %d, %Y")),
        "likesCount": if person.special == Special::HiddenLikes { -1 } else { likes },
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(), "childPosts": [], "ownerUsername": handle,
        "ownerFullName": person.name, "ownerId": numeric_id(handle, 10), "isCommentsDisabled": false
    });
    match kind {
        "Video" => {
            let views = likes * draw.between(4, 22);
            post["videoUrl"] = picture(&format!("{id} video"), 720).replace(".jpg", ".mp4").into();
            // A reel's plays are the number that Instagram displays. Its views may be 0.
            post["videoViewCount"] = 0.into();
            post["videoPlayCount"] = views.into();
            post["productType"] = "clips".into();
        }
        "Sidecar" => {
            let slides = draw.between(2, 5);
            post["images"] = (0..slides).map(|slide| picture(&format!("{id} {slide}"), 1080)).collect();
            post["childPosts"] = (0..slides)
                .map(|slide| json!({"id": numeric_id(&format!("{id} {slide}"), 19), "type": "Image", "displayUrl": picture(&format!("{id} {slide}"), 1080)}))
                .collect();
        }
        _ => {}
    }
    if let Some(place) = place {
        post["locationName"] = place.into();
        post["locationId"] = numeric_id(place, 9).into();
    }
    if index == 0 && draw.chance(20) {
        post["isPinned"] = true.into();
    }
    post
}

fn short_code(id: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut rest = hash(id.as_bytes());
    let tail = (0..9).map(|_| {
        let letter = LETTERS[(rest % 64) as usize];
        rest /= 64;
        char::from(letter)
    });
    "DQ".chars().chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T15:00:00Z".parse().unwrap()
    }

    fn of(handle: &str) -> Value {
        item(&Person::of(handle), now()).item
    }

    #[test]
    fn a_profile_is_the_same_all_day_and_its_posts_are_recent_and_in_order() {
        let profile = of("maya_moves");
        assert_eq!(profile, item(&Person::of("maya_moves"), "2026-11-22T23:59:59Z".parse().unwrap()).item);
        let posts = profile["latestPosts"].as_array().unwrap();
        let times: Vec<Timestamp> = posts.iter().map(|post| post["timestamp"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(times.len(), 12);
        assert!(times.is_sorted_by(|newer, older| newer > older));
        assert!(times.iter().all(|at| now().duration_since(*at) < SignedDuration::from_hours(90 * 24)));
    }

    #[test]
    fn special_handles_have_special_items() {
        let private = of("private.person");
        assert_eq!((&private["private"], private["latestPosts"].as_array().unwrap().len()), (&json!(true), 0));
        assert_eq!(
            of("missing_1"),
            json!({"username": "missing_1", "url": "https://www.instagram.com/missing_1", "error": "not_found",
            "errorDescription": "Page not found"})
        );
        let blocked = of("blocked_1");
        assert!(blocked.get("fullName").is_none() && blocked.get("profilePicUrl").is_none() && blocked["id"].is_string());
        let followers: i64 = of("huge")["followersCount"].as_str().unwrap().parse().unwrap();
        assert!(followers >= 640_000_000);
        assert_eq!(of("empty")["latestPosts"], json!([]));
        assert!(of("hiddenlikes")["latestPosts"].as_array().unwrap().iter().all(|post| post["likesCount"] == -1));
        assert_eq!(of("zero.hero")["followersCount"], 0);
        assert!(of("emoji")["latestPosts"][0]["caption"].as_str().unwrap().len() >= 10_240);
        assert!(of("hostile")["biography"].as_str().unwrap().contains("</profile>"));
        assert!(of("rtl")["latestPosts"].to_string().contains(['\u{202b}', '\u{2067}', '\u{202e}', '\u{2066}']));
    }

    #[test]
    fn captions_vary() {
        let captions: std::collections::HashSet<String> = (0..20)
            .flat_map(|n| of(&format!("creator_{n}"))["latestPosts"].as_array().unwrap().clone())
            .map(|post| post["caption"].to_string())
            .collect();
        assert!(captions.len() > 200, "{}", captions.len());
    }
}
