//! The server as it looks from outside: raw bytes on a socket, against an axum app, case by case through RFC 9110, RFC 9112 and
//! the list of threats. Each case is sent whole, byte by byte, and cut in two at many places, with a good request behind it
//! that shows where the server believes the next message to begin.
//!
//! | file | part |
//! |---|---|
//! | `case` | a case, its fate, and how it is run |
//! | `wire` | the server, and a reader of answers that forgives nothing |
//! | `app` | the app that is probed |
//! | `request_line`, `target`, `host` | the first line, and whom it is for |
//! | `field_lines`, `framing`, `chunked` | how fields and bodies are read |
//! | `connection`, `expect` | persistence, pipelines, upgrades, expectations |
//! | `answers` | what the server sends |
//! | `limits` | how much it takes |

// It probes the engine, which runs on Linux only: hyper repairs where the engine refuses.
#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod answers;
mod app;
mod case;
mod chunked;
mod connection;
mod expect;
mod field_lines;
mod framing;
mod host;
mod limits;
mod request_line;
mod target;
mod wire;
