//! The task of one slot: it connects, keeps the session while it is good, and begins again.
//!
//! ```text
//!   connect ─► in use ─► condemned by an error ─► what is on its way ends ─┐
//!      ▲        ▲  │                                                       │
//!      │        │  └── silent: out of use, asked ─► no answer, cancelled ──┤
//!      │        └── it answers ──┘                                         │
//!      └── wait, longer each time, at random ◄── the connection ended ◄────┘
//! ```
//!
//! A caller that gives up is the sign to ask the server whether it is there: after a failover a connection may stay that nobody
//! answers on. Invariant: a slot has one connection at a time, and none is replaced in a hurry: a server that hangs goes on with
//! what it was given, so that every replacement would be one more that hangs.

use std::sync::Arc;
use std::time::Duration;

use baiwan_task::{TimedOut, timeout};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::backoff::Backoff;
use super::connect::{self, NoSession};
use super::endpoint::{Driver, drive};
use super::session::{Condemned, Session};
use super::slots::Tenure;
use crate::store::PATIENCE;

/// A session that was asked and does not answer is taken out of use after this. A server that lives is back by then: it gives up
/// a statement earlier.
const ASK_MAX: Duration = PATIENCE;
/// It is closed if it does not answer for this time after that.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time for asking the server to give up what it is doing.
const CANCEL_MAX: Duration = Duration::from_secs(1);
/// After this time a session was good, and its end is the first failure of a new series.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Why a session is out of use.
enum Fault {
    /// The connection has ended.
    Lost(String),
    /// It must not be used any more.
    Condemned(Condemned),
    /// The server does not answer.
    Silent(TimedOut),
}

/// Keeps the slot connected for as long as it is polled.
pub(super) async fn keep(shared: Arc<Shared>, slot: usize) {
    let tenure = shared.slots.tenure(slot);
    let mut backoff = Backoff::default();
    loop {
        let verdicts = tenure.verdicts();
        match connect::session(&shared.endpoint, &shared.opened).await {
            Ok((session, connection)) => {
                let begin = Instant::now();
                serve(&shared, &tenure, Arc::new(session), connection, verdicts).await;
                if begin.elapsed() >= PROVEN_AFTER {
                    backoff = Backoff::default();
                }
            }
            Err(NoSession::Failed(reason)) => tenure.fail(&reason),
            Err(NoSession::Refused(refusal)) => tenure.refuse(refusal),
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Has the session used until its connection has ended, or has to.
async fn serve(shared: &Shared, tenure: &Tenure<'_>, session: Arc<Session>, mut connection: Driver, verdicts: u64) {
    loop {
        let fault = match tenure.publish(&session, verdicts) {
            Ok(()) => watch(&session, &mut connection).await,
            Err(condemned) => Fault::Condemned(condemned),
        };
        match fault {
            Fault::Lost(reason) => {
                tenure.withdraw(&reason);
                return;
            }
            Fault::Condemned(condemned) => {
                tenure.withdraw(&condemned.reason);
                if condemned.has_forgotten {
                    shared.endpoint.suspect_pooler();
                    // They have not forgotten anything themselves, or each would condemn all others in its turn.
                    shared.slots.condemn(&Condemned { has_forgotten: false, ..condemned });
                }
                // With the last of those who wait for an answer the connection ends.
                drop(session);
                let _ = timeout("the end of a connection", PATIENCE, connection).await;
                return;
            }
            Fault::Silent(late) => {
                tenure.fail(&late.to_string());
                let asked = drive(&mut connection, timeout("an answer", SILENCE_MAX, session.ask())).await;
                if !matches!(asked, Ok(Ok(Ok(())))) {
                    let tls = shared.endpoint.tls();
                    // It may wait for a standby, with a commit that the server would wait for long after the connection is gone.
                    let _ = timeout("a cancellation", CANCEL_MAX, session.cancel_token().cancel_query(tls)).await;
                    return;
                }
            }
        }
    }
}

/// Drives the connection of a session that is in use, until it must not be.
async fn watch(session: &Session, connection: &mut Driver) -> Fault {
    loop {
        if let Err(reason) = drive(connection, session.attention()).await {
            return Fault::Lost(reason);
        }
        if let Some(condemned) = session.condemned() {
            return Fault::Condemned(condemned);
        }
        match drive(connection, timeout("an answer", ASK_MAX, session.ask())).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Fault::Condemned(Condemned::by(&error)),
            Ok(Err(late)) => return Fault::Silent(late),
            Err(reason) => return Fault::Lost(reason),
        }
    }
}
