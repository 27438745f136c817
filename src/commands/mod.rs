//! The commands beside the main one.

pub mod check;
