//! What must hold inside of the engine: after every turn, and when it sleeps.

use baiwan_driver::sim::{SimDriver, SimNet, SimSocket};

use super::super::Engine;
use super::super::exchange::OUTPUT_BYTES_MAX;
use super::super::set_aside::SET_ASIDE_SPARE_BYTES;
use super::super::table::{Flags, Link, Slot, State};
use super::Verdict;
use super::app::SimApp;
use crate::clock::Tick;

/// Heads, chunk sizes and errors that may stand beside the data of an answer.
const FRAMING_BYTES_MAX: usize = 4096;

/// The connections and their places. It ends with the last one, so an engine that holds few is soon looked through.
fn slots(engine: &Engine<SimDriver, SimApp>) -> impl Iterator<Item = (u32, &Slot<SimSocket>)> {
    let found = (0..).filter_map(|index| Some((index, engine.table.get(index)?)));
    found.take(engine.table.len())
}

/// After every turn: nobody holds more than is allowed. `frame_bytes` is the largest frame that the app makes.
pub(super) fn after_turn(engine: &Engine<SimDriver, SimApp>, frame_bytes: usize) -> Result<(), Verdict> {
    for (index, _) in slots(engine) {
        let Some(busy) = engine.table.busy(index) else { continue };
        let waiting = busy.set_aside_bytes().len();
        if waiting > engine.terms.set_aside_bytes_max() {
            return Err(format!("{waiting} bytes are set aside for slot {index}"));
        }
        let capacity = busy.set_aside.as_ref().map_or(0, |set_aside| set_aside.bytes.capacity());
        if capacity > SET_ASIDE_SPARE_BYTES.max(2 * waiting) {
            return Err(format!("{waiting} bytes are set aside for slot {index} with a capacity of {capacity}"));
        }
        let queued: usize = busy.output.byte_count();
        let most = OUTPUT_BYTES_MAX + frame_bytes + FRAMING_BYTES_MAX;
        if queued > most {
            return Err(format!("{queued} bytes of output are held for slot {index}, more than {most}"));
        }
    }
    Ok(())
}

/// When the engine sleeps: nothing was overlooked, nothing is overdue.
pub(super) fn at_rest(engine: &Engine<SimDriver, SimApp>, net: &SimNet, now: Tick) -> Result<(), Verdict> {
    let (mut linked, mut uncounted) = (0, 0);
    for (index, slot) in slots(engine) {
        uncounted += usize::from(slot.flags.has(Flags::UNCOUNTED));
        let failed = |what: &str| Err(format!("slot {index} sleeps in {:?} {what}", slot.state));
        let busy = engine.table.busy(index);
        let holds = busy.is_some_and(|busy| busy.set_aside.is_none() || engine.table.holds_request(index));
        if slot.state == State::Idle && holds && !slot.flags.has(Flags::INPUT) {
            return failed("and holds memory");
        }
        // One that was set when it was over already fires with the next tick.
        if slot.deadline <= now && engine.table.next_due() != Some(Tick(now.0 + 1)) {
            return failed("although its deadline has passed");
        }
        match slot.link == Link::UNLINKED {
            false => linked += 1,
            true if slot.deadline != Tick::NEVER => return failed("with a deadline that nobody watches"),
            true => {}
        }
        if must_have_deadline(engine, slot.state) && slot.deadline == Tick::NEVER {
            return failed("without a deadline");
        }
        let unseen = net.unseen(&slot.socket);
        let owes = engine.table.owes(index);
        if owes && unseen.room && !unseen.end {
            return failed("with output, although there is room");
        }
        let exchange = busy.and_then(|busy| busy.exchange.as_ref());
        let wants = exchange.is_some_and(|exchange| exchange.wants_body());
        let bodyless = exchange.is_some_and(|exchange| exchange.is_done_with_body());
        match slot.state {
            State::Idle | State::Head | State::Discard { .. } | State::Linger { .. } if !owes && unseen.input => {
                return failed("although there is something to receive");
            }
            State::Idle | State::Head | State::Discard { .. } | State::Linger { .. }
                if !owes && slot.flags.has(Flags::READABLE) =>
            {
                return failed("marked as readable");
            }
            State::Exchange if wants && unseen.input => return failed("although its body goes on"),
            State::Exchange if bodyless && unseen.end && !engine.terms.settings.half_close => {
                return failed("although nobody is left to take the answer");
            }
            _ => {}
        }
    }
    if uncounted != engine.table.turned_away() {
        return Err(format!("{} connections are turned away, not {uncounted}", engine.table.turned_away()));
    }
    let busy = slots(engine).filter(|(index, _)| engine.table.busy(*index).is_some()).count();
    if busy != engine.table.busy_len() {
        return Err(format!("{busy} connections hold something, and {} parts are held", engine.table.busy_len()));
    }
    if linked != engine.table.deadlines() {
        return Err(format!("{linked} slots are in the wheel, which counts {}", engine.table.deadlines()));
    }
    let queued = engine.table.queued() + engine.table.waiting();
    if queued > 0 || !engine.ports.outbox.parts.is_empty() || !engine.ports.outbox.bytes.is_empty() {
        return Err("work is left and nobody does it".into());
    }
    Ok(())
}

/// Exchanges whose record is not complete.
pub(super) fn open_records(engine: &Engine<SimDriver, SimApp>) -> u64 {
    let has_draft = |index: u32| engine.table.busy(index).is_some_and(|busy| busy.draft.is_some());
    slots(engine).filter(|(index, _)| has_draft(*index)).count() as u64
}

fn must_have_deadline(engine: &Engine<SimDriver, SimApp>, state: State) -> bool {
    let settings = &engine.terms.settings;
    match state {
        State::Idle => settings.keep_alive_timeout.or(settings.max_connection_age).is_some(),
        State::Head => settings.header_timeout.is_some(),
        State::Flush { .. } => settings.write_timeout.is_some(),
        State::Discard { .. } | State::Linger { .. } => true,
        State::Exchange => settings.max_connection_age.is_some(),
    }
}

/// Nothing is left of a server that has served: said by its own counters.
pub(super) fn at_end(counts: &crate::Counts) -> Result<(), Verdict> {
    let closed: u64 = counts.closed.iter().map(|(_, count)| count).sum();
    let left = (counts.connections, counts.slots, counts.exchanges, counts.deadlines);
    match left == (0, 0, 0, 0) && closed == counts.accepted {
        true => Ok(()),
        false => Err(format!("something is left: {counts:?}")),
    }
}
