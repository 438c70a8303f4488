//! Invented Instagram people. The same handle is always the same person.

mod captions;
mod items;
mod niches;
mod person;

pub(crate) use items::{Listing, blocked, items};
pub(crate) use person::Person;
