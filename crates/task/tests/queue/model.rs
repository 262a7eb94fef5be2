//! The queue beside a model that is so simple that it is right: lists that are searched, and rules that are applied after every
//! step until nothing changes. Every answer, every wake-up and every figure must be the same.

use std::collections::VecDeque;
use std::task::Poll;

use baiwan_task::{Drained, Get, Join, Put, Queue, Taken};
use proptest::prelude::*;

use crate::by_hand::{Polled, polled};

/// One step. A number selects one of those that are there, modulo their number; if none is there, nothing happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Put,
    Get,
    Join,
    PollPut(u8),
    PollGet(u8),
    PollJoin(u8),
    DropPut(u8),
    DropGet(u8),
    DropJoin(u8),
    Finish(u8),
    PutBack(u8),
    Close,
}

const STEPS: [Step; 14] = [
    Step::Put,
    Step::Get,
    Step::Join,
    Step::PollPut(0),
    Step::PollGet(0),
    Step::PollJoin(0),
    Step::DropPut(0),
    Step::DropPut(1),
    Step::DropGet(0),
    Step::DropGet(1),
    Step::DropJoin(0),
    Step::Finish(0),
    Step::PutBack(0),
    Step::Close,
];

/// What the model knows about one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waiting,
    Promised,
    Dismissed,
}

struct Waiter<F> {
    future: Polled<F>,
    /// Of a putter.
    value: u32,
    standing: Standing,
    /// Those who came later have a higher one.
    ticket: u32,
}

/// The queue, and what the model thinks of it.
pub(crate) struct World<'a> {
    queue: &'a Queue<u32>,
    capacity: usize,
    items: VecDeque<u32>,
    closed: bool,
    putters: Vec<Waiter<Put<'a, u32>>>,
    getters: Vec<Waiter<Get<'a, u32>>>,
    joiners: Vec<Waiter<Join<'a, u32>>>,
    taken: Vec<Taken<'a, u32>>,
    unfinished: usize,
    next_value: u32,
    next_ticket: u32,
    puts: u64,
    length_max: usize,
}

fn count<F>(waiters: &[Waiter<F>], standing: Standing) -> usize {
    waiters.iter().filter(|waiter| waiter.standing == standing).count()
}

fn first_waiting<F>(waiters: &mut [Waiter<F>]) -> Option<&mut Waiter<F>> {
    waiters.iter_mut().filter(|waiter| waiter.standing == Standing::Waiting).min_by_key(|waiter| waiter.ticket)
}

fn select<X>(list: &[X], number: u8) -> Option<usize> {
    (!list.is_empty()).then(|| usize::from(number) % list.len())
}

impl<'a> World<'a> {
    pub(crate) fn new(queue: &'a Queue<u32>) -> Self {
        World {
            queue,
            capacity: queue.statistics().capacity,
            items: VecDeque::new(),
            closed: false,
            putters: Vec::new(),
            getters: Vec::new(),
            joiners: Vec::new(),
            taken: Vec::new(),
            unfinished: 0,
            next_value: 0,
            next_ticket: 0,
            puts: 0,
            length_max: 0,
        }
    }

    fn free_items(&self) -> usize {
        self.items.len() - count(&self.getters, Standing::Promised)
    }

    fn free_places(&self) -> usize {
        self.capacity.saturating_sub(self.items.len() + count(&self.putters, Standing::Promised))
    }

    /// The rules, until nothing changes.
    fn settle(&mut self) {
        self.length_max = self.length_max.max(self.items.len());
        while self.free_items() > 0 {
            let Some(getter) = first_waiting(&mut self.getters) else { break };
            getter.standing = Standing::Promised;
        }
        while !self.closed && self.free_places() > 0 {
            let Some(putter) = first_waiting(&mut self.putters) else { break };
            putter.standing = Standing::Promised;
        }
        let drained = self.closed && self.items.is_empty();
        while let Some(getter) = first_waiting(&mut self.getters).filter(|_| drained) {
            getter.standing = Standing::Dismissed;
        }
        while let Some(joiner) = first_waiting(&mut self.joiners).filter(|_| self.unfinished == 0) {
            joiner.standing = Standing::Dismissed;
        }
    }

    fn ticket(&mut self) -> u32 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn value(&mut self) -> u32 {
        self.next_value += 1;
        self.next_value
    }

    fn put_done(&mut self, value: u32) {
        self.items.push_back(value);
        self.unfinished += 1;
        self.puts += 1;
    }

