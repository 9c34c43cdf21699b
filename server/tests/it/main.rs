//! The program as a whole, over its own interfaces: most of it as a process of its own that can be
//! killed.

#![cfg(test)]

mod admission;
mod clients;
mod gateway;
mod http;
mod kill;
mod process;
mod sync;
mod upstream;
mod walk;
mod workspace_file;
