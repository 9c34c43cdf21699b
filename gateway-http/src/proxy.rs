//! What touches a request or an answer on its way through the gateway.
//!
//! Toward the upstream: [`target`] says where it may go, [`headers`] what it carries, [`credentials`]
//! who asks and with whose credential, [`guard`], [`connector`] and [`client`] what may be dialled.
//! Toward the client: [`headers`] again, and [`response_headers`] for what the gateway adds.

pub mod client;
pub mod connector;
pub mod credentials;
pub mod guard;
pub mod headers;
pub mod hops;
pub mod money;
pub mod query;
pub mod response_headers;
pub mod target;
