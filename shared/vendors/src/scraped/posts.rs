//! The latest posts of an item, under the names of the Actor and of Instagram's own interfaces, whose objects Actors pass on.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use oslira_domain::{Post, PostKind};
use serde_json::Value;

use super::counts::count;
use super::dates::date;
use super::fields::{field, flag, name};
use super::text;

pub(super) const MAX_POSTS: usize = 12;
/// Instagram's own limit.
pub(super) const MAX_CAPTION: usize = 2200;

/// Returns the latest posts, newest first, each once. Those without a date come last.
pub(super) fn posts(list: &Value, now: Timestamp) -> Vec<Post> {
    let mut posts: Vec<Post> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in list.as_array().into_iter().flatten() {
        let identities = identities(item);
        let Some(id) = identities.first() else { continue };
        let post = post(id.clone(), item, now);
        let place = identities.iter().find_map(|identity| places.get(identity)).copied().unwrap_or(posts.len());
        match posts.get_mut(place) {
            Some(known) => complete(known, post),
            None => posts.push(post),
        }
        places.extend(identities.into_iter().map(|identity| (identity, place)));
    }
    posts.sort_by_key(|post| Reverse(post.posted_at));
    posts.truncate(MAX_POSTS);
    posts
}

/// Adds to a post what another item knows of it.
fn complete(known: &mut Post, other: Post) {
    known.kind = known.kind.or(other.kind);
    known.like_count = known.like_count.or(other.like_count);
    known.comment_count = known.comment_count.or(other.comment_count);
    known.view_count = known.view_count.or(other.view_count);
    known.posted_at = known.posted_at.or(other.posted_at);
    known.is_pinned |= other.is_pinned;
    if known.caption.is_empty() {
        known.caption = other.caption;
    }
}

/// Returns what identifies a post: its id, its short code, and the id that the code stands for.
fn identities(item: &Value) -> Vec<String> {
    let id = name(field(item, &["id", "pk"])).map(|id| match id.split_once('_') {
        // Instagram's own interfaces append the owner's id.
        Some((post, owner)) if is_number(post) && is_number(owner) => post.to_owned(),
        _ => id,
    });
    let code = name(field(item, &["shortCode", "shortcode", "code"])).or_else(|| code_in(item["url"].as_str()?));
    let id_of_code = code.as_deref().and_then(decoded);
    [id, code, id_of_code].into_iter().flatten().collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the short code in the address of a post.
fn code_in(url: &str) -> Option<String> {
    let mut segments = url.split(['/', '?', '#']).skip_while(|segment| !matches!(*segment, "p" | "reel" | "reels" | "tv")).skip(1);
    segments.next().filter(|code| !code.is_empty() && code.len() <= 64).map(str::to_owned)
}

/// Returns the id that a short code stands for: its digits, in the base of 64. Codes of another length stand for more than the id.
fn decoded(code: &str) -> Option<String> {
    let digit = |byte: u8| {
        Some(u128::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        }))
    };
    let id = code.bytes().try_fold(0, |id: u128, byte| Some((id << 6) | digit(byte)?));
    id.filter(|_| matches!(code.len(), 10 | 11)).map(|id| id.to_string())
}

fn post(id: String, item: &Value, now: Timestamp) -> Post {
    let kind = kind(item);
    let like_count = count(field(item, &["likesCount", "like_count"]));
    let comment_count = count(field(item, &["commentsCount", "comment_count"]));
    let caption =
        if item["caption"].is_object() { text(&item["caption"], "text", MAX_CAPTION) } else { text(item, "caption", MAX_CAPTION) };
    Post {
        id,
        kind,
        caption: caption.unwrap_or_default(),
        like_count,
        comment_count,
        view_count: plays(item).filter(|plays| kind == Some(PostKind::Video) && is_possible(*plays, like_count, comment_count)),
        posted_at: date(field(item, &["timestamp", "taken_at", "takenAt", "taken_at_timestamp"]), now),
        is_pinned: flag(field(item, &["isPinned", "is_pinned"])).unwrap_or(false),
    }
}

/// Returns the plays of a video, which are the number that Instagram displays. For reels, the views are often 0.
fn plays(item: &Value) -> Option<i64> {
    let counts = ["videoPlayCount", "videoViewCount", "play_count", "video_view_count", "view_count"].map(|key| count(&item[key]));
    counts.into_iter().flatten().max()
}

/// Whether a video can have so many plays: who likes or comments has seen it. Fewer, mostly 0, are those that were not counted.
fn is_possible(plays: i64, likes: Option<i64>, comments: Option<i64>) -> bool {
    plays >= likes.unwrap_or(1).max(comments.unwrap_or(0).min(1))
}

