//! The types of the answers. Their values are valid, and their doc comments are the descriptions in the schemas that models get.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::is_hidden;

/// An integer from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "u8")]
#[schemars(with = "i64", inline)]
pub struct Score(u8);

impl TryFrom<f64> for Score {
    type Error = &'static str;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0 to 100")]
    fn try_from(number: f64) -> Result<Self, Self::Error> {
        // A model may write 72 as 72.0, or 72.5 although whole numbers are requested. A number outside of the scale has another meaning.
        if (0.0..=100.0).contains(&number) { Ok(Self(number.round() as u8)) } else { Err("a number from 0 to 100") }
    }
}

impl From<Score> for u8 {
    fn from(score: Score) -> Self {
        score.0
    }
}

impl From<Score> for i16 {
    fn from(score: Score) -> Self {
        score.0.into()
    }
}

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64", inline)]
pub struct Confidence(f64);

impl TryFrom<f64> for Confidence {
    type Error = &'static str;
    fn try_from(number: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err("a number from 0 to 1") }
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

/// A text that is not empty.
// Characters that show nothing are removed: the database cannot store all of them, and they can hide text from a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct Text(String);

impl TryFrom<String> for Text {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let kept: String = text.chars().filter(|c| !is_hidden(*c)).collect();
        let kept = kept.trim();
        if kept.is_empty() { Err("a text") } else { Ok(Self(kept.to_owned())) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// The most entries of a list that are kept.
pub const MAX_ENTRIES: usize = 8;

/// A list of texts. Blank and repeated entries are left out: the rest of the answer is paid for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Vec<String>")]
#[schemars(with = "Vec<Text>", inline)]
pub struct Texts(Vec<Text>);

impl From<Vec<String>> for Texts {
    fn from(entries: Vec<String>) -> Self {
        let mut kept: Vec<Text> = Vec::new();
        for entry in entries.into_iter().filter_map(|entry| Text::try_from(entry).ok()) {
            if kept.len() < MAX_ENTRIES && !kept.contains(&entry) {
                kept.push(entry);
            }
        }
        Self(kept)
    }
}

/// An enum whose JSON values are its variants in snake case.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[schemars(inline)]
        #[expect(missing_docs, reason = "the words say it")]
        pub enum $name { $($variant),+ }
    };
}

words!(
    #[doc = "What to do with the lead."]
    RecommendedAction { Pursue, Maybe, Skip }
);

impl RecommendedAction {
    /// Returns the value in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pursue => "pursue",
            Self::Maybe => "maybe",
            Self::Skip => "skip",
        }
    }
}

words!(
    #[doc = "How soon."]
    UrgencyLevel { High, Medium, Low }
);
words!(
    #[doc = "How the owner writes."]
    CommunicationStyle { Direct, Diplomatic, Emotional, Analytical }
);
words!(
    #[doc = "How the owner decides."]
    DecisionMakingStyle { Analytical, Intuitive, Collaborative, Decisive }
);
words!(
    #[doc = "The prevailing trait in the DISC model."]
    DiscProfile { Dominance, Influence, Steadiness, Conscientiousness, Unknown }
);
words!(
    #[doc = "Who wrote the content."]
    ContentAuthenticity { AiGenerated, AiAssisted, HumanAuthentic, InsufficientData }
);
words!(
    #[doc = "How much the profile gives to go by."]
    DataConfidence { High, Medium, Low }
);
words!(
    #[doc = "What the lead can likely spend."]
    BudgetTier { Low, Medium, High, Enterprise, Unknown }
);
words!(
    #[doc = "The owner's part in a purchase."]
    DecisionRole { DecisionMaker, Influencer, EndUser, Unknown }
);
words!(
    #[doc = "How near to buying the lead is."]
    BuyingStage { Unaware, ProblemAware, SolutionAware, ProductAware, PurchaseReady, Unknown }
);

/// An answer: a struct whose strict schema is sent to the model, and which accepts no other field.
macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),+ }
    };
}

answer!(
    /// LIGHT's only call.
    LightCore {
        /// How good a lead it is in all, 0 to 100.
        overall_score: Score,
        /// How well it fits the business's niche, 0 to 100.
        niche_fit_score: Score,
        /// How engaged its audience is, 0 to 100.
        engagement_score: Score,
        /// How sure this judgement is, 0 to 1.
        confidence_level: Confidence,
        /// Two to three sentences on the lead and its fit.
        summary_text: Text,
        /// Two to four strengths of the lead, one short sentence each.
        key_strengths: Texts,
        /// Reasons for caution, one short sentence each; empty if there are none.
        red_flags: Texts,
        /// What to do with the lead.
        recommended_action: RecommendedAction,
    }
);

