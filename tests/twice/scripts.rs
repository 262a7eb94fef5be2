//! What is asked of each program, by what the program is about.

mod answers;
mod bodies;
mod connections;
mod files;
mod layers;
mod limits;
mod refusals;
mod requests;
mod routes;
mod runtimes;
mod stops;
mod web_sockets;
