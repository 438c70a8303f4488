//! An item of the Actor's dataset becomes a profile.

use oslira_domain::Username;

use crate::{ScrapedItem, VendorError};

pub(crate) fn outcomes(_body: &[u8], _asked: &[Username]) -> Result<Vec<ScrapedItem>, VendorError> {
    Err(VendorError::Invalid("not yet"))
}
