//! The whole server in one thread: engine, network, clock and peers, decided by one seed.
//!
//! [`run`] plays one seed: a number of peers, well-behaved and not, talk to the engine over a network that injects faults, while
//! the clock is moved by hand. After every step oracles are asked; a run ends with the first that says no. The same seed
//! is the same run, to the byte.
//!
//! | file | part |
//! |---|---|
//! | `plan` | what a seed decides: settings, faults, requests, manners |
//! | `app` | a handler for each way in which handlers behave |
//! | `peer`, `answer` | what peers send, read and conclude |
//! | `oracle` | what must hold inside of the engine |
//! | `records` | what an observer is told of exchanges |
//! | `call` | one fault at the N-th call, for every N |
//!
//! It knows the engine from the inside and changes nothing there: it takes the turns itself, and looks in between.

mod answer;
mod app;
mod call;
mod oracle;
mod peer;
mod plan;
mod records;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use baiwan_driver::sim::{Decisions, Faults, SimDriver, SimNet};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;

use self::app::SimApp;
use self::peer::{Peer, Times};
use self::plan::{Asking, Manner, Plan};
use self::records::Records;
use super::{Engine, receive_area};
use crate::clock::TICK;
use crate::reload::InForce;
use crate::settings::Settings;
use crate::status::{Counts, Health, Phase, Status};

pub use self::call::{Outcomes, at_call, every_call};

/// Why a run failed.
pub(super) type Verdict = String;

/// Looks without a turn after which the engine is at rest: a task of the app may need some before it has news.
const LOOKS: usize = 5;
/// Turns that nobody has to give a reason for, in each settling: one for the clock, one for a peer, one to fall asleep.
const TURNS_FREE: u64 = 6;
/// Turns for each thing that was done.
const TURNS_PER_WORK: u64 = 3;
/// Steps in which everything comes to its end, at most.
const CALM_STEPS_MAX: usize = 800;
/// Steps in which the server's own deadlines end what peers have left open.
const END_STEPS_MAX: usize = 200;

/// What happened in a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// Connections that peers have opened.
    pub connections: u64,
    /// Requests whose head the engine has accepted.
    pub requests: u64,
    /// Answers that peers have read to their end.
    pub answered: u64,
    /// Turns of the engine.
    pub turns: u64,
    /// Stands for everything that happened, in order: equal for equal seeds.
    pub digest: u64,
}

/// Plays a seed.
///
/// # Errors
/// What did not hold, and at which step.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let decisions = Decisions::seeded(seed);
    let plan = Plan::decide(&decisions);
    World::play(plan, decisions, None, false)
}

/// Plays a seed and prints everything that happens to the standard error.
///
/// # Errors
/// As [`run`].
pub fn replay(seed: u64) -> Result<Outcome, String> {
    let decisions = Decisions::seeded(seed);
    let plan = Plan::decide(&decisions);
    eprintln!("{plan:#?}");
    World::play(plan, decisions, None, true)
}

/// Plays what bytes decide, for fuzzers.
///
/// # Panics
/// When something does not hold.
pub fn run_bytes(bytes: &[u8]) {
    let decisions = Decisions::from_bytes(bytes);
    let plan = Plan::decide(&decisions);
    if let Err(why) = World::play(plan, decisions, None, false) {
        panic!("{why}");
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 80))
}

/// What the engine's task and the world share.
#[derive(Default)]
struct Shared {
    engine: RefCell<Option<Engine<SimDriver, SimApp>>>,
    turns: Cell<u64>,
    /// The first thing that did not hold after a turn.
    broken: RefCell<Option<Verdict>>,
    /// The largest frame that the app was asked for.
    frame_bytes: Cell<usize>,
}

struct World {
    plan: Plan,
    decisions: Decisions,
    net: SimNet,
    status: Arc<Status>,
    health: Health,
    shared: Rc<Shared>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    app: SimApp,
    records: Arc<Records>,
    peers: Vec<Peer>,
    opened: usize,
    next_id: u32,
    stopped: Option<Instant>,
    /// It was told to stop at once.
    cut: bool,
    /// Nothing delays what the engine is told of a connection but what the connection knows itself.
    punctual: bool,
    /// When the clock last leapt over a whole write timeout.
    leapt: Option<Instant>,
    trace: bool,
}

