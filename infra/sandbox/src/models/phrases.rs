//! Texts of answers, chosen by the name of the property.

use crate::profiles::Person;
use crate::seed::Choices;

/// The placeholders: {name} for the first name, {handle}, {niche}, {audience}, {subject}, {followers}.
fn filled(template: &str, person: &Person, draw: &mut Choices) -> String {
    if !template.contains('{') {
        return template.to_owned();
    }
    template
        .replace("{name}", person.first_name())
        .replace("{handle}", &person.handle)
        .replace("{niche}", person.niche.name)
        .replace("{audience}", person.niche.audience)
        .replace("{subject}", draw.pick(person.niche.subjects))
        .replace("{followers}", &rounded(person.followers))
}

fn rounded(count: i64) -> String {
    match count {
        ..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}K", (count + 500) / 1_000),
        _ => format!("{}M", (count + 500_000) / 1_000_000),
    }
}

/// Parts of a property's name, and the texts for it. The first match applies.
const BANKS: &[(&[&str], &[&str])] = &[
    (
        &["strength", "selling_point"],
        &[
            "Speaks to {audience}, with little overlap to other creators",
            "Answers nearly every comment within a day",
            "Posts about {subject} draw two to three times the usual saves",
            "Clear positioning in {niche}, visible from the first line of the bio",
            "Steady rhythm of several posts a week over the last three months",
            "Captions teach something instead of only showing it",
            "Has sold own products before, so buying decisions come naturally",
        ],
    ),
    (
        &["red_flag", "risk", "weakness", "concern", "objection"],
        &[
            "Engagement swings strongly between posts",
            "Several sponsored posts in a row during October",
            "No link to an offer, which makes intent hard to judge",
            "Comments are mostly emojis from other creators",
            "May feel that the offer is too early for the current size",
            "Likely to ask for proof from someone else in {niche}",
        ],
    ),
    (
        &["improvement", "gap", "recommended_action", "next_step"],
        &[
            "Use a single call to action instead of three",
            "Turn the series on {subject} into a lead magnet",
            "Pin a post that says who this is for",
            "Show customers' results, not only the process",
            "Add captions to reels, most of which rely on sound",
        ],
    ),
    (
        &["opportunit", "partnership", "collab"],
        &[
            "Co-hosted live session on {subject}",
            "Affiliate offer for {audience}",
            "Guest post swap with another account in {niche}",
            "Case study after a ninety-day pilot",
            "Bundle with the existing guide in the bio",
        ],
    ),
    (
        &["angle"],
        &[
            "Refer to the recent post on {subject} and add one concrete idea",
            "Lead with the hours saved each week, not with features",
            "Offer to do the first step for free",
            "Compare with how others in {niche} grew past {followers} followers",
        ],
    ),
    (
        &["hook", "trigger"],
        &[
            "Being seen as the honest voice in {niche}",
            "Fear of spending another year on unpaid content",
            "Pride in the community of {followers} people",
            "A shortcut that does not look like one",
        ],
    ),
    (
        &["driver", "motivation", "desire", "dream", "goal"],
        &[
            "Independence from platforms and single clients",
            "Recognition as an expert in {niche}",
            "More time away from the screen",
            "Helping {audience} with something that lasts",
            "A predictable income from own products",
        ],
    ),
    (
        &["pain", "challenge", "frustration", "problem"],
        &[
            "Much reach, little of it turns into revenue",
            "Content takes two working days a week",
            "Answers the same questions about {subject} again and again",
            "Unsure what to charge",
        ],
    ),
    (
        &["proof", "evidence"],
        &[
            "Numbers from a comparable account in {niche}",
            "A short video of a customer",
            "Before and after of one week's workload",
            "A trial without a card",
        ],
    ),
    (
        &["behavior", "behaviour", "pattern", "habit"],
        &[
            "Posts in the early morning, replies in the evening",
            "Tells stories first and draws the lesson last",
            "Returns to {subject} whenever reach drops",
            "Tries new formats early and drops them just as fast",
        ],
    ),
    (
        &["outreach_message", "message", "dm"],
        &[
            "Hi {name}, your post on {subject} made me rethink how we explain it to our own customers. We work with a few people in {niche} and \
         noticed one small thing that could save you hours every week. May I send you a two-minute example?",
            "Hey {name}! The way you write about {subject} is refreshingly honest. I have an idea for {audience} that fits what you already do, and \
         it costs you nothing to look at. Open to a short note about it?",
            "{name}, I have followed @{handle} for a while and the last series on {subject} was my favourite. We help creators in {niche} turn that kind of \
         attention into steady clients. Would it be all right if I shared how?",
        ],
    ),
    (
        &["strategy", "approach", "plan"],
        &[
            "Start with a specific compliment on {subject}, give one useful idea at once, and ask a question that can be answered with yes. Follow up once after \
         five days with a short example.",
            "Warm up with two real comments, then write a direct message that names {audience} and offers a pilot with a clear end. Avoid talk of scale.",
        ],
    ),
    (
        &["disc"],
        &[
            "Influence with a streak of conscientiousness",
            "Steadiness, quietly dominant in own field",
            "Conscientiousness, careful with promises",
        ],
    ),
    (
        &["demographic"],
        &["Early to mid thirties, self-employed, lives in a larger city and travels for work; followers are mostly {audience}."],
    ),
    (
        &["psychographic", "persona"],
        &[
            "Values craft and independence over status. Reads before buying, trusts recommendations of peers in {niche} and dislikes pressure.",
        ],
    ),
    (&["niche", "category", "industry"], &["{niche}"]),
    (
        &["interest", "theme", "topic", "pillar"],
        &["{subject}", "{niche} for beginners", "Behind the scenes of {subject}", "Life as a founder", "Questions from followers"],
    ),
    (&["audience"], &["Mostly {audience}; the comments show real questions and returning names."]),
    (
        &["tone", "style", "voice"],
        &["Warm and direct, with dry humour", "Calm, precise and personal", "Energetic, short sentences, many questions"],
    ),
    (
        &["reason", "rationale", "why", "explanation", "justification", "insight", "observation"],
        &[
            "The last twelve posts return to {subject}, which is where the offer helps most.",
            "An audience of {followers} in {niche} is large enough to matter and small enough to answer personally.",
            "The link in the bio leads to an own offer, which shows that selling is no taboo.",
            "Comments come from {audience} rather than from other creators.",
        ],
    ),
];

