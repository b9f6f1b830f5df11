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

use crate::counters::Counter;
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

/// What a lane did in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Took frames from a TAP.
    pub out: bool,
    /// Took datagrams from a socket.
    pub into: bool,
    /// Bytes that the lane had moved at its end since it started.
    pub moved: u64,
}

/// What a lane knows of its waits.
#[derive(Default)]
pub struct Waiting {
    /// The wait before was so short that a look would have found something.
    short: bool,
    before: Turn,
    /// Waits left until bulk is forgotten.
    bulk: u32,
    /// Until when others have the CPU, and how long that was the last time.
    crowded: Option<Instant>,
    pause: Duration,
    finds: u32,
}

impl Waiting {
    /// Waits until descriptors are ready and puts their numbers into `ready`, with whether they only report an error. It looks about for
    /// at most `spin` before it sleeps, and counts that in `spun_us`. `turn` is the one that has ended.
    pub fn wait(&mut self, epoll: &mut Epoll, ready: &mut Vec<(u64, bool)>, turn: Turn, spin: Duration, spun_us: &Counter) {
        let began = Instant::now();
        let mut slept = began;
        let promising = self.promises(turn, began) && !spin.is_zero();
        if promising {
            slept = self.look(epoll, ready, began, spin);
            spun_us.add(slept.duration_since(began).as_micros() as u64);
            if !ready.is_empty() {
                return;
            }
        }
        ready.extend(epoll.wait(-1));
        self.short = !promising && slept.elapsed() < spin;
    }

    /// When it found something, or gave up.
    fn look(&mut self, epoll: &mut Epoll, ready: &mut Vec<(u64, bool)>, began: Instant, spin: Duration) -> Instant {
        let mut now = began;
        loop {
            ready.extend(epoll.wait(0));
            if !ready.is_empty() {
                self.found();
                return now;
            }
            if now.duration_since(began) >= spin {
                return now;
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

    fn promises(&mut self, turn: Turn, now: Instant) -> bool {
        let both = (turn.out || self.before.out) && (turn.into || self.before.into);
        let bytes = turn.moved.wrapping_sub(self.before.moved);
        self.bulk = if bytes >= BULK { AFTER_BULK } else { self.bulk.saturating_sub(1) };
        self.crowded = self.crowded.filter(|until| now < *until);
        self.before = turn;
        self.short && both && self.bulk == 0 && self.crowded.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::event::Waker;

    const OUT: Turn = Turn { out: true, into: false, moved: 0 };
    const INTO: Turn = Turn { out: false, into: true, moved: 0 };

    /// After a short wait, at time zero.
    fn short() -> (Waiting, Instant) {
        (Waiting { short: true, ..Waiting::default() }, Instant::now())
    }

    fn waker() -> (Epoll, Waker) {
        let epoll = Epoll::new(4).unwrap();
        let waker = Waker::new().unwrap();
        epoll.add(waker.fd(), 7).unwrap();
        (epoll, waker)
    }

    #[test]
    fn a_dialogue_promises_an_answer_and_a_stream_does_not() {
        let (mut waiting, now) = short();
        assert!(!waiting.promises(OUT, now), "one way only so far");
        assert!(waiting.promises(INTO, now));
        assert!(waiting.promises(OUT, now));
        assert!(!waiting.promises(OUT, now));
        assert!(waiting.promises(Turn { out: true, into: true, moved: 0 }, now));
        waiting.short = false;
        assert!(!waiting.promises(INTO, now), "the wait before was long");
    }

    #[test]
    fn there_is_no_looking_about_for_a_while_after_bulk() {
        let (mut waiting, now) = short();
        waiting.promises(OUT, now);
        assert!(!waiting.promises(Turn { moved: BULK, ..INTO }, now));
        let turns = [OUT, INTO].into_iter().cycle().map(|turn| Turn { moved: BULK, ..turn });
        let quiet = turns.take_while(|turn| !waiting.promises(*turn, now)).count();
        assert_eq!(quiet, AFTER_BULK as usize - 1);
    }

    #[test]
    fn nor_for_a_while_after_somebody_else_wanted_the_cpu() {
        let (mut waiting, now) = short();
        waiting.crowded = Some(now + *CROWDED.start());
        waiting.promises(OUT, now);
        assert!(!waiting.promises(INTO, now + *CROWDED.start() / 2));
        assert!(waiting.promises(OUT, now + *CROWDED.start()));
    }

    #[test]
    fn looking_ends_when_there_is_something_or_the_time_is_over() {
        let spin = Duration::from_millis(2);
        let (mut epoll, waker) = waker();
        let mut ready = Vec::new();
        let (mut waiting, began) = short();
        assert!(waiting.look(&mut epoll, &mut ready, began, spin) - began >= spin);
        assert!(ready.is_empty());
        waker.wake();
        waiting.look(&mut epoll, &mut ready, Instant::now(), spin);
        assert_eq!(ready, [(7, false)]);
    }

    #[test]
    fn a_wait_that_ends_at_once_was_short_and_with_no_time_to_look_it_sleeps() {
        let (mut epoll, waker) = waker();
        waker.wake();
        let (mut waiting, spun) = (Waiting::default(), Counter::default());
        let mut ready = Vec::new();
        waiting.wait(&mut epoll, &mut ready, OUT, Duration::from_secs(1), &spun);
        assert!(waiting.short);
        waiting.wait(&mut epoll, &mut ready, INTO, Duration::ZERO, &spun);
        assert!(!waiting.short, "nothing is short where there is no looking about");
        assert_eq!((ready.len(), spun.get()), (2, 0));
    }
}