/// Returns the kind of a post: as it is named, or as its parts show it. `None` if neither says.
fn kind(item: &Value) -> Option<PostKind> {
    let named = ["type", "__typename", "media_type", "mediaType", "productType", "product_type"].iter();
    named.filter_map(|key| name(&item[*key])).find_map(|name| named_kind(&name)).or_else(|| {
        let has = |key: &str| item[key].as_array().is_some_and(|parts| !parts.is_empty());
        if item["videoUrl"].is_string() || plays(item) > Some(0) {
            Some(PostKind::Video)
        } else if has("childPosts") || has("carousel_media") {
            Some(PostKind::Carousel)
        } else {
            None
        }
    })
}

/// Returns the kind with this name: the Actor's, the types of Instagram's interfaces (`GraphVideo`, `carousel_album`) or their numbers.
fn named_kind(name: &str) -> Option<PostKind> {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let letters = letters.trim_start_matches("xdt").trim_start_matches("graph");
    Some(match letters {
        "image" | "photo" | "picture" | "1" => PostKind::Photo,
        "video" | "reel" | "reels" | "clip" | "clips" | "igtv" | "2" => PostKind::Video,
        "sidecar" | "carousel" | "carouselalbum" | "carouselcontainer" | "album" | "8" => PostKind::Carousel,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(items: &Value) -> Vec<Post> {
        posts(items, "2026-11-27T12:00:00Z".parse().unwrap())
    }

    fn one(item: &Value) -> Post {
        let mut posts = read(&json!([item]));
        assert_eq!(posts.len(), 1, "{item}");
        posts.remove(0)
    }

    #[test]
    fn a_post_is_known_by_its_id_or_code_in_each_of_their_forms() {
        for (item, expected) in [
            (json!({"id": "3412345678901234567"}), "3412345678901234567"),
            (json!({"id": 3_412_345_678_901_234_567_u64}), "3412345678901234567"),
            (json!({"id": "3412345678901234567_13460080"}), "3412345678901234567"),
            (json!({"id": null, "pk": "1", "code": "Cx"}), "1"),
            (json!({"pk": 1}), "1"),
            (json!({"shortCode": "Cx"}), "Cx"),
            (json!({"id": "", "shortcode": "Cx"}), "Cx"),
            (json!({"url": "https://www.instagram.com/p/CxAbCdEfGhI/?img_index=1"}), "CxAbCdEfGhI"),
            (json!({"url": "https://www.instagram.com/nike/reel/CxAbCdEfGhI"}), "CxAbCdEfGhI"),
        ] {
            assert_eq!(one(&item).id, expected, "{item}");
        }
        for item in
            [json!({}), json!({"id": 1.5}), json!({"id": [1]}), json!({"url": "https://www.instagram.com/p/"}), json!({"url": 7}), json!(7)]
        {
            assert!(read(&json!([item])).is_empty(), "{item}");
        }
    }

    #[test]
    fn a_post_that_is_listed_twice_counts_once_with_all_that_is_known() {
        // The code is the id in the base of 64.
        let by_id = json!({"id": "3203468568005046840", "likesCount": null, "commentsCount": 4, "timestamp": "2026-11-20T10:00:00Z"});
        let by_code =
            json!({"shortCode": "Cx1AbCdEfI4", "type": "Video", "likesCount": 7, "commentsCount": 5, "caption": "c", "isPinned": true});
        assert_eq!(decoded("Cx1AbCdEfI4").as_deref(), by_id["id"].as_str());
        let both = json!({"id": 3_203_468_568_005_046_840_u64, "shortCode": "Cx1AbCdEfI4"});
        let by_url = json!({"url": "https://www.instagram.com/p/Cx1AbCdEfI4/"});
        let merged = read(&json!([by_id, both, by_code, by_url]));
        assert_eq!(merged.len(), 1, "{merged:?}");
        let post = &merged[0];
        assert_eq!((post.like_count, post.comment_count, post.kind), (Some(7), Some(4), Some(PostKind::Video)));
        assert_eq!((post.posted_at.is_some(), post.is_pinned, post.caption.as_str()), (true, true, "c"));
        for items in [json!([by_code, by_id]), json!([by_url, both]), json!([both, by_url]), json!([by_id, by_url])] {
            assert_eq!(read(&items).len(), 1, "{items}");
        }
        assert_eq!(read(&json!([by_id, {"id": "3203468568005046841"}, {"shortCode": "Cx1AbCdEfI5"}, {"shortCode": "x"}])).len(), 3);
    }

    #[test]
    fn the_kind_of_a_post_is_read_by_each_of_its_names() {
        use PostKind::{Carousel, Photo, Video};
        for (fields, expected) in [
            (json!({"type": "Image"}), Some(Photo)),
            (json!({"type": "GraphImage", "videoViewCount": 0}), Some(Photo)),
            (json!({"type": "photo"}), Some(Photo)),
            (json!({"media_type": 1}), Some(Photo)),
            (json!({"type": "Video"}), Some(Video)),
            (json!({"type": "video"}), Some(Video)),
            (json!({"type": "GraphVideo"}), Some(Video)),
            (json!({"__typename": "XDTGraphVideo"}), Some(Video)),
            (json!({"type": "Reel"}), Some(Video)),
            (json!({"productType": "clips"}), Some(Video)),
            (json!({"type": null, "product_type": "igtv"}), Some(Video)),
            (json!({"media_type": "2"}), Some(Video)),
            (json!({"type": "feed", "videoUrl": "https://v/1"}), Some(Video)),
            (json!({"videoPlayCount": 7}), Some(Video)),
            (json!({"type": "Sidecar"}), Some(Carousel)),
            (json!({"type": "GraphSidecar"}), Some(Carousel)),
            (json!({"type": "carousel_album"}), Some(Carousel)),
            (json!({"productType": "carousel_container", "media_type": 8}), Some(Carousel)),
            (json!({"childPosts": [{"id": "2"}]}), Some(Carousel)),
            (json!({"type": "Sidecar", "childPosts": [{"type": "Video"}]}), Some(Carousel)),
            (json!({"productType": "feed", "videoViewCount": 0, "childPosts": []}), None),
            (json!({"type": "Story"}), None),
            (json!({"media_type": 3}), None),
            (json!({}), None),
        ] {
            let mut item = json!({"id": "1"});
            item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(one(&item).kind, expected, "{item}");
        }
    }

    #[test]
    fn the_views_of_a_post_are_the_plays_of_a_video_that_can_have_so_many() {
        for (fields, expected) in [
            (json!({"videoViewCount": 0, "videoPlayCount": 90_000, "likesCount": 50}), Some(90_000)),
            (json!({"videoViewCount": 90, "likesCount": -1}), Some(90)),
            (json!({"play_count": "1.2K", "like_count": 50}), Some(1200)),
            (json!({"videoViewCount": 0, "likesCount": 0, "commentsCount": 0}), Some(0)),
            (json!({"videoViewCount": 0, "likesCount": 5000}), None),
            (json!({"videoViewCount": 3, "likesCount": 5000}), None),
            (json!({"videoViewCount": 0, "likesCount": 0, "commentsCount": 2}), None),
            (json!({"videoViewCount": 0, "likesCount": -1}), None),
            (json!({"videoViewCount": 0}), None),
            (json!({"likesCount": 50}), None),
            (json!({"type": "Image", "videoViewCount": 0, "likesCount": 0}), None),
            (json!({"type": "Sidecar", "videoViewCount": 9}), None),
        ] {
            let mut item = json!({"id": "1", "type": "Video"});
            item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(one(&item).view_count, expected, "{item}");
        }
    }

    #[test]
    fn a_post_as_instagrams_own_interface_has_it_is_read() {
        let item = json!({"pk": "1", "code": "Cx", "media_type": 2, "like_count": 9, "comment_count": 2, "play_count": 80, "taken_at": 1_795_168_800,
            "caption": {"text": "hi", "pk": "5"}, "is_pinned": "true"});
        let expected = json!({"id": "1", "kind": "video", "caption": "hi", "like_count": 9, "comment_count": 2, "view_count": 80,
            "posted_at": "2026-11-20T10:00:00Z", "is_pinned": true});
        assert_eq!(serde_json::to_value(one(&item)).unwrap(), expected);
    }

    #[test]
    fn undated_posts_come_last() {
        let items = json!([{"id": "1", "timestamp": "1970-01-01T00:00:00.000Z"}, {"id": "2", "timestamp": "2027-05-01T00:00:00Z"},
            {"id": "3", "timestamp": 1_795_168_800}, {"id": "4", "timestamp": "2026-11-21T10:00:00"}]);
        let ids: Vec<_> = read(&items).into_iter().map(|post| (post.id, post.posted_at.is_some())).collect();
        assert_eq!(ids, [("4", true), ("3", true), ("1", false), ("2", false)].map(|(id, dated)| (id.to_owned(), dated)));
    }
}
