//! The invented person behind a handle.

use super::niches::{FIRST_NAMES, LAST_NAMES, NICHES, Niche};
use crate::seed::Choices;

/// A special kind of profile, which the start of a handle selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Ordinary,
    Private,
    Missing,
    Blocked,
    Huge,
    Empty,
    HiddenLikes,
    Hostile,
    Emoji,
    Rtl,
    Zero,
    /// Restricted by age or country: an error item, for some handles with partial data.
    Restricted,
    /// Has posts, of which the scraper brings none.
    Postless,
    /// Without the number of followers.
    Uncounted,
    /// With an old pinned post among daily ones, which is listed twice.
    Pinned,
    /// With an error item before the real one.
    Retried,
}

impl Special {
    pub(crate) fn of(handle: &str) -> Self {
        const PREFIXES: [(&str, Special); 15] = [
            ("private", Special::Private),
            ("missing", Special::Missing),
            ("blocked", Special::Blocked),
            ("huge", Special::Huge),
            ("empty", Special::Empty),
            ("hiddenlikes", Special::HiddenLikes),
            ("hostile", Special::Hostile),
            ("emoji", Special::Emoji),
            ("rtl", Special::Rtl),
            ("zero", Special::Zero),
            ("restricted", Special::Restricted),
            ("postless", Special::Postless),
            ("uncounted", Special::Uncounted),
            ("pinned", Special::Pinned),
            ("retried", Special::Retried),
        ];
        PREFIXES.iter().find(|(prefix, _)| handle.starts_with(prefix)).map_or(Self::Ordinary, |(_, special)| *special)
    }
}

/// The person behind a handle.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) handle: String,
    pub(crate) special: Special,
    pub(crate) niche: &'static Niche,
    pub(crate) name: String,
    pub(crate) followers: i64,
    pub(crate) follows: i64,
    pub(crate) posts: i64,
    pub(crate) business: bool,
    pub(crate) verified: bool,
    /// Likes per thousand followers.
    pub(crate) likes_per_mille: i64,
    choices: Choices,
}

impl Person {
    /// Creates the person of a handle. Case does not matter.
    pub(crate) fn of(handle: &str) -> Self {
        let handle = handle.trim().trim_start_matches('@').to_ascii_lowercase();
        let special = Special::of(&handle);
        let choices = Choices::of(&handle);
        let mut draw = choices.aspect("person");
        // A handle that names a niche, such as "coffee", gets that niche.
        let named = NICHES.iter().find(|niche| handle.contains(niche.link) || niche.hashtags.iter().any(|tag| handle.contains(tag)));
        let niche = named.or_else(|| NICHES.get(draw.index(NICHES.len()))).unwrap_or(&NICHES[0]);
        let (first, last) = (draw.pick(FIRST_NAMES), draw.pick(LAST_NAMES));
        let name = match draw.index(4) {
            0 => format!("{first} {last}"),
            1 => format!("{first} | {}", draw.pick(niche.roles)),
            2 => format!("{first} {last} · {}", capital(niche.name)),
            _ => format!("{first}, {}", draw.pick(niche.roles).to_lowercase()),
        };
        // Follower counts spread over magnitudes, as they do on Instagram.
        let magnitude = draw.between(0, 99);
        let followers = match magnitude {
            0..15 => draw.between(180, 2_000),
            15..55 => draw.between(2_000, 25_000),
            55..85 => draw.between(25_000, 180_000),
            85..97 => draw.between(180_000, 900_000),
            _ => draw.between(900_000, 6_000_000),
        };
        let likes_per_mille = if followers < 25_000 { draw.between(18, 75) } else { draw.between(5, 38) };
        let (followers, verified) = match special {
            Special::Huge => (640_000_000 + draw.between(0, 999_999), true),
            Special::Zero => (0, false),
            _ => (followers, followers > 300_000 || draw.chance(6)),
        };
        let posts = if special == Special::Empty { 0 } else { draw.between(24, 2_400) };
        let (follows, business) = (draw.between(60, 1_900), draw.chance(65));
        Self { handle, special, niche, name, followers, follows, posts, business, verified, likes_per_mille, choices }
    }

    /// Returns the choices of one aspect of this person.
    pub(crate) fn choices(&self, aspect: &str) -> Choices {
        self.choices.aspect(aspect)
    }

    /// Returns the first name.
    pub(crate) fn first_name(&self) -> &str {
        self.name.split([' ', ',', '|']).next().unwrap_or(&self.handle)
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_one_person_regardless_of_case() {
        let (one, other) = (Person::of("Nike.Run"), Person::of("@nike.run "));
        assert_eq!((one.name, one.followers, one.posts), (other.name, other.followers, other.posts));
        assert_eq!(Person::of("berlin_coffee_lab").niche.name, "specialty coffee");
    }

    #[test]
    fn many_handles_are_different_people() {
        let people: Vec<Person> = (0..200).map(|n| Person::of(&format!("creator_{n}"))).collect();
        let niches: std::collections::HashSet<_> = people.iter().map(|person| person.niche.name).collect();
        assert_eq!(niches.len(), NICHES.len());
        assert!(people.iter().any(|p| p.followers < 2_000) && people.iter().any(|p| p.followers > 200_000));
    }
}
