//! The client against etcds that ask who is calling: names and passwords, tokens that
//! expire, and what is refused.

mod etcd;
mod refusals;
mod support;
