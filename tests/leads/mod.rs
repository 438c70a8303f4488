//! Leads: the list, one lead, its analyses, deletion and restoration.

mod deleting;
mod faults;
mod listing;
mod one;
mod pages;
mod plans;

use crate::harness::{Account, Value, World};

const PATH: &str = "/api/leads";

impl Account {
    /// Inserts a lead without an analysis, with the columns in `fields`. Returns its id.
    async fn written_lead(&self, handle: &str, fields: &Value) -> String {
        let sql = "INSERT INTO leads (account_id, business_profile_id, username, display_name, bio, follower_count, last_analyzed_at, created_at)
                   SELECT $1::text::uuid, coalesce(f.profile, $2::text::uuid), $3, f.name, f.bio, f.followers, f.analyzed, coalesce(f.created, now())
                   FROM jsonb_to_record($4) f (profile uuid, name text, bio text, followers bigint, analyzed timestamptz, created timestamptz)
                   RETURNING id::text";
        self.world.db.value(sql, &[&self.id, &self.business_profile_id, &handle, fields]).await.expect("a lead")
    }

    /// Returns the whole response to a query of the list.
    async fn leads(&self, query: &[(&str, &str)]) -> Value {
        let answer = self.world.send(self.request_to("GET", PATH).query(query)).await;
        assert_eq!(answer.status, 200, "{query:?}: {}", answer.body);
        answer.body
    }
}

/// Returns the ids on a page.
fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().expect("a list").iter().map(|lead| lead["id"].as_str().expect("an id").to_owned()).collect()
}

/// Returns the lead that a run created.
async fn lead_of(world: &World, run_id: &str) -> String {
    world.db.value("SELECT lead_id::text FROM analyses WHERE run_id = $1", &[&run_id]).await.expect("a lead")
}
