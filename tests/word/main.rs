//! The state word of a lock, taken out of the library: explored by loom, which tries
//! every order in which threads can meet, and in a simulation of processes that contend.
//! Each rule of the word is put out of force once, and has to be missed.

#![allow(
    clippy::duplicate_mod,
    reason = "the word is built twice, on loom's atomics and on the standard ones"
)]

mod explored;
mod simulated;
