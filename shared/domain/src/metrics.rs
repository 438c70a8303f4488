//! Deterministic numbers of a profile.
