//! The behaviour suites of all stores on PostgreSQL, and what several processes on one database see.

#![cfg(test)]

#[path = "postgres/bulk.rs"]
mod bulk;
#[path = "postgres/on_server.rs"]
mod on_server;
#[path = "postgres/suites.rs"]
mod suites;
#[path = "postgres/together.rs"]
mod together;
#[path = "postgres/wakes.rs"]
mod wakes;
#[path = "postgres/walls.rs"]
mod walls;
