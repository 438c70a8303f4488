//! The account as its clients see it.