    fn get_done(&mut self, taken: Taken<'a, u32>) {
        assert_eq!(Some(*taken), self.items.pop_front());
        self.taken.push(taken);
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Put => self.begin_put(),
            Step::Get => self.begin_get(),
            Step::Join => self.begin_join(),
            Step::PollPut(number) => _ = select(&self.putters, number).map(|index| self.poll_put(index)),
            Step::PollGet(number) => _ = select(&self.getters, number).map(|index| self.poll_get(index)),
            Step::PollJoin(number) => _ = select(&self.joiners, number).map(|index| self.poll_join(index)),
            Step::DropPut(number) => _ = select(&self.putters, number).map(|index| drop(self.putters.remove(index))),
            Step::DropGet(number) => _ = select(&self.getters, number).map(|index| drop(self.getters.remove(index))),
            Step::DropJoin(number) => _ = select(&self.joiners, number).map(|index| drop(self.joiners.remove(index))),
            Step::Finish(number) => _ = select(&self.taken, number).map(|index| self.finish(index)),
            Step::PutBack(number) => _ = select(&self.taken, number).map(|index| self.put_back(index)),
            Step::Close => self.close(),
        }
        self.settle();
        self.compare();
    }

    fn begin_put(&mut self) {
        let value = self.value();
        let mut future = polled(self.queue.put(value));
        match future.poll() {
            Poll::Ready(Ok(())) => {
                assert!(!self.closed && self.free_places() > 0);
                self.put_done(value);
            }
            Poll::Ready(Err(refused)) => assert!(self.closed && refused.0 == value),
            Poll::Pending => {
                assert!(!self.closed && self.free_places() == 0);
                let ticket = self.ticket();
                self.putters.push(Waiter { future, value, standing: Standing::Waiting, ticket });
            }
        }
    }

    fn poll_put(&mut self, index: usize) {
        let Waiter { future, value, standing, .. } = &mut self.putters[index];
        let (value, standing) = (*value, *standing);
        match future.poll() {
            Poll::Ready(Ok(())) => {
                assert!(!self.closed && standing == Standing::Promised);
                self.putters.remove(index);
                self.put_done(value);
            }
            Poll::Ready(Err(refused)) => {
                assert!(self.closed && refused.0 == value);
                self.putters.remove(index);
            }
            Poll::Pending => assert!(!self.closed && standing == Standing::Waiting),
        }
    }

    fn begin_get(&mut self) {
        let mut future = polled(self.queue.get());
        match future.poll() {
            Poll::Ready(Ok(taken)) => {
                assert!(self.free_items() > 0);
                self.get_done(taken);
            }
            Poll::Ready(Err(Drained)) => assert!(self.closed && self.items.is_empty()),
            Poll::Pending => {
                assert!(self.free_items() == 0 && !(self.closed && self.items.is_empty()));
                let ticket = self.ticket();
                self.getters.push(Waiter { future, value: 0, standing: Standing::Waiting, ticket });
            }
        }
    }

    fn poll_get(&mut self, index: usize) {
        let standing = self.getters[index].standing;
        match self.getters[index].future.poll() {
            Poll::Ready(Ok(taken)) => {
                assert!(standing == Standing::Promised || standing == Standing::Dismissed && self.free_items() > 0);
                self.getters.remove(index);
                self.get_done(taken);
            }
            Poll::Ready(Err(Drained)) => {
                assert!(self.closed && self.items.is_empty() && standing != Standing::Promised);
                self.getters.remove(index);
            }
            Poll::Pending if standing == Standing::Dismissed => {
                // An item was put back since, and is promised to another: it waits again, as the last.
                assert!(self.free_items() == 0 && !self.items.is_empty());
                let ticket = self.ticket();
                let mut getter = self.getters.remove(index);
                getter.standing = Standing::Waiting;
                getter.ticket = ticket;
                // What it was woken for is over.
                getter.future.forget_calls();
                self.getters.push(getter);
            }
            Poll::Pending => assert_eq!(standing, Standing::Waiting),
        }
    }

    fn begin_join(&mut self) {
        let mut future = polled(self.queue.join());
        if future.is_pending() {
            assert!(self.unfinished > 0);
            let ticket = self.ticket();
            self.joiners.push(Waiter { future, value: 0, standing: Standing::Waiting, ticket });
        } else {
            assert_eq!(self.unfinished, 0);
        }
    }

    fn poll_join(&mut self, index: usize) {
        let joiner = &mut self.joiners[index];
        let done = joiner.standing == Standing::Dismissed;
        assert_eq!(joiner.future.poll().is_ready(), done);
        if done {
            self.joiners.remove(index);
        }
    }

    fn finish(&mut self, index: usize) {
        let taken = self.taken.remove(index);
        // Both ways, in turns.
        if taken.is_multiple_of(2) {
            drop(taken);
        } else {
            let _ = taken.into_inner();
        }
        self.unfinished -= 1;
    }

    fn put_back(&mut self, index: usize) {
        let taken = self.taken.remove(index);
        self.items.push_front(*taken);
        taken.put_back();
    }

    fn close(&mut self) {
        self.closed = true;
        self.queue.close();
        for putter in &mut self.putters {
            if putter.standing == Standing::Waiting {
                putter.standing = Standing::Dismissed;
            }
        }
    }

    fn compare(&self) {
        let now = self.queue.statistics();
        assert_eq!((now.length, now.length_max, now.unfinished), (self.items.len(), self.length_max, self.unfinished));
        assert_eq!(now.puts, self.puts);
        assert_eq!(now.unfinished, now.length + self.taken.len());
        fn woken<F: Future>(waiters: &[Waiter<F>]) -> Vec<(usize, Standing)> {
            waiters.iter().map(|waiter| (waiter.future.woken(), waiter.standing)).collect()
        }
        let all = woken(&self.putters).into_iter().chain(woken(&self.getters)).chain(woken(&self.joiners));
        for (calls, standing) in all {
            assert_eq!(
                calls,
                usize::from(standing != Standing::Waiting),
                "woken once, when there is a reason: {standing:?}"
            );
        }
    }

    /// Everybody goes on until nobody can, and the rest gives up: what was put comes out once, and nobody is forgotten.
    pub(crate) fn end(&mut self) {
        self.step(Step::Close);
        while !self.putters.is_empty() {
            self.step(Step::PollPut(0));
        }
        while !self.taken.is_empty() {
            self.step(Step::Finish(0));
        }
        // Each getter gets an item or is told that there is none; some wait for those before them.
        while !self.getters.is_empty() {
            for number in (0..self.getters.len()).rev() {
                self.step(Step::PollGet(number as u8));
            }
            while !self.taken.is_empty() {
                self.step(Step::Finish(0));
            }
        }
        while !self.items.is_empty() {
            self.step(Step::Get);
            self.step(Step::Finish(0));
        }
        while !self.joiners.is_empty() {
            self.step(Step::PollJoin(0));
        }
        assert_eq!((self.unfinished, self.puts), (0, self.queue.statistics().puts));
    }
}

