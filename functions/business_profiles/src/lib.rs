//! The businesses that an account sells for.

mod create_business_profile;
mod fields;
mod get_business_profile;
mod list_business_profiles;
mod update_business_profile;

pub use create_business_profile::create_business_profile;
pub use get_business_profile::get_business_profile;
pub use list_business_profiles::list_business_profiles;
pub use update_business_profile::update_business_profile;
