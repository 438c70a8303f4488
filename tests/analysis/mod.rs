//! Single analyses, from request to ledger.

mod happy;

use crate::harness::Case;

pub fn cases() -> Vec<Case> {
    [happy::cases()].concat()
}