fn play(capacity: usize, steps: impl IntoIterator<Item = Step>) {
    let queue = Queue::new(capacity);
    let mut world = World::new(&queue);
    for step in steps {
        world.step(step);
    }
    world.end();
}

#[test]
fn promise_every_short_history_is_that_of_the_model() {
    // At capacity 1 a waiting putter is one step away; what needs more is found by chance.
    let lengths = if cfg!(miri) { [2, 1] } else { [4, 4] };
    for (capacity, length) in (1..).zip(lengths) {
        let mut history = vec![0; length];
        loop {
            play(capacity, history.iter().map(|index| STEPS[*index]));
            let Some(place) = history.iter().rposition(|index| index + 1 < STEPS.len()) else { break };
            history[place] += 1;
            history[place + 1..].fill(0);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Put),
        6 => Just(Step::Get),
        1 => Just(Step::Join),
        4 => any::<u8>().prop_map(Step::PollPut),
        4 => any::<u8>().prop_map(Step::PollGet),
        1 => any::<u8>().prop_map(Step::PollJoin),
        2 => any::<u8>().prop_map(Step::DropPut),
        2 => any::<u8>().prop_map(Step::DropGet),
        1 => any::<u8>().prop_map(Step::DropJoin),
        4 => any::<u8>().prop_map(Step::Finish),
        1 => any::<u8>().prop_map(Step::PutBack),
    ];
    let long = prop::collection::vec(step.clone(), 0..if cfg!(miri) { 30 } else { 120 });
    let after_close = prop::collection::vec(step, 0..20);
    (long, prop::bool::ANY, after_close).prop_map(|(mut steps, close, rest)| {
        if close {
            steps.push(Step::Close);
            steps.extend(rest);
        }
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
        // Miri knows no files, and what failed is printed.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn promise_long_histories_are_those_of_the_model(capacity in 1_usize..5, steps in steps()) {
        play(capacity, steps);
    }
}
