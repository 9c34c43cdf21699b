//! The services as their callers see them, over an engine with the embedded stores in a temporary
//! folder.

mod access;
mod analytics;
mod calls;
mod conversions;
mod domain;
mod gateway;
mod managed;
mod messages;
mod ownership;
mod prices;
mod web;
pub(crate) mod world;