impl World {
    /// Plays a plan from beginning to end.
    fn play(plan: Plan, decisions: Decisions, faults: Option<Faults>, trace: bool) -> Result<Outcome, String> {
        Self::play_and(plan, decisions, faults, trace, |_| ()).map(|(outcome, ())| outcome)
    }

    /// As `play`; also asks the network something at the end.
    fn play_and<T>(
        plan: Plan,
        decisions: Decisions,
        faults: Option<Faults>,
        trace: bool,
        ask: impl FnOnce(&SimNet) -> T,
    ) -> Result<(Outcome, T), String> {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build_local(LocalOptions::default());
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let punctual = faults.is_none() && plan.rates.exhausted == 0;
            let faults = faults.unwrap_or_else(|| Faults::at_random(decisions.fork(), plan.rates));
            let mut world = World::start(plan, decisions, faults, trace);
            world.punctual = punctual;
            let outcome = world.live().await;
            world.print_trace();
            world.say(|| format!("{:?}", world.counts()));
            Ok((outcome?, ask(&world.net)))
        })
    }

    fn start(plan: Plan, decisions: Decisions, faults: Faults, trace: bool) -> Self {
        let net = SimNet::new(plan.inbox_bytes_max);
        net.set_faults(faults);
        if trace {
            net.start_trace();
        }
        let status = Status::with(plan.settings.bounds(), 1, plan.connections_max, u64::MAX);
        let app = SimApp::default();
        let records = Arc::new(Records::default());
        let observer = plan.observed.then(|| records.observer());
        let settings = Settings { observer, ..plan.settings.clone() };
        let in_force = InForce::new(Arc::new(settings.in_force()));
        let bound = vec![net.bind(address())];
        let engine = Engine::new(net.driver(), app.clone(), &in_force, Arc::clone(&status), 0, bound);
        let shared = Rc::new(Shared::default());
        *shared.engine.borrow_mut() = Some(engine.expect("the network has nothing against a listener"));
        let task = tokio::task::spawn_local(take_turns(Rc::clone(&shared)));
        status.advance(Phase::Serving);
        let health = Health(Arc::new(OnceLock::new()));
        let _ = health.0.set(Arc::clone(&status));
        Self {
            plan,
            decisions,
            net,
            status,
            health,
            shared,
            task,
            app,
            records,
            peers: Vec::new(),
            opened: 0,
            next_id: 0,
            stopped: None,
            cut: false,
            punctual: true,
            leapt: None,
            trace,
        }
    }

    async fn live(&mut self) -> Result<Outcome, Verdict> {
        for step in 0..self.plan.steps {
            self.step(step).await.map_err(|why| format!("{why} (step {step})"))?;
        }
        self.calm().await.map_err(|why| format!("{why} (when all was calm)"))?;
        self.end().await.map_err(|why| format!("{why} (at the end)"))?;
        let mut hasher = DefaultHasher::new();
        let counts = self.counts();
        let answered = self.peers.iter().map(|peer| peer.answered).sum();
        for number in counts.closed.iter().map(|(_, count)| *count).chain([self.net.digest(), answered]) {
            hasher.write_u64(number);
        }
        Ok(Outcome {
            connections: self.opened as u64,
            requests: counts.requests,
            answered,
            turns: self.shared.turns.get(),
            digest: hasher.finish(),
        })
    }

    /// One step: peers act, then time passes.
    async fn step(&mut self, step: usize) -> Result<(), Verdict> {
        self.say(|| format!("-- step {step}"));
        self.net.step();
        if self.plan.stop_at == Some(step) {
            self.stop();
        }
        if self.plan.cut_at == Some(step) {
            self.stop();
            self.cut = true;
            self.status.advance(Phase::Stopping);
        }
        self.open_peers();
        self.act(step);
        self.settle().await?;
        self.look(Duration::ZERO).await?;
        self.pass(self.next_time()).await
    }

    fn stop(&mut self) {
        self.say(|| "STOP".to_owned());
        self.stopped.get_or_insert(Instant::now());
        self.status.advance(Phase::Draining);
    }

    fn open_peers(&mut self) {
        while self.opened < self.plan.peers && !self.decisions.chance(600) {
            let Ok(sim) = self.net.connect(address()) else { return };
            self.say(|| format!("peer {} opens {}", self.opened, sim.place()));
            let manner = Manner::decide(&self.decisions, &self.plan);
            self.say(|| format!("{manner:?}"));
            self.peers.push(Peer::new(self.opened, sim, manner, Instant::now()));
            self.opened += 1;
        }
    }

    fn act(&mut self, step: usize) {
        let Self { peers, decisions, plan, next_id, shared, trace, .. } = self;
        for peer in peers {
            let mut make = |manner: &Manner| -> Asking {
                *next_id += 1;
                let rude = plan.rude > 0 && (manner.mishap.is_some() || decisions.chance(plan.rude));
                let asking = plan::request(decisions, *next_id, plan.inbox_bytes_max, rude);
                if *trace {
                    let line = asking.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                    eprintln!("asks for {} ({:?})", String::from_utf8_lossy(line), asking.expect);
                }
                shared.frame_bytes.set(shared.frame_bytes.get().max(asking.frame_bytes));
                asking
            };
            peer.act(step, decisions, Instant::now(), &mut make);
        }
    }

    /// How long the next step lasts.
    fn next_time(&self) -> Duration {
        let decisions = &self.decisions;
        let ms = match () {
            () if self.plan.jumps && decisions.chance(30) => decisions.within(60_000..=600_000),
            () if self.plan.slow && decisions.chance(200) => decisions.one_of(&[64, 200, 1100, 3000, 31_000]),
            () => decisions.one_of(&[1, 0, 5, 20]),
        };
        Duration::from_millis(ms as u64)
    }

    async fn pass(&mut self, time: Duration) -> Result<(), Verdict> {
        if time.is_zero() {
            return Ok(());
        }
        self.say(|| format!("-- {time:?} pass"));
        tokio::time::advance(time).await;
        if self.plan.settings.write_timeout.is_some_and(|timeout| time >= timeout) {
            self.leapt = Some(Instant::now());
        }
        self.settle().await?;
        self.look(time).await
    }

    /// Lets everything run that can run without time passing. A server that does not come to rest, spins.
    async fn settle(&mut self) -> Result<(), Verdict> {
        let turns = || self.shared.turns.get();
        let done = || self.net.work() + self.app.work.get();
        let (turns_before, done_before) = (turns(), done());
        let mut looks = 0;
        while looks < LOOKS {
            let before = turns();
            tokio::task::yield_now().await;
            looks = if turns() == before { looks + 1 } else { 0 };
            let (taken, work) = (turns() - turns_before, done() - done_before);
            if taken > TURNS_FREE + TURNS_PER_WORK * work {
                return Err(format!("{taken} turns for {work} things to do"));
            }
        }
        if let Some(why) = self.shared.broken.borrow_mut().take() {
            return Err(why);
        }
        self.print_trace();
        if self.task.is_finished() {
            return self.judge_task().await;
        }
        let engine = self.shared.engine.borrow();
        let engine = engine.as_ref().expect("the task has not ended");
        if self.plan.observed {
            self.records.judge(oracle::open_records(engine), self.status.cores[0].requests.load(Relaxed))?;
        }
        oracle::at_rest(engine, &self.net, engine.terms.clock.tick())
    }

    async fn judge_task(&mut self) -> Result<(), Verdict> {
        if self.stopped.is_none() || self.shared.engine.borrow().is_some() {
            let task = std::mem::replace(&mut self.task, tokio::task::spawn_local(async { Ok(()) }));
            return Err(format!("the engine has ended: {:?}", task.await));
        }
        Ok(())
    }

    /// Peers read until there is nothing more, and judge.
    async fn look(&mut self, step: Duration) -> Result<(), Verdict> {
        for _ in 0..LOOKS {
            let mut any = false;
            for at in 0..self.peers.len() {
                any |= self.ask(at, |peer, times| peer.look(times), step)?;
            }
            if !any {
                break;
            }
            self.settle().await?;
        }
        (0..self.peers.len()).try_for_each(|at| self.ask(at, |peer, times| peer.judge_patience(times), step))
    }

    /// Asks one peer what it makes of what has happened.
    fn ask<T>(
        &mut self,
        at: usize,
        question: impl FnOnce(&mut Peer, &Times<'_>) -> Result<T, Verdict>,
        step: Duration,
    ) -> Result<T, Verdict> {
        let times = Times {
            now: Instant::now(),
            settings: &self.plan.settings,
            stopped: self.stopped,
            cut: self.cut,
            inbox_bytes_max: self.plan.inbox_bytes_max,
            crowded: self.plan.connections_max < self.plan.peers as u64,
            slack: TICK + step,
            agains: self.plan.rates.again > 0,
            punctual: self.punctual,
            leapt: self.leapt,
        };
        let peer = &mut self.peers[at];
        question(peer, &times).map_err(|why| format!("peer {}: {why}", peer.name))
    }

    /// No more faults; everybody finishes what was begun.
    async fn calm(&mut self) -> Result<(), Verdict> {
        self.net.calm();
        self.peers.iter_mut().for_each(Peer::calm);
        for step in 0..CALM_STEPS_MAX {
            if !self.peers.iter().any(Peer::is_busy) {
                break;
            }
            self.act(self.plan.steps + step);
            self.settle().await?;
            self.look(Duration::ZERO).await?;
            // At first in small steps; for answers that take their time, in larger ones.
            let ms = if step < CALM_STEPS_MAX / 2 { 25 } else { 200 };
            self.pass(Duration::from_millis(ms)).await?;
        }
        for peer in &self.peers {
            peer.judge_calm().map_err(|why| format!("peer {}: {why}", peer.name))?;
        }
        Ok(())
    }

    /// Peers leave, or stay until the server is tired of them; then nothing is left.
    async fn end(&mut self) -> Result<(), Verdict> {
        let timeouts = &self.plan.settings;
        let patient = timeouts.keep_alive_timeout.is_some_and(|timeout| timeout < Duration::from_secs(10));
        if !patient || self.decisions.chance(500) {
            self.peers.iter_mut().for_each(Peer::leave);
        }
        if self.decisions.chance(500) {
            self.stop();
        }
        for step in 0..END_STEPS_MAX {
            if self.is_empty() && (self.stopped.is_none() || self.task.is_finished()) {
                break;
            }
            // A peer that waits for an answer for ever, or never reads one, goes at last.
            if step == END_STEPS_MAX / 2 {
                self.peers.iter_mut().for_each(Peer::leave);
            }
            // Handlers that never answer outlive peers that may only have ended their direction; not the server.
            if step == END_STEPS_MAX * 3 / 4 && self.plan.settings.half_close && self.counts().exchanges > 0 {
                self.stop();
            }
            let ms = if step < END_STEPS_MAX / 2 { 150 } else { 1000 };
            self.pass(Duration::from_millis(ms)).await?;
        }
        self.settle().await?;
        oracle::at_end(&self.counts())?;
        if self.plan.observed {
            self.records.judge(0, self.counts().requests)?;
        }
        self.peers.iter_mut().for_each(Peer::leave);
        self.settle().await?;
        match (self.net.endpoints(), self.stopped.is_some() && !self.task.is_finished()) {
            (0, false) => Ok(()),
            (endpoints, running) => Err(format!("{endpoints} endpoints are left; still running: {running}")),
        }
    }

    /// Whether the engine has no connection, not even one that is turned away or waits to be accepted.
    fn is_empty(&self) -> bool {
        let peers = self.peers.iter().filter(|peer| peer.sim.is_some()).count();
        self.net.endpoints() == peers
            && self.shared.engine.borrow().as_ref().is_none_or(|engine| engine.table.len() == 0)
    }

    fn counts(&self) -> Counts {
        self.health.counts()
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", what());
        }
    }

    fn print_trace(&self) {
        for line in self.net.take_trace() {
            eprintln!("   {line}");
        }
    }
}

/// The engine's task: as `Engine::run`, with a look after every turn.
async fn take_turns(shared: Rc<Shared>) -> std::io::Result<()> {
    let mut area = receive_area();
    std::future::poll_fn(|cx| {
        shared.turns.set(shared.turns.get() + 1);
        let mut place = shared.engine.borrow_mut();
        let Some(engine) = &mut *place else { return Poll::Ready(Ok(())) };
        let polled = engine.turn(&mut area, cx);
        if let Err(why) = oracle::after_turn(engine, shared.frame_bytes.get()) {
            shared.broken.borrow_mut().get_or_insert(why);
        }
        if polled.is_ready() {
            *place = None;
        }
        polled
    })
    .await
}
