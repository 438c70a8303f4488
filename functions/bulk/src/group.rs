//! The messages of the queue: a part of a batch, small enough for one Actor run.

use oslira_domain::{BatchId, RunId};
use oslira_lambda::queue::MessageError;
use serde::{Deserialize, Serialize};

/// How many handles one Actor run fetches. A batch of a hundred then has as many groups as Apify allows concurrent Actor runs, so its
/// profiles arrive as early as possible.
pub(crate) const HANDLES: usize = 10;

/// Some of a batch's runs. The database holds everything else about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) batch_id: BatchId,
    pub(crate) run_ids: Vec<RunId>,
}

impl Group {
    /// Reads a group from a message.
    pub(crate) fn parse(body: &str) -> Result<Self, MessageError> {
        serde_json::from_str(body).map_err(|error| MessageError::Poison(format!("malformed group: {error}")))
    }

    /// Divides the runs of a batch into groups of about the same size.
    pub(crate) fn all(batch_id: &BatchId, run_ids: &[RunId]) -> Vec<Self> {
        let groups = run_ids.len().div_ceil(HANDLES).max(1);
        let size = run_ids.len().div_ceil(groups).max(1);
        run_ids.chunks(size).map(|chunk| Self { batch_id: batch_id.clone(), run_ids: chunk.to_vec() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn groups_are_even_and_complete() {
        let batch_id = BatchId::new(Uuid::nil());
        for (count, sizes) in [(0, vec![]), (1, vec![1]), (10, vec![10]), (11, vec![6, 5]), (25, vec![9, 9, 7]), (100, vec![10; 10])] {
            let run_ids: Vec<RunId> = (0..count).map(|n| RunId::new(Uuid::from_u128(n))).collect();
            let groups = Group::all(&batch_id, &run_ids);
            assert_eq!(groups.iter().map(|group| group.run_ids.len()).collect::<Vec<_>>(), sizes);
            assert_eq!(groups.into_iter().flat_map(|group| group.run_ids).collect::<Vec<_>>(), run_ids);
        }
    }
}
