//! Waiting: a lane that has nothing to do sleeps, or looks about for a moment first.
//!
//! Being woken costs more than all that a lane does for one frame: an idle virtual CPU takes 20 to 50 us to come back. In a dialogue,
//! where one frame answers the other, a lane that looks again and again finds the answer sooner than one that is woken for it. It
//! does so only where that promises to pay:
//!
//! - the wait before was as short as the time that it looks, or a look found something (a stream of one frame a millisecond never spins);
//! - frames went both ways lately, and little was moved (a bulk transfer gains nothing from it: its batches get larger by waiting);
//! - nobody else wants the CPU. It is offered to others between two looks; if that takes long, somebody does, and then a thread that
//!   sleeps is served sooner than one that yields, for the scheduler lets it in as soon as it is woken.

use crate::io::event::Epoll;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Bytes moved in a turn from which on it is bulk.
const BULK: u64 = 16 * 1024;
/// Waits after bulk in which there is no looking about: the acknowledgements of a bulk transfer are few bytes, too.
const AFTER_BULK: u32 = 64;
/// How long there is no looking about after somebody else wanted the CPU: twice as long each time, and half as long again after so many
/// looks that found something.
const CROWDED: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(128);
const FINDS: u32 = 256;

/// Which ways frames went in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// From a TAP.
    pub out: bool,
    /// From a socket.
    pub into: bool,
}

/// What a lane knows of its waits.
#[derive(Default)]
pub struct Waiting {
    /// The wait before was so short that a look would have found something.
    short: bool,
    /// Of the turn before.
    before: Ways,
    /// Bytes that the lane had moved at the wait before.
    moved: u64,
    bulk: u32,
    /// Until when others have the CPU, and how long that was the last time.
    crowded: Option<Instant>,
    pause: Duration,
    finds: u32,
}

impl Waiting {
    /// Waits until descriptors are ready and puts their numbers into `ready`, with whether they only report an error; says how long it
    /// looked about, at most `spin`, before it found something or slept.
    ///
    /// `ways` are those of the turn that ends, `moved` are the lane's bytes so far.
    pub fn wait(&mut self, epoll: &mut Epoll, ready: &mut Vec<(u64, bool)>, ways: Ways, moved: u64, spin: Duration) -> Duration {
        let began = Instant::now();
        let mut looked = Duration::ZERO;
        if self.promises(ways, moved, began) && !spin.is_zero() {
            looked = self.look(epoll, ready, began, spin);
            if !ready.is_empty() {
                return looked;
            }
        }
        let slept = if looked.is_zero() { began } else { Instant::now() };
        ready.extend(epoll.wait(-1));
        self.short = looked.is_zero() && slept.elapsed() < spin;
        looked
    }

    fn look(&mut self, epoll: &mut Epoll, ready: &mut Vec<(u64, bool)>, began: Instant, spin: Duration) -> Duration {
        let mut now = began;
        loop {
            ready.extend(epoll.wait(0));
            let looked = now.duration_since(began);
            if !ready.is_empty() {
                self.found();
                return looked;
            }
            if looked >= spin {
                return looked;
            }
            let offered = now;
            std::thread::yield_now();
            now = Instant::now();
            if now.duration_since(offered) >= spin {
                self.pause = (self.pause * 2).clamp(*CROWDED.start(), *CROWDED.end());
                self.crowded = Some(now + self.pause);
            }
        }
    }

    fn found(&mut self) {
        self.finds += 1;
        if self.finds == FINDS {
            self.finds = 0;
            self.pause /= 2;
        }
    }

    fn promises(&mut self, ways: Ways, moved: u64, now: Instant) -> bool {
        let both = (ways.out || self.before.out) && (ways.into || self.before.into);
        self.before = ways;
        self.bulk = if moved.wrapping_sub(self.moved) >= BULK { AFTER_BULK } else { self.bulk.saturating_sub(1) };
        self.moved = moved;
        self.crowded = self.crowded.filter(|until| now < *until);
        self.short && both && self.bulk == 0 && self.crowded.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Ways = Ways { out: true, into: false };
    const INTO: Ways = Ways { out: false, into: true };

    /// After a short wait, at time zero.
    fn short() -> (Waiting, Instant) {
        (Waiting { short: true, ..Waiting::default() }, Instant::now())
    }

    #[test]
    fn a_dialogue_promises_an_answer_and_a_stream_does_not() {
        let (mut waiting, now) = short();
        assert!(!waiting.promises(OUT, 100, now), "one way only so far");
        assert!(waiting.promises(INTO, 200, now));
        assert!(waiting.promises(OUT, 300, now));
        assert!(!waiting.promises(OUT, 400, now));
        assert!(waiting.promises(Ways { out: true, into: true }, 500, now));
        waiting.short = false;
        assert!(!waiting.promises(INTO, 600, now), "the wait before was long");
    }

    #[test]
    fn there_is_no_looking_about_for_a_while_after_bulk() {
        let (mut waiting, now) = short();
        waiting.promises(OUT, 0, now);
        assert!(!waiting.promises(INTO, BULK, now));
        let ways = [OUT, INTO].into_iter().cycle();
        let quiet = ways.take_while(|ways| !waiting.promises(*ways, BULK, now)).count();
        assert_eq!(quiet, AFTER_BULK as usize - 1);
    }

    #[test]
    fn nor_for_a_while_after_somebody_else_wanted_the_cpu() {
        let (mut waiting, now) = short();
        waiting.crowded = Some(now + *CROWDED.start());
        waiting.promises(OUT, 0, now);
        assert!(!waiting.promises(INTO, 0, now + *CROWDED.start() / 2));
        assert!(waiting.promises(OUT, 0, now + *CROWDED.start()));
    }

    #[test]
    fn looking_ends_when_there_is_something_or_the_time_is_over() {
        let spin = Duration::from_millis(2);
        let mut epoll = Epoll::new(4).unwrap();
        let waker = crate::io::event::Waker::new().unwrap();
        epoll.add(waker.fd(), 7).unwrap();
        let mut ready = Vec::new();
        let (mut waiting, began) = short();
        assert!(waiting.look(&mut epoll, &mut ready, began, spin) >= spin);
        assert!(ready.is_empty());
        waker.wake();
        waiting.look(&mut epoll, &mut ready, Instant::now(), spin);
        assert_eq!(ready, [(7, false)]);
    }

    #[test]
    fn a_wait_that_ends_at_once_was_short_and_a_look_in_vain_was_not() {
        let spin = Duration::from_secs(1);
        let mut epoll = Epoll::new(4).unwrap();
        let waker = crate::io::event::Waker::new().unwrap();
        epoll.add(waker.fd(), 7).unwrap();
        waker.wake();
        let mut waiting = Waiting::default();
        let mut ready = Vec::new();
        assert_eq!(waiting.wait(&mut epoll, &mut ready, OUT, 0, spin), Duration::ZERO);
        assert!(waiting.short);
        waiting.wait(&mut epoll, &mut ready, INTO, 0, Duration::ZERO);
        assert!(!waiting.short, "nothing is short where there is no looking about");
    }
}
