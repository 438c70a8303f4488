use serde_json::json;

use super::posts::{MAX_CAPTION, MAX_POSTS};
use super::*;
use ScrapeOutcome::{Blocked, Found, NotFound, Private, Restricted, WithoutPosts};

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

/// Returns the outcomes of a dataset of which Apify sends the fields that the client names.
fn scrape(items: &Value, requested: &[&str]) -> Vec<ScrapeOutcome> {
    let mut items = items.clone();
    for item in items.as_array_mut().unwrap().iter_mut().filter_map(Value::as_object_mut) {
        item.retain(|name, _| FIELDS.split(',').any(|field| field == name));
    }
    let requested: Vec<Username> = requested.iter().map(|name| name.parse().unwrap()).collect();
    let found = outcomes(items.to_string().as_bytes(), &requested, now()).unwrap();
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
        "followsCount": "many", "businessCategoryName": "None", "profilePicUrl": "https://pic/1", "verified": "perhaps", "private": false, "latestPosts": "none"
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
        "externalUrl": format!("https://a.example/{}", "a".repeat(9000))
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
        {"id": "3", "username": "new_name", "inputUrl": "https://www.instagram.com/Old_Name/", "fullName": "Renamed", "followersCount": 1, "postsCount": 0},
        {"id": "7", "username": 2_468, "fullName": "Digits", "followersCount": 1, "postsCount": 0},
        {"id": "2", "username": "Nike", "fullName": "Nike", "followersCount": 1, "postsCount": 0}
    ]);
    let outcomes = scrape(&items, &["nike", "old_name", "shy", "locked", "hidden", "gone", "never_mentioned", "2468"]);
    assert!(
        matches!(&outcomes[..], [Found(nike), Found(renamed), Blocked, Private(locked), Blocked, NotFound, Blocked, Found(digits)]
            if nike.display_name == "Nike" && renamed.username.as_str() == "old_name" && locked.is_private && digits.display_name == "Digits"),
        "{outcomes:?}"
    );
    assert_eq!(scrape(&json!([]), &["nike"]), [Blocked]);
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

/// An item of a public profile with some fields replaced.
fn item(fields: Value) -> Value {
    let mut item = json!({"inputUrl": "https://www.instagram.com/nike", "username": "nike", "id": "1", "fullName": "Nike", "biography": "Just do it",
        "profilePicUrl": "https://pic/1", "followersCount": 5000, "followsCount": 10, "postsCount": 0, "private": false, "latestPosts": []});
    let (Some(known), Value::Object(fields)) = (item.as_object_mut(), fields) else { panic!("no object") };
    known.extend(fields);
    item
}

fn of(fields: Value) -> ScrapeOutcome {
    scrape(&json!([item(fields)]), &["nike"]).remove(0)
}

fn name_of(outcome: &ScrapeOutcome) -> &'static str {
    match outcome {
        Found(_) => "found",
        Private(_) => "private",
        WithoutPosts => "without posts",
        NotFound => "not found",
        Restricted => "restricted",
        Blocked => "blocked",
    }
}

#[test]
fn an_item_with_an_error_is_no_profile() {
    for (error, description, expected) in [
        (json!("not_found"), "Page not found", NotFound),
        (json!(" NOT_FOUND "), "", NotFound),
        (json!("Page Not Found"), "", NotFound),
        (json!("user_not_found"), "", NotFound),
        (json!("not_found"), "Page not found (unrestricted search)", NotFound),
        (json!("not_found"), "This page is not restricted", NotFound),
        (json!("not_found"), "Restricted profile", Restricted),
        (json!("age_restricted"), "", Restricted),
        (json!("restricted_page"), "Restricted access, only partial data available", Restricted),
        (json!("no_items"), "Empty or private data for provided input", Blocked),
        (json!("proxy_not_found"), "", Blocked),
        (json!({"code": 1}), "", Blocked),
        (json!(["timeout"]), "", Blocked),
        (json!(true), "", Blocked),
        (json!(404), "", Blocked),
    ] {
        assert_eq!(of(json!({"error": error, "errorDescription": description})), expected, "{error} {description}");
    }
}

