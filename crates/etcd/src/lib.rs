//! Real etcd servers for tests: found, built, started, frozen and killed.
