//! A clock that wakes a driver at a moment, to some microseconds.
//!
//! Tokio's timers have a resolution of a millisecond, which is longer than many a latency that is to be measured. This one is a
//! `timerfd` among the driver's sockets. It is *not* a timer wheel: it knows one moment at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A clock of [`EpollDriver::add_alarm`](crate::epoll::EpollDriver::add_alarm). Dropping it ends its events.
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Fires once, after the given duration; 0 is as soon as possible. A moment that was set before and has not come is forgotten.
    ///
    /// # Errors
    /// What the system says about a time that it cannot represent.
    pub fn ring_in(&self, duration: Duration) -> io::Result<()> {
        // All zero would disarm it.
        let duration = duration.max(Duration::from_nanos(1));
        let moment = Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: moment })?;
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
