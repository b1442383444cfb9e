//! The lock among strangers and in a storm, held against etcd's own history of its
//! keys by `tenure-history`: together with `etcdctl lock` and the Go client's
//! `concurrency.Mutex` on one name, and on three members that freeze and die. And the
//! election, together with `etcdctl elect` and the Go client's `concurrency.Election`. And both
//! together with the services that the server has for them.

#[path = "../differential/caller.rs"]
mod caller;
mod chaos;
mod election;
#[path = "../storm/environment.rs"]
mod environment;
mod etcdctl;
mod evidence;
mod golang;
mod nested;
mod ours;
mod services;
mod strangers;
mod support;
mod torture;
mod victim;
