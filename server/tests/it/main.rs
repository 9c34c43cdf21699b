//! The program as a whole, over its own interfaces: most of it as a process of its own that can be
//! killed.

#![cfg(test)]

mod admission;
mod audit;
mod authority;
mod base_urls;
mod clients;
mod database;
mod encrypted;
mod faults;
mod gateway;
mod http;
mod kill;
mod oidc;
mod overload;
mod people;
mod price;
mod process;
mod redaction;
mod redis;
mod replicas;
mod rotation;
mod sdk;
mod stopping;
mod sync;
mod upstream;
mod walk;
mod workspace_file;
