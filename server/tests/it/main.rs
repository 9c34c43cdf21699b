//! The program as a whole, over its own interfaces: most of it as a process of its own that can be
//! killed.

mod admission;
mod clients;
mod kill;
mod process;
mod sync;
