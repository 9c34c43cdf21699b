//! The services as their callers see them, over an engine with the embedded stores in a temporary
//! folder.

mod access;
mod analytics;
mod audit;
mod audit_tour;
mod calls;
mod configuration;
mod conversions;
mod costs;
mod dated_prices;
mod domain;
mod envoy;
mod fuzz;
mod gateway;
mod hostile;
mod isolation;
mod key_uses;
mod lists;
mod managed;
mod messages;
mod oidc;
mod ownership;
mod people;
mod people_replicas;
mod people_web;
mod persons;
mod prices;
mod provider;
mod repetitions;
mod request_ids;
mod rotation;
mod tenants;
mod top_ups;
mod web;
mod wire;
pub(crate) mod world;
