//! Typed answers of the models.
