//! The gRPC face of the engine: thin adapters, one file per service, with authentication,
//! conversions and the mapping of errors each in one place.

pub mod auth;
pub mod convert;
pub mod deadline;
pub mod details;
pub mod direct;
pub mod documents;
pub mod front;
pub mod listing;
pub mod page;
pub mod server;
pub mod services;
pub mod short_bodies;
pub mod status;

#[cfg(test)]
mod tests;
