//! The types of the answers. Their values are valid, and their doc comments are the descriptions in the schemas that models get.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Confidence, RedFlags, Score, Text, Texts};
use super::words::{
    BudgetTier, BuyingStage, CommunicationStyle, ContentAuthenticity, DataConfidence, DecisionMakingStyle, DecisionRole, DiscProfile,
    SuggestedAction, UrgencyLevel,
};

/// An answer: a struct whose strict schema is sent to the model. A field beside those of the schema is left out when an answer is read: what was
/// asked for is there, and is paid for.
macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[schemars(deny_unknown_fields)]
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
        red_flags: RedFlags,
        /// What to do with the lead.
        recommended_action: SuggestedAction,
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
        recommended_action: SuggestedAction,
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
        recommended_action: SuggestedAction,
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
