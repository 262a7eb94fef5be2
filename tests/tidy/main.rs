//! The rules of the house that a reviewer should not have to check. It reads the tree and builds nothing of it.
//!
//! | file | what is checked |
//! |---|---|
//! | `house` | lengths of files, module comments, unsafe code, dead files |
//! | `layers` | which crate depends on which, and the lints of all |
//! | `circles` | modules of a crate that import each other in a circle |
//! | `documents` | that documents name what exists |
//! | `threats`, `rfc` | that threats and rules have tests |
//! | `licences` | the licences of dependencies |
//! | `packages` | what is published, and what is not |
//! | `translation` | that the Chinese README says what the English one says |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod circles;
mod documents;
mod house;
mod imports;
mod layers;
mod licences;
mod packages;
mod rfc;
mod threats;
mod translation;
mod tree;