#[test]
fn the_absence_of_an_error_is_no_error() {
    for error in
        [json!(null), json!(false), json!(0), json!([]), json!({}), json!(""), json!(" "), json!("None"), json!("null"), json!("No error")]
    {
        assert_eq!(name_of(&of(json!({"error": error, "errorDescription": ""}))), "found", "{error}");
    }
}

#[test]
fn a_profile_that_is_private_in_any_form_is_private() {
    for fields in [
        json!({"private": "true"}),
        json!({"private": 1}),
        json!({"private": "Yes"}),
        json!({"private": null, "isPrivate": true}),
        json!({"private": null, "is_private": 1}),
        json!({"private": false, "is_private": "TRUE"}),
        json!({"private": true, "error": "no_items", "errorDescription": "Empty or private data for provided input"}),
        json!({"private": true, "error": []}),
        json!({"private": true, "followersCount": 0, "followsCount": 0, "biography": "", "profilePicUrl": null, "fullName": ""}),
        json!({"private": null, "error": "private_profile"}),
        json!({"private": null, "error": "Private account"}),
    ] {
        let outcome = of(fields.clone());
        assert!(matches!(&outcome, Private(profile) if profile.is_private && profile.posts.is_empty()), "{fields}: {outcome:?}");
    }
    for private in [json!(false), json!("false"), json!(0), json!(null), json!("unknown"), json!({})] {
        assert_eq!(name_of(&of(json!({"private": private}))), "found", "{private}");
    }
}

#[test]
fn what_a_blocked_fetch_leaves_is_no_profile_and_an_empty_account_is_one() {
    let empty = json!({"followersCount": 0, "followsCount": 0, "postsCount": 0, "biography": "", "profilePicUrl": null, "verified": false});
    let with = |fields: Value| {
        let mut all = empty.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        name_of(&of(all))
    };
    for fields in [
        json!({}),
        json!({"followersCount": "0", "followsCount": null}),
        json!({"biography": " ", "externalUrl": "", "businessCategoryName": "None"}),
        json!({"fullName": "Instagram", "profilePicUrl": "https://static.cdninstagram.com/rsrc.php/v3/logo.png"}),
        json!({"fullName": "Instagram", "profilePicUrlHD": "HTTPS://Static.CDNInstagram.com/rsrc.php/logo.png"}),
        json!({"followersCount": -1, "followsCount": "many", "postsCount": null, "profilePicUrl": "https://pic/1"}),
    ] {
        assert_eq!(with(fields.clone()), "blocked", "{fields}");
    }
    for fields in [
        json!({"profilePicUrl": "https://scontent.cdninstagram.com/v/t51.2885-19/1_n.jpg"}),
        json!({"followsCount": 1}),
        json!({"followersCount": "1"}),
        json!({"biography": "New here"}),
        json!({"externalUrl": "nike.example"}),
        json!({"businessCategoryName": "None,Gym"}),
        json!({"latestPosts": [{"id": 1}]}),
        json!({"verified": true}),
    ] {
        assert_eq!(with(fields.clone()), "found", "{fields}");
    }
}

#[test]
fn of_several_items_the_one_that_knows_most_counts() {
    let post = json!({"id": "1", "likesCount": 9, "timestamp": "2026-11-20T10:00:00Z"});
    let rich = item(json!({"postsCount": 1, "latestPosts": [post]}));
    let poor = [
        item(json!({"followersCount": null, "postsCount": null})),
        item(json!({"followersCount": 0, "followsCount": 0, "biography": ""})),
        item(json!({"followersCount": null, "postsCount": 1, "latestPosts": [{"id": "1"}]})),
        item(json!({"postsCount": 1})),
        item(json!({"error": "no_items"})),
        item(json!({"error": "not_found"})),
    ];
    for poor in poor {
        for items in [json!([poor, rich]), json!([rich, poor])] {
            let outcome = scrape(&items, &["nike"]).remove(0);
            assert!(
                matches!(&outcome, Found(profile) if profile.follower_count == Some(5000) && profile.posts[0].like_count == Some(9)),
                "{items}: {outcome:?}"
            );
        }
    }
}

