//! One measurement: one row, one server, one round, with a server process of its own.

use anyhow::Result;

use crate::figures::{Figures, START_MS};
use crate::load::Course;
use crate::rows::{Pace, Plan, Row, Work};
use crate::server::Server;
use crate::{churn, generator, hold, load, stalled, stop, wrk};

/// Measures a row. `contestant` is the load generator where those are compared, and otherwise the server.
pub(crate) fn measure(row: &Row, plan: &Plan, server: &mut Server, contestant: &str) -> Result<Figures> {
    let connections = plan.connections(row);
    match row.work {
        Work::Load { route, pace } => {
            let exchange = match pace {
                Pace::ConnectEach => route.exchange().closing(),
                _ => route.exchange(),
            };
            let course = Course { warm: plan.warm, timed: plan.timed, grace: plan.grace };
            load::measure(server, &exchange, pace, connections, course)
        }
        Work::Wrk { threads } => wrk::measure(server, threads.min(plan.wrk_threads), connections, plan.wrk),
        Work::Generator => generator::measure(server, plan, connections, contestant),
        Work::StartUp => Ok(Figures::from([(START_MS, server.ask_first()?)])),
        Work::Hold(state) => hold::measure(server, plan, connections, state),
        Work::Stalled(stage) => stalled::measure(server, plan, connections, stage),
        Work::Churn => churn::measure(server, plan, connections),
        Work::Stop => stop::measure(server, plan, connections),
    }
}
