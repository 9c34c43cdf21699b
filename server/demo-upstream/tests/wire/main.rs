//! The demo upstream over real sockets, as a gateway or a vendor's SDK meets it.

mod anthropic;
mod echo;
mod lifecycle;
mod openai;
mod refusals;
mod support;
