//! What the driver asks of the network. Each call passes the faults first, is noted, and counts as work.

use std::io;

use super::SimSocket;
use super::faults::{self, Call, Fault};
use super::net::{Net, Pending};
use crate::{AcceptEnd, Accepted, Close, Event, Events, Peer, Token, Unwatched};

/// Steps for which nothing can be accepted, at most.
const EXHAUSTED_STEPS_MAX: usize = 30;

impl Net {
    pub(super) fn collect(&mut self, events: &mut Events) {
        for listener in &mut self.listeners {
            let (true, Some(token)) = (listener.announce, listener.token) else { continue };
            if events.len() < events.capacity() {
                listener.announce = false;
                events.list.push(Event { token, readable: true, writable: false, hangup: false, reset: false });
            }
        }
        // What a listener announces is done when it is accepted.
        let announced = events.len();
        while events.len() < events.capacity()
            && let Some(at) = self.stale.iter().position(|(at, _)| *at <= self.step)
        {
            events.list.push(self.stale.remove(at).1);
        }
        while events.len() < events.capacity() {
            let Some(index) = self.ready.pop_front() else { break };
            match self.fault(Call::Event, Some(index)) {
                Some(Fault::Delay(steps)) => {
                    self.mark_late(index);
                    self.delayed.push((self.step + steps, index));
                    continue;
                }
                Some(_) => self.break_connection(index),
                None => {}
            }
            let endpoint = self.endpoint_mut(index);
            let pending = std::mem::take(&mut endpoint.pending);
            let Some(token) = endpoint.token else { continue };
            let Pending { readable, writable, .. } = pending;
            let (hangup, reset) = (endpoint.ended || endpoint.reset, endpoint.reset);
            events.list.push(Event { token, readable, writable, hangup, reset });
            self.note("event", index, token.0);
        }
        self.work += (events.len() - announced) as u64;
    }

    pub(super) fn set_listening(&mut self, number: usize, token: Token, on: bool) -> io::Result<()> {
        if on && let Some(Fault::Error(number)) = self.fault(Call::Listen, None) {
            return Err(faults::error(number));
        }
        let listener = &mut self.listeners[number];
        listener.token = on.then_some(token);
        listener.announce = on && !listener.backlog.is_empty();
        self.wake();
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        number: usize,
        mut max: usize,
        accepted: &mut Vec<Accepted<SimSocket>>,
    ) -> AcceptEnd {
        if self.listeners[number].backlog.is_empty() {
            self.listeners[number].announce = false;
            return AcceptEnd::Drained;
        }
        if let Some((_, error)) = self.exhausted {
            return self.cannot_accept(number, error);
        }
        match self.fault(Call::Accept, None) {
            Some(Fault::Error(error)) => {
                let steps = self.faults.as_ref().map_or(0, |faults| faults.decisions().below(EXHAUSTED_STEPS_MAX));
                self.exhausted = Some((self.step + steps as u64 + 1, error));
                return self.cannot_accept(number, error);
            }
            Some(Fault::Short(most)) => max = max.min(most),
            Some(Fault::Reset) => {
                let (dead, _) = self.listeners[number].backlog.pop_front().expect("seen above");
                self.mark_faulted(dead);
                self.close(dead, Close::Reset);
            }
            _ => {}
        }
        let listener = &mut self.listeners[number];
        let count = listener.backlog.len().min(max);
        let taken = listener.backlog.drain(..count);
        accepted.extend(taken.map(|(index, name)| Accepted { socket: SimSocket(index), peer: Peer::Ip(name) }));
        listener.announce = !listener.backlog.is_empty();
        self.work += count as u64;
        self.note("accept", number, count as u64);
        match count < max {
            true => AcceptEnd::Drained,
            false => AcceptEnd::Max,
        }
    }

    fn cannot_accept(&mut self, number: usize, error: i32) -> AcceptEnd {
        // Level-triggered: it is said again for as long as somebody waits.
        self.listeners[number].announce = true;
        self.note("exhausted", number, error as u64);
        AcceptEnd::Exhausted(faults::error(error))
    }

    pub(super) fn watch(&mut self, index: usize, token: Token) -> io::Result<()> {
        if let Some(Fault::Error(number)) = self.fault(Call::Watch, Some(index)) {
            return Err(faults::error(number));
        }
        let endpoint = self.endpoint_mut(index);
        endpoint.token = Some(token);
        if !endpoint.inbox.is_empty() || endpoint.ended || endpoint.reset {
            self.report(index, true, false);
        }
        Ok(())
    }

    /// Receives for the driver.
    pub(super) fn receive_faulty(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match self.fault(Call::Receive, Some(index)) {
            None | Some(Fault::Delay(_)) => self.receive(index, buffer),
            Some(Fault::Short(most)) => {
                let most = most.min(buffer.len());
                let outcome = self.receive(index, &mut buffer[..most]);
                let endpoint = self.endpoint(index);
                // As if what is left had come a moment later.
                if !endpoint.inbox.is_empty() || endpoint.ended {
                    self.report(index, true, false);
                }
                outcome
            }
            Some(Fault::Again) => {
                self.report(index, true, false);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Some(Fault::Error(number)) => Err(faults::error(number)),
            Some(Fault::Reset) => {
                self.break_connection(index);
                self.receive(index, buffer)
            }
        };
        let blocked = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.work += u64::from(!blocked);
        self.note("receive", index, outcome.as_ref().map_or(u64::MAX, |count| *count as u64));
        outcome
    }

    /// Sends, for the driver, as many of the chunks as there is room for. Where that is less than all, the endpoint is watched from
    /// then on, if it was not before.
    pub(super) fn transmit<'a>(
        &mut self,
        index: usize,
        token: Token,
        chunks: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        let mut most = usize::MAX;
        match self.fault(Call::Transmit, Some(index)) {
            None | Some(Fault::Delay(_)) => {}
            Some(Fault::Short(bytes)) => most = bytes,
            Some(Fault::Again) => most = 0,
            Some(Fault::Error(number)) => return Err(faults::error(number)),
            Some(Fault::Reset) => self.break_connection(index),
        }
        let mut outcome = Ok(0);
        for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
            let offered = &chunk[..chunk.len().min(most)];
            let result = match offered.is_empty() {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => self.send(index, offered),
            };
            let is_short = match &result {
                Ok(taken) => *taken < chunk.len(),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            if is_short && self.endpoint(index).token.is_none() {
                if let Some(Fault::Error(number)) = self.fault(Call::Watch, Some(index)) {
                    return Err(Unwatched(faults::error(number)).into());
                }
                self.endpoint_mut(index).token = Some(token);
            }
            match (result, &mut outcome) {
                (Ok(taken), Ok(sum)) => {
                    *sum += taken;
                    most -= taken;
                    if taken < chunk.len() {
                        break;
                    }
                }
                (Err(error), Ok(0)) => {
                    outcome = Err(error);
                    break;
                }
                _ => break,
            }
        }
        if most != usize::MAX && most == 0 {
            // There is room, and so an event.
            self.report(index, false, true);
        }
        self.work += u64::from(outcome.is_ok());
        self.note("transmit", index, outcome.as_ref().map_or(u64::MAX, |count| *count as u64));
        outcome
    }
}
