//! Business profiles: the businesses that an account's leads are judged for.

mod create_business_profile;
mod fields;
mod get_business_profile;
mod list_business_profiles;
mod update_business_profile;

pub use create_business_profile::create_business_profile;
pub use get_business_profile::get_business_profile;
pub use list_business_profiles::list_business_profiles;
pub use update_business_profile::update_business_profile;

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Business profiles", "The businesses that an account's leads are judged for.");
    list_business_profiles::describe(api);
    create_business_profile::describe(api);
    get_business_profile::describe(api);
    update_business_profile::describe(api);
}
