use super::*;

fn names_of(lead: &str, business: &Value) -> Names {
    let mut names = Names { lead: lead.to_owned(), ..Names::default() };
    names.add(business);
    names
}

fn names() -> Names {
    names_of(
        "yoga.studio.me",
        &json!({"business_name": "Bookable.com", "website": "https://www.bookable.example/start", "offering": "Courses in Vue.js", "icp_min_followers": 283_123_457}),
    )
}

#[test]
fn links_addresses_numbers_and_foreign_handles_are_found() {
    for text in [
        "See https://evil.example/x",
        "see HTTP://EVIL",
        "go to www.evil.example",
        "(evil.com)",
        "our page: bit.ly/abc.",
        "evil.co?x=1",
        "evil.to/login",
        "log in at evil.us:8080/x",
        "evil.museum#top",
        "evil.ai",
        "evil.us",
        "evil\u{3002}com",
        "ev\u{ad}il.com",
        "evil.co\u{ad}m",
        "evil.travel",
        "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}",
        "evil.xn--p1ai",
        "user.github.io",
        "192.168.1.7/x",
        "write to me@evil.example",
        "mailto:me",
        "tel:5551234",
        "skype:evil?chat",
        "http:evil",
        "data:text/html,hi",
        "ask @another_one about it",
        "@yoga.studio.me2",
        "@yoga.studio.me@evil",
        "@yoga.studio.me/evil",
        "mail@yoga.studio.me",
        "https://yoga.studio.me",
        "@7up rocks, @360up",
        "\u{ff20}evil",
        "\u{ff45}\u{ff56}\u{ff49}\u{ff4c}\u{ff0e}\u{ff43}\u{ff4f}\u{ff4d}",
        "evil.bookable.com",
        "bookable.com.evil.com",
        "@bookable.com",
        "see bookable.com@evil.com",
    ] {
        assert!(names().find(text).is_some(), "{text}");
    }
}

#[test]
fn a_link_is_found_whatever_stands_around_it() {
    for text in [
        "evil.com\u{2014}today",
        "evil.com\u{2013}book",
        "evil.com-today",
        "evil.com...thanks",
        "evil.com\u{2026}more",
        "evil.com.Thanks for",
        "evil.com!Great",
        "evil.com&x=1",
        "evil.com\u{2192}now",
        "evil.com\\x",
        "evil.com\u{2019}s page",
        "evil.com\u{2122}",
        "_evil.com_",
        "**evil.com**",
        "\u{2022}evil.com",
        "\u{2192}evil.com",
        "\u{1f449}evil.com",
        "=evil.com",
        "//evil.com/x",
        "site/evil.com",
        "bookable.com/r?u=evil.com",
        "here:evil.com",
        "http:evil.com",
        "https:/evil.com",
        "@yoga.studio.me:evil.com",
        "class @18:30:evil.com",
        "evil.it is",
        "visit evil.so now",
        "\u{8bf7}\u{770b}evil.com\u{8c22}\u{8c22}",
        "\u{8bf7}\u{770b}\u{4f8b}\u{3048}.com\u{8c22}\u{8c22}",
        "\u{0e14}\u{0e39}evil.com\u{0e04}\u{0e23}\u{0e31}\u{0e1a}",
        "evil.com\u{c5d0}\u{c11c}",
        "evil\u{4f8b}.com",
        "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}.com",
        "\u{435}vil.com",
        "fun.it/x",
    ] {
        assert_eq!(names().find(text), Some(Finding::Link), "{text}");
    }
}

