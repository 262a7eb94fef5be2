//! Operations that are given up at each of their await points, in each state of the queue, while others go on.
//!
//! A case is an operation, a state, what others do between its polls, and after how many polls it is dropped. Beside it somebody
//! else waits for the same thing, who must not be forgotten. In the end everything is taken out: what was put must be there
//! once, in order, and what was not put must not.

use std::task::Poll;

use baiwan_task::{Drained, Queue, Taken};

use crate::by_hand::{AtOnce, Polled, polled};

const CAPACITY: usize = 2;
const POLLS_MAX: usize = 4;
/// What the operation puts; others put smaller ones.
const OWN: u32 = 100;

/// What others do between two polls.
#[derive(Clone, Copy, Debug)]
enum Other {
    Nothing,
    Puts,
    Takes,
    PutsBack,
    Finishes,
    Closes,
}

const OTHERS: [Other; 6] = [Other::Nothing, Other::Puts, Other::Takes, Other::PutsBack, Other::Finishes, Other::Closes];

/// What is given up. Each takes its turn at the queue several times, so there are several places to give it up.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Put,
    Get,
    Join,
    /// Takes one, and puts it back later.
    GetAndPutBack,
    /// Takes one, puts a new one, and finishes the first.
    GetAndPut,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Put, Operation::Get, Operation::Join, Operation::GetAndPutBack, Operation::GetAndPut];

/// What the operation has done, even if it was given up after that.
#[derive(Default)]
struct Done {
    put: std::cell::Cell<bool>,
    took: std::cell::Cell<Option<u32>>,
}

async fn operate(operation: Operation, queue: &Queue<u32>, done: &Done) {
    let get = async || {
        let taken = queue.get().await?;
        done.took.set(Some(*taken));
        Ok::<_, Drained>(taken)
    };
    let put = async || done.put.set(queue.put(OWN).await.is_ok());
    match operation {
        Operation::Put => put().await,
        Operation::Get => drop(get().await),
        Operation::Join => queue.join().await,
        Operation::GetAndPutBack => {
            if let Ok(taken) = get().await {
                tokio::task::yield_now().await;
                done.took.set(None);
                taken.put_back();
            }
        }
        Operation::GetAndPut => {
            let taken = get().await;
            put().await;
            drop(taken);
        }
    }
}

/// What is known from outside.
struct Around<'a> {
    queue: &'a Queue<u32>,
    /// What is in the queue or held, in the order in which it was put.
    put: Vec<u32>,
    held: Vec<Taken<'a, u32>>,
    finished: Vec<u32>,
    next: u32,
}

impl Around<'_> {
    fn act(&mut self, other: Other) {
        match other {
            Other::Nothing => {}
            Other::Puts => {
                if self.queue.put_at_once(self.next) {
                    self.put.push(self.next);
                }
                self.next += 1;
            }
            Other::Takes => self.held.extend(self.queue.get_at_once()),
            Other::PutsBack => {
                if let Some(taken) = self.held.pop() {
                    taken.put_back();
                }
            }
            Other::Finishes => self.finished.extend(self.held.pop().map(Taken::into_inner)),
            Other::Closes => self.queue.close(),
        }
    }
}

fn expect_ready<F: Future>(future: &mut Polled<F>, what: &str) -> F::Output {
    assert!(future.woken() > 0, "{what} was forgotten");
    match future.poll() {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("{what} waits though it was woken"),
    }
}

/// One case; see the module's comment.
fn give_up(operation: Operation, filled: usize, held: usize, others: &[Other], polls: usize) {
    let queue = Queue::new(CAPACITY);
    let mut around = Around { queue: &queue, put: Vec::new(), held: Vec::new(), finished: Vec::new(), next: 1 };
    for _ in 0..held {
        around.act(Other::Puts);
        around.act(Other::Takes);
    }
    for _ in 0..filled {
        around.act(Other::Puts);
    }
    let done = Done::default();
    let mut given_up = polled(operate(operation, &queue, &done));
    let (mut getter, mut putter) = (polled(queue.get()), polled(queue.put(OWN + 1)));
    let mut getter_came = None;
    let mut putter_came = None;
    for poll in 0..polls {
        if given_up.poll().is_ready() {
            break;
        }
        if poll == 0 {
            // Behind the first, if that waits.
            getter_came = Some(getter.poll());
            putter_came = Some(putter.poll());
        }
        around.act(others[poll % others.len()]);
    }
    drop(given_up);
    if matches!(getter_came, Some(Poll::Pending)) && getter.woken() == 0 {
        assert!(queue.statistics().length == 0, "the getter was forgotten");
    }
    if matches!(putter_came, Some(Poll::Pending)) && putter.woken() == 0 {
        assert!(queue.statistics().length >= CAPACITY, "the putter was forgotten");
    }
    queue.close();
    if matches!(getter_came, Some(Poll::Pending)) {
        getter_came = Some(Poll::Ready(expect_ready(&mut getter, "the getter")));
    }
    if matches!(putter_came, Some(Poll::Pending)) {
        putter_came = Some(Poll::Ready(expect_ready(&mut putter, "the putter")));
    }
    if let Some(Poll::Ready(Ok(()))) = putter_came {
        around.put.push(OWN + 1);
    }
    if done.put.get() {
        around.put.push(OWN);
    }
    let beside_got = match getter_came {
        Some(Poll::Ready(Ok(taken))) => Some(taken),
        _ => None,
    };
    around.held.extend(beside_got);
    around.finished.extend(around.held.drain(..).map(Taken::into_inner));
    around.finished.extend(done.took.get());
    while let Some(taken) = queue.get_at_once() {
        around.finished.push(taken.into_inner());
    }
    around.finished.sort_unstable();
    around.put.sort_unstable();
    assert_eq!(around.finished, around.put);
    assert_eq!(queue.statistics().unfinished, 0);
    assert_eq!(queue.statistics().puts, around.put.len() as u64);
    polled(queue.join()).ready();
}

#[test]
fn promise_whenever_an_operation_is_given_up_no_item_is_lost_or_doubled_and_nobody_forgotten() {
    let histories: Vec<[Other; 3]> = OTHERS
        .into_iter()
        .flat_map(|a| OTHERS.into_iter().flat_map(move |b| OTHERS.into_iter().map(move |c| [a, b, c])))
        .step_by(if cfg!(miri) { 61 } else { 1 })
        .collect();
    for operation in OPERATIONS {
        for (filled, held) in [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2)] {
            for others in &histories {
                for polls in 0..=POLLS_MAX {
                    give_up(operation, filled, held, others, polls);
                }
            }
        }
    }
}
