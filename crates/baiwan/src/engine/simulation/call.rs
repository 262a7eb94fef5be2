//! One fault at the N-th call, for every N and every fault: nothing is left to chance.
//!
//! A short scenario is played once without faults, and its calls are counted. Then it is played again for each call of each
//! kind and each fault that such a call can have.

use baiwan_driver::sim::{Call, Decisions, Faults, Rates};

use super::World;
use super::plan::Plan;
use crate::settings::Settings;

/// How much was tried.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Outcomes {
    /// Calls of the scenario without faults, of each kind, in the order of [`Call::ALL`].
    pub calls: [u64; Call::ALL.len()],
    /// Runs with a fault.
    pub runs: u64,
}

/// Three connections that behave, and a server that half of the scenarios stop.
fn plan(scenario: u64) -> Plan {
    Plan {
        settings: Settings { half_close: scenario.is_multiple_of(3), ..Settings::default() },
        connections_max: 1000,
        inbox_bytes_max: if scenario.is_multiple_of(2) { 65_536 } else { 3000 },
        peers: 3,
        steps: 14,
        rates: Rates::default(),
        jumps: false,
        slow: false,
        stop_at: (scenario.is_multiple_of(2)).then_some(9),
        cut_at: None,
        rude: 0,
        observed: !scenario.is_multiple_of(2),
    }
}

/// The `number`-th call of a kind, and which of its faults.
pub(super) type At = (Call, u64, usize);

/// Plays a scenario with one fault at one call; without, if there is none.
///
/// # Errors
/// What did not hold.
pub fn at_call(scenario: u64, fault: Option<At>, trace: bool) -> Result<[u64; Call::ALL.len()], String> {
    let faults = match fault {
        Some((call, number, kind)) => Faults::at_call(call, number, call.faults()[kind]),
        None => Faults::at_random(Decisions::from_bytes(&[]), Rates::default()),
    };
    let decisions = Decisions::seeded(scenario);
    let played = World::play_and(plan(scenario), decisions, Some(faults), trace, |net| Call::ALL.map(|c| net.calls(c)));
    played.map(|(_, calls)| calls)
}

/// Every fault at every call of a scenario.
///
/// # Errors
/// The call and the fault, as [`at_call`] takes them, and what did not hold.
pub fn every_call(scenario: u64) -> Result<Outcomes, (Option<At>, String)> {
    let calls = at_call(scenario, None, false).map_err(|why| (None, why))?;
    let mut runs = 0;
    for (call, count) in Call::ALL.into_iter().zip(calls) {
        for number in 0..count {
            for kind in 0..call.faults().len() {
                let fault = Some((call, number, kind));
                at_call(scenario, fault, false).map_err(|why| (fault, why))?;
                runs += 1;
            }
        }
    }
    Ok(Outcomes { calls, runs })
}