#[test]
fn on_a_site_that_many_share_only_the_own_page_is_allowed() {
    let business = |website: &str| names_of("lead_1", &json!({ "website": website }));
    for (own, allowed, foreign) in [
        ("https://linktr.ee/Own", "linktr.ee/own, https://www.linktr.ee/own/?x=1", "linktr.ee/evil"),
        ("https://t.me/own", "t.me/own/12", "t.me/own2"),
        ("https://wa.me/4917612345678", "wa.me/4917612345678", "wa.me/4917612345679"),
        ("instagram.com/own.studio/", "https://www.instagram.com/own.studio", "https://www.instagram.com/evil"),
        ("https://www.facebook.com/profile.php?id=1", "facebook.com/profile.php?id=1", "facebook.com/profile.php?id=12"),
        ("https://youtube.com/@own", "youtube.com/@own/videos.", "youtube.com/@evil"),
        ("www.tiktok.com/@own", "tiktok.com/@own", "tiktok.com"),
        ("bit.ly/own", "\u{8bf7}\u{770b}bit.ly/own\u{8c22}\u{8c22}", "bit.ly/evil"),
        ("calendly.com/own", "calendly.com/own/15min", "calendly.com/evil/15min"),
        ("https://www.amazon.de/shops/own", "amazon.de/shops/own", "amazon.de/shops/evil"),
        ("own.github.io", "own.github.io/demo", "evil.github.io"),
        ("own.etsy.com", "own.etsy.com/listing/1234567890", "evil.etsy.com"),
        ("We are on Instagram.com", "instagram.com", "instagram.com/evil"),
        ("ana@gmail.com", "gmail", "evil@gmail.com"),
        ("https://own.example/de/start", "own.example/kurse/2026112712345", "own.example.evil.com"),
    ] {
        assert_eq!(business(own).find(allowed), None, "{own}: {allowed}");
        assert!(business(own).find(foreign).is_some(), "{own}: {foreign}");
    }
}

#[test]
fn telephone_numbers_are_found() {
    for text in [
        "Call +1 555 0100",
        "call (555) 123-4567",
        "800-555-0199",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "06-12-34-56-78",
        "06:12:34:56:78",
        "06,12,34,56,78",
        "030/1234567",
        "0176 - 1234567",
        "0176\u{b7}1234567",
        "0176 \u{2022} 1234567",
        "0176\u{2014}1234567",
        "0176_123_45678",
        "0176*1234567",
        "612 345 678",
        "+49 176 000 000",
        "+49-12-10-2026-12",
        "WhatsApp 9123 4567",
        "9123 4567 (WhatsApp)",
        "Ring 22 33 44 55",
        "Tel.: 5551234",
        "call 612345000",
        "Reachable at 5551234567",
        "orders: 9876543210",
        "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}\u{668}\u{669}",
    ] {
        assert_eq!(names().find(text), Some(Finding::Number), "{text}");
        assert!(names().masked(text).contains("(number removed)"), "{text}");
    }
}

#[test]
fn dates_times_and_counts_are_no_telephone_numbers() {
    for text in [
        "12,500 followers, 1.200.000 views, 1 000 000 000 people, 2019-2023, on 2026-11-03 and 03.11.2026 - 05.11.2026",
        "03.\u{2013}05.11.2026",
        "03./04.11.2026",
        "27.11.2026 18 Uhr",
        "2026-11-27 10:30",
        "2026-11-27 10:30:15",
        "2024/2025/2026",
        "Ana (2019) 1200 posts",
        "12/24/2026-12/31/2026",
        "24.12.26 - 06.01.27",
        "1.2.2026-3.2.2026",
        "10:30-11:30, 09.00-17.30 Uhr",
        "from 2019\u{2013}2026 - wow",
        "283000000 followers",
        "with 283123456 followers",
        "Followers: 283123456",
        "an audience of 283123457",
        "accounts of 1000-50000 followers",
        "our range of 1000-50000, 10.000-15.000 or 50000\u{2013}250000",
        "125.000.000 Aufrufe",
        "100.000.000",
        "+1.200.000 Follower",
        "call for 1,250,000 people",
        "612,345,678 plays",
        "3.141592653",
        "24/7/365, 16:9, 1080x1920, 3.5/5, CHF 12'500.-",
    ] {
        assert_eq!(names().find(text), None, "{text}");
        assert_eq!(names().masked(text), text);
    }
}

