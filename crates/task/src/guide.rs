//! The guide, with no code of its own: `GUIDE.md`, whose examples are tests.
#![doc = include_str!("../GUIDE.md")]
