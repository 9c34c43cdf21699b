//! A demo upstream: a plainly labelled imitation of two vendors' wire formats.
//!
//! No model runs here. Answers repeat what was asked, and their usage numbers follow from the request alone,
//! so that the demo needs no account anywhere and tests know to the token what an upstream will report.
//! Every answer carries `x-demo-upstream: true`, and every body says that it comes from a demo.
//!
//! | path | imitates |
//! |---|---|
//! | `POST /openai/v1/chat/completions` | OpenAI chat completions, plain and as server-sent events |
//! | `GET /openai/v1/models` | OpenAI's list of models |
//! | `POST /anthropic/v1/messages` | Anthropic messages, plain and as server-sent events |
//! | any method, `/echo` and below it | no vendor: describes the request that arrived |
//!
//! The two vendors' paths want the configured credential and answer 401 otherwise. `/echo` answers anyone and
//! says whether the credential was there, so that an API without one can be tested as well; its answers also carry
//! a `set-cookie`, which a proxy must not pass on.
//!
//! # Request headers that steer an answer
//!
//! All are optional; a value outside its bounds is answered with 400 and names the header and the bound.
//!
//! | header | means |
//! |---|---|
//! | `x-demo-delay-ms` | wait before the head of the answer |
//! | `x-demo-chunk-delay-ms` | wait before each piece of text in a stream |
//! | `x-demo-chunks` | the number of pieces of text in a stream |
//! | `x-demo-input-tokens` | the whole prompt's tokens, cached ones included |
//! | `x-demo-output-tokens` | tokens of the answer, still bounded by the request's own maximum |
//! | `x-demo-cached-tokens` | how many of the input tokens came from a cache, cut to the input |
//! | `x-demo-status` | answer this error status (400 to 599) in the vendor's envelope |
//! | `x-demo-no-usage` | `true`: report no usage at all |
//!
//! # Example
//!
//! ```no_run
//! use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig};
//!
//! # async fn start() -> std::io::Result<()> {
//! let upstream = DemoUpstream::new(DemoUpstreamConfig::with_credential("demo-secret"));
//! let observed = upstream.observations();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! upstream.serve(listener, std::future::pending::<()>()).await?;
//! # drop(observed);
//! # Ok(())
//! # }
//! ```

mod answer;
mod anthropic;
pub mod bounds;
mod call;
mod echo;
mod knobs;
mod models;
mod observations;
mod openai;
mod refusal;
mod router;
mod stream;
mod upstream;
mod vendor;

pub use answer::TEXT_PREFIX;
pub use observations::{Endpoint, Observations};
pub use upstream::{DemoUpstream, DemoUpstreamConfig};
