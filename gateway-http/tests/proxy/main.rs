//! The proxy between real sockets: a client in front, the demo upstream behind, and a control server of
//! the tests' own that records what it is asked and keeps a budget.

mod answers;
mod denials;
mod failures;
mod hygiene;
mod lifecycle;
mod remote;
mod reports;
mod routes;
mod streams;
mod support;
mod wire;