const SENTENCES: &[&str] = &[
    "@{handle} is a well-defined account in {niche} with {followers} followers, most of them {audience}.",
    "The latest posts circle around {subject}, and the captions show someone who explains patiently and sells rarely.",
    "Engagement is solid for this size, and the comments are questions rather than applause.",
    "The fit with the offer is plausible, because the same problems come up under nearly every post on {subject}.",
    "Posting is regular, which suggests that the account is run as a business and not as a hobby.",
    "What speaks against it is a thin link between content and offer, which leaves open how ready {name} is to buy.",
    "A personal, specific message has a good chance of being answered.",
    "Earlier partnerships were chosen with care, so generic outreach would be ignored.",
];

const OTHERS: &[&str] = &[
    "Focus on {subject}, told for {audience}.",
    "Grounded in {niche}, with a clear voice.",
    "Consistent with what the profile shows about {subject}.",
    "Best judged again after the next few posts.",
    "Typical of accounts with {followers} followers in {niche}.",
];

/// Returns this many sentences about a person.
pub(super) fn summary(person: &Person, draw: &mut Choices, count: usize) -> String {
    let (first, rest) = SENTENCES.split_first().unwrap_or((&"", &[]));
    let start = draw.index(2);
    let sentences = std::iter::once(first).chain(rest.iter().skip(start)).take(count.max(1));
    sentences.map(|sentence| filled(sentence, person, draw)).collect::<Vec<_>>().join(" ")
}

fn bank(name: &str) -> &'static [&'static str] {
    let name = name.to_ascii_lowercase();
    BANKS.iter().find(|(words, _)| words.iter().any(|word| name.contains(word))).map_or(OTHERS, |(_, texts)| *texts)
}

/// Returns a text for a property. `title` is the schema's, whose tier decides the length of a summary.
pub(super) fn text(name: &str, title: &str, person: &Person, draw: &mut Choices) -> String {
    if name.contains("summary") || name.contains("overview") || name.contains("assessment") {
        let count = if title.starts_with("xray") {
            6
        } else if title.starts_with("deep") {
            4
        } else {
            3
        };
        return summary(person, draw, count);
    }
    let template = draw.pick(bank(name));
    filled(template, person, draw)
}

/// Returns different texts for a list.
pub(super) fn list(name: &str, person: &Person, draw: &mut Choices, count: usize) -> Vec<String> {
    let texts = bank(name);
    let mut templates = draw.sample(texts, count);
    // A list longer than the property's texts is continued with texts that fit every person.
    templates.extend(OTHERS.iter().chain(SENTENCES).filter(|text| !texts.contains(text)).take(count.saturating_sub(templates.len())));
    templates.into_iter().map(|template| filled(template, person, draw)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_no_repeats_and_no_placeholder_remains() {
        let person = Person::of("berlin_coffee_lab");
        for name in
            ["key_strengths", "red_flags", "outreach_angles", "psychological_hooks", "motivation_drivers", "demographics", "whatever"]
        {
            let list = list(name, &person, &mut Choices::of(name), 5);
            assert_eq!(list.iter().collect::<std::collections::HashSet<_>>().len(), 5, "{name}");
            assert!(list.iter().all(|text| !text.contains(['{', '}'])), "{list:?}");
        }
        let message = text("outreach_message", "deep_outreach", &person, &mut Choices::of("x"));
        assert!(message.len() > 100 && message.len() <= 800 && !message.contains('{'), "{message}");
    }
}
