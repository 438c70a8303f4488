//! The words of which models choose one.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use strum::EnumString;

/// An enum whose JSON values are its variants in snake case. Models also write `Decision maker` or `HIGH`, which are read as the same words, and
/// null for what they do not know.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, EnumString, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        #[schemars(inline)]
        #[expect(missing_docs, reason = "the words say it")]
        pub enum $name { $($variant),+ }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                Word::deserialize(source)?.folded().parse().map_err(|_| D::Error::custom("one of the words"))
            }
        }
    };
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Null(()),
}

impl Word {
    fn folded(self) -> String {
        match self {
            Self::Text(text) => {
                let words: Vec<String> =
                    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
                words.join("_")
            }
            // An error for an enum without this word.
            Self::Null(()) => "unknown".to_owned(),
        }
    }
}

/// What a model would do with the lead. Null if it wrote none of the words: reports have a recommendation that follows from a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Option<Value>")]
#[schemars(with = "RecommendedAction", inline)]
pub struct SuggestedAction(Option<RecommendedAction>);

impl From<Option<Value>> for SuggestedAction {
    fn from(written: Option<Value>) -> Self {
        Self(written.and_then(|written| RecommendedAction::deserialize(written).ok()))
    }
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