answer!(
    /// DEEP's judgement.
    DeepCore {
        /// How good a lead it is in all, 0 to 100.
        overall_score: Score,
        /// How well it fits the business's niche, 0 to 100.
        niche_fit_score: Score,
        /// How engaged its audience is, 0 to 100.
        engagement_score: Score,
        /// How real and relevant its audience is, 0 to 100.
        audience_quality_score: Score,
        /// How good and consistent its content is, 0 to 100.
        content_quality_score: Score,
        /// How sure this judgement is, 0 to 1.
        confidence_level: Confidence,
        /// Three to five sentences on the lead and its fit.
        summary_text: Text,
        /// Three to five strengths of the lead, one sentence each.
        key_strengths: Texts,
        /// Two to four things the lead could do better and the business could help with.
        improvement_areas: Texts,
        /// Two to four concrete ways of working together.
        partnership_opportunities: Texts,
        /// What to do with the lead.
        recommended_action: RecommendedAction,
        /// How soon.
        urgency_level: UrgencyLevel,
    }
);

answer!(
    /// The five traits, each 0 to 100, as the profile presents itself.
    PersonalityTraits {
        /// Curiosity and taste for the new, 0 to 100.
        openness: Score,
        /// Order and persistence, 0 to 100.
        conscientiousness: Score,
        /// Outgoing energy, 0 to 100.
        extraversion: Score,
        /// Warmth and cooperation, 0 to 100.
        agreeableness: Score,
        /// Sensitivity to stress, 0 to 100.
        neuroticism: Score,
    }
);

answer!(
    /// XRAY's judgement: DEEP's and the psychology behind it.
    Psychographic {
        /// How good a lead it is in all, 0 to 100.
        overall_score: Score,
        /// How well it fits the business's niche, 0 to 100.
        niche_fit_score: Score,
        /// How engaged its audience is, 0 to 100.
        engagement_score: Score,
        /// How real and relevant its audience is, 0 to 100.
        audience_quality_score: Score,
        /// How good and consistent its content is, 0 to 100.
        content_quality_score: Score,
        /// How well its values and motives fit what the business offers, 0 to 100.
        psychographic_fit_score: Score,
        /// How sure this judgement is, 0 to 1.
        confidence_level: Confidence,
        /// Five to seven sentences on the lead, its fit and what moves it.
        summary_text: Text,
        /// Three to five strengths of the lead, one sentence each.
        key_strengths: Texts,
        /// Two to four things the lead could do better and the business could help with.
        improvement_areas: Texts,
        /// Two to four concrete ways of working together.
        partnership_opportunities: Texts,
        /// What to do with the lead.
        recommended_action: RecommendedAction,
        /// How soon.
        urgency_level: UrgencyLevel,
        /// The traits that the public profile shows.
        personality_traits: PersonalityTraits,
        /// How the owner seems to decide.
        decision_making_style: DecisionMakingStyle,
        /// Two to four honest appeals that would move this person.
        psychological_hooks: Texts,
        /// How to approach this lead, in two to four sentences.
        outreach_strategy: Text,
    }
);

answer!(
    /// Budget, role and buying stage.
    Commercial {
        /// What the lead can likely spend.
        budget_tier: BudgetTier,
        /// The owner's part in a purchase.
        decision_role: DecisionRole,
        /// How near to buying the lead is.
        buying_stage: BuyingStage,
        /// Two to five objections to expect, one sentence each.
        objections: Texts,
    }
);

answer!(
    /// The first message and where it could start from.
    Outreach {
        /// A direct message of two to four sentences, ready to send, with no placeholders.
        outreach_message: Text,
        /// Two to four other angles for a first message, one sentence each.
        outreach_angles: Texts,
    }
);

answer!(
    /// The owner's character, as far as the profile shows it.
    Personality {
        /// The prevailing trait in the DISC model.
        disc_profile: DiscProfile,
        /// How the owner writes.
        communication_style: CommunicationStyle,
        /// Two to four things that drive the owner.
        motivation_drivers: Texts,
        /// Three to five habits that the posts show.
        behavior_patterns: Texts,
        /// Who seems to write the content.
        content_authenticity: ContentAuthenticity,
        /// How much the profile gives to go by.
        data_confidence: DataConfidence,
    }
);