#[test]
fn ordinary_text_and_own_names_are_not_found() {
    for text in [
        "Hi @yoga.studio.me, your Sunday class looked calm.",
        "Hi @Yoga.Studio.Me! Lovely.",
        "Hi Yoga.Studio.Me\u{2728}, lovely.",
        "yoga.studio.me, may I ask something?",
        "Hi -@yoga.studio.me- and _@yoga.studio.me",
        "\u{4f60}\u{597d}@yoga.studio.me\u{ff01}",
        "@yoga.studio.me\u{3055}\u{3093}\u{3001}\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}\u{3002}\u{307f}\u{3093}\u{306a}",
        "\u{a1}Hola @yoga.studio.me! @yoga.studio.me's team, @yoga.studio.me\u{2014}great, @yoga.studio.me...",
        "Hi, I am Ana from Bookable.com. We help studios fill weekday classes.",
        "More at https://bookable.com/demo, www.bookable.com or bookable.example",
        "\u{8bf7}\u{770b}bookable.com\u{8c22}\u{8c22}",
        "your class @ 6pm, or @6pm, @18:30, @18h30, @6.30pm, @24hr, @ home",
        "Do you use ASP.NET or Node.js?",
        "I liked it.Especially the end... e.g. the stretch, i.e. number 3.5",
        "Node.js, 10:30 a.m., and/or tea, e.g./i.e., v1.5/2.0",
        "R.S.V.P. p.m. z.B. u.a. d.h. e.V. S.p.A. d.o.o. M.Sc. and Ph.D., J.Crew, the 9.am class",
        "your class was fun.it is great",
        "A list [1], [...], <3, 50%/50% and (thanks)",
        "What would you change?",
        "",
    ] {
        let tidied = names().tidied(text);
        assert_eq!(names().find(&tidied), None, "{tidied}");
        assert!(!names().masked(text).contains("removed"), "{}", names().masked(text));
    }
    let named = names_of("call_0176_1234567", &Value::Null);
    assert_eq!(named.find("Hi @call_0176_1234567, is call_0176_1234567 yours? @call_0176_1234567/team"), None);
}

#[test]
fn a_message_has_no_placeholder_and_a_bounded_length() {
    for text in ["Hi [First Name]", "Hi {{name}}", "[Your Name]", "Hi <name>,", "%first_name%", "Ana (your name)", "[see](this)"] {
        assert_eq!(names().find(text), Some(Finding::Placeholder), "{text}");
    }
    assert_eq!(names().find(&"\u{e9}".repeat(MAX_MESSAGE)), None);
    assert_eq!(names().find(&"\u{e9}".repeat(MAX_MESSAGE + 1)), Some(Finding::Length));
}

#[test]
fn a_missing_blank_emoji_and_hashtags_are_mended() {
    let tidied = |text: &str| names().tidied(text);
    for (text, expected) in [
        ("I like your style.Me too", "I like your style. Me too"),
        ("It was fun.it is calm", "It was fun. it is calm"),
        ("Hallo@yoga.studio.me, Ana@Yoga.studio.me", "Hallo @yoga.studio.me, Ana @Yoga.studio.me"),
        ("\u{4f60}\u{597d}@yoga.studio.me", "\u{4f60}\u{597d}@yoga.studio.me"),
        ("From St.Moritz/Davos", "From St. Moritz/Davos"),
        ("Great class \u{1f9d8}\u{200d}\u{2640}\u{fe0f} today\u{2728}! #yoga rocks, #1", "Great class today! yoga rocks, #1"),
        ("I am with Bookable.Com, M.Sc.", "I am with Bookable.Com, M.Sc."),
    ] {
        assert_eq!(tidied(text), expected);
        assert_eq!(names().find(expected), None, "{expected}");
    }
}

#[test]
fn in_a_report_findings_are_replaced() {
    for (text, expected) in [
        (
            "Sells at evil.com (ask @evil, +1 555 010 9999). Posts daily, @yoga.studio.me.",
            "Sells at (link removed) (ask (handle removed), (number removed)). Posts daily, @yoga.studio.me.",
        ),
        ("Links to https://evil.com/x?u=0176-1234567.", "Links to (link removed)."),
        ("Write to me+x@evil.com, please", "Write to (link removed), please"),
        ("\u{8bf7}\u{770b}\u{ff45}vil.com\u{8c22}\u{8c22}", "\u{8bf7}\u{770b}(link removed)\u{8c22}\u{8c22}"),
        ("[Coach] of 283000000, {x}", "[Coach] of 283000000, {x}"),
    ] {
        assert_eq!(names().masked(text), expected);
    }
}

#[test]
fn the_counts_of_the_profile_are_known_and_not_its_texts() {
    let profile: oslira_domain::Profile = serde_json::from_value(json!({
        "username": "yoga", "display_name": "Yoga", "bio": "{612345678}", "follower_count": 283_123_456, "following_count": 10, "post_count": 12,
        "external_url": null, "profile_pic_url": null, "is_verified": false, "is_private": false, "is_business_account": true,
        "business_category": null, "posts": []
    }))
    .unwrap();
    let (tier, call) = (oslira_domain::Tier::Light, oslira_domain::Call::Core);
    let question = Question::new(
        call,
        tier,
        oslira_domain::BusinessContext::default(),
        &profile,
        jiff::Timestamp::now(),
        String::new(),
        String::new(),
    );
    assert_eq!(Names::of(&question).masked("Has 283123456, or 612345678."), "Has 283123456, or (number removed).");
}