#[test]
fn an_item_that_says_private_is_refuted_only_by_posts_of_a_public_one() {
    let private = item(json!({"private": true}));
    for (other, expected) in [
        (json!({"postsCount": 1, "latestPosts": [{"id": "1"}]}), "found"),
        (json!({"private": null, "postsCount": 1, "latestPosts": [{"id": "1"}]}), "private"),
        (json!({"postsCount": 0}), "private"),
        (json!({"error": "not_found"}), "private"),
    ] {
        let other = item(other);
        for items in [json!([private, other]), json!([other, private])] {
            assert_eq!(name_of(&scrape(&items, &["nike"])[0]), expected, "{items}");
        }
    }
}

#[test]
fn nothing_that_reorders_or_hides_text_is_stored() {
    let Found(profile) = of(json!({
        "fullName": "Ni\u{202e}ke\u{200b} \u{2067}👩\u{200d}🍳 ❤\u{fe0f}", "biography": "a\u{202a}b\u{feff}", "businessCategoryName": "G\u{200f}ym",
        "externalUrl": "https://nike.example/\u{202e}gnp.exe", "profilePicUrl": "https://pic/\u{200e}1",
        "postsCount": 1, "latestPosts": [{"id": "1", "caption": "\u{2066}c"}]
    })) else {
        panic!("not found")
    };
    assert_eq!((profile.display_name.as_str(), profile.bio.as_str()), ("Nike 👩\u{200d}🍳 ❤\u{fe0f}", "ab"));
    assert_eq!((profile.business_category.as_deref(), profile.posts[0].caption.as_str()), (Some("Gym"), "c"));
    assert_eq!(
        (profile.external_url.as_deref(), profile.profile_pic_url.as_deref()),
        (Some("https://nike.example/gnp.exe"), Some("https://pic/1"))
    );
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
    for (fields, expected) in [
        (json!({"postsCount": 320}), "without posts"),
        (json!({"postsCount": "1.2K", "private": null}), "without posts"),
        (json!({"postsCount": 320, "latestPosts": [{"caption": "neither id nor code"}]}), "without posts"),
        // It may be private.
        (json!({"postsCount": null, "private": null}), "without posts"),
        (json!({"postsCount": null}), "found"),
        (json!({"postsCount": 0, "private": null}), "found"),
    ] {
        assert_eq!(name_of(&of(fields.clone())), expected, "{fields}");
    }
}

#[test]
fn a_post_counts_once_and_the_plays_of_a_reel_are_its_views() {
    let reel = json!({"id": "1", "type": "Video", "productType": "clips", "videoViewCount": 0, "videoPlayCount": 90_000, "isPinned": true});
    let profile =
        found(&json!({"id": "1", "username": "nike", "fullName": "Nike", "postsCount": 2, "latestPosts": [reel, {"id": "2"}, reel]}));
    let posts: Vec<_> = profile.posts.iter().map(|post| (post.id.as_str(), post.view_count, post.is_pinned)).collect();
    assert_eq!(posts, [("1", Some(90_000), true), ("2", None, false)]);
}

#[test]
fn a_category_that_is_not_chosen_is_none() {
    let with = |category: &str| found(&item(json!({"businessCategoryName": category})));
    for (category, expected) in [
        ("None", None),
        ("none", None),
        (" NONE ", None),
        ("null", None),
        ("", None),
        (",", None),
        ("None,none", None),
        ("none, Gym", Some("Gym")),
        ("None,Entrepreneur", Some("Entrepreneur")),
        ("Gym, Spa", Some("Gym, Spa")),
        ("Nonexistent", Some("Nonexistent")),
    ] {
        let profile = with(category);
        assert_eq!((profile.business_category.as_deref(), profile.is_business_account), (expected, expected.is_some()), "{category}");
    }
}

#[test]
fn a_dataset_that_is_not_a_list_is_an_error() {
    let requested = ["nike".parse().unwrap()];
    for body in ["", "{}", "[{\"id\":", "<html>"] {
        assert!(outcomes(body.as_bytes(), &requested, now()).is_err(), "{body}");
    }
    assert!(outcomes(b"[1, null, [], \"x\"]", &requested, now()).is_ok());
}
