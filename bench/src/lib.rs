//! What the programs of this package share: the figures in `/proc` that the report of a measurement needs.

pub mod proc_files;
