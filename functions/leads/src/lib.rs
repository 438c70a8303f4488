//! Leads: list, read, delete and restore.

mod delete_lead;
mod get_lead;
mod list_lead_analyses;
mod list_leads;
mod restore_lead;

pub use delete_lead::delete_lead;
pub use get_lead::get_lead;
pub use list_lead_analyses::list_lead_analyses;
pub use list_leads::list_leads;
pub use restore_lead::restore_lead;

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Leads", "Leads: list, read, delete and restore.");
    list_leads::describe(api);
    get_lead::describe(api);
    list_lead_analyses::describe(api);
    delete_lead::describe(api);
    restore_lead::describe(api);
}
