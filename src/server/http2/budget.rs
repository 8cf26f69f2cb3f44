//! What a client may send on one HTTP/2 connection besides requests.
//!
//! The library ends a connection over resets it has not handed on yet, endless heads and small pieces of bodies. Frames that
//! belong to no request (settings, pings, windows, priorities, what nobody knows) it answers or ignores for ever, and a request
//! that is reset after it was handed on costs its client nothing there. Both are counted here: a frame takes a token, time
//! brings some back, and so does every piece that the client is sent, since whoever reads much has windows to open.

use crate::engine::Nanos;
use crate::frames::Kind;

/// Tokens that come and go.
#[derive(Debug)]
struct Tokens {
    left: u32,
    most: u32,
    a_second: u64,
    /// When time last brought some back.
    since: Nanos,
}

impl Tokens {
    fn new(most: u32, a_second: u64, since: Nanos) -> Tokens {
        Tokens { left: most, most, a_second, since }
    }

    /// Takes one; false when there is none. The time is asked for only then, and mostly never.
    fn take(&mut self, now: impl FnOnce() -> Nanos) -> bool {
        if self.left == 0 {
            let now = now();
            let come = now.since(self.since).saturating_mul(self.a_second) / 1_000_000_000;
            self.left = u32::try_from(come).unwrap_or(u32::MAX).min(self.most);
            self.since = now;
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }

    fn add(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// One connection's tokens.
#[derive(Debug)]
pub(super) struct Budget {
    control: Tokens,
    resets: Tokens,
}

/// Frames of no request at once, and in a second.
const CONTROL: (u32, u64) = (2_000, 200);
/// Control frames that a client may send for each piece that it was sent: two windows, and a ping with its answer.
const CONTROL_FOR_A_PIECE: u32 = 4;
/// Resets at once, and in a second.
const RESETS: (u32, u64) = (200, 50);

impl Budget {
    pub(super) fn new(now: Nanos) -> Budget {
        Budget { control: Tokens::new(CONTROL.0, CONTROL.1, now), resets: Tokens::new(RESETS.0, RESETS.1, now) }
    }

    /// Takes what a frame of the client costs; false when it is one too many.
    pub(super) fn spend(&mut self, kind: Kind, now: impl FnOnce() -> Nanos) -> bool {
        match kind {
            Kind::Control => self.control.take(now),
            Kind::RstStream => self.resets.take(now),
            Kind::Data | Kind::Headers | Kind::Continuation | Kind::GoAway => true,
        }
    }

    /// The client is sent a frame: a head or a piece of a body opens windows, a head is an answer that was not reset.
    pub(super) fn earn(&mut self, kind: Kind) {
        match kind {
            Kind::Data => self.control.add(CONTROL_FOR_A_PIECE),
            Kind::Headers => {
                self.control.add(CONTROL_FOR_A_PIECE);
                self.resets.add(1);
            }
            Kind::Control | Kind::RstStream | Kind::Continuation | Kind::GoAway => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = Nanos(1_000_000_000);

    fn spent(budget: &mut Budget, kind: Kind, now: Nanos) -> u32 {
        (0..).find(|_| !budget.spend(kind, || now)).unwrap()
    }

    #[test]
    fn floods_end_and_time_brings_some_back() {
        let mut budget = Budget::new(Nanos::ZERO);
        assert_eq!(spent(&mut budget, Kind::Control, Nanos::ZERO), 2_000);
        assert_eq!(spent(&mut budget, Kind::Control, SECOND), 200);
        assert_eq!(spent(&mut budget, Kind::Control, SECOND), 0);
        assert_eq!(
            spent(&mut budget, Kind::RstStream, SECOND),
            250,
            "the first second brought 50 more when all were gone"
        );
        assert_eq!(spent(&mut budget, Kind::Control, Nanos(u64::MAX)), 2_000, "never more than at once");
    }

    #[test]
    fn who_is_sent_much_may_open_windows() {
        let mut budget = Budget::new(Nanos::ZERO);
        for _ in 0..100_000 {
            budget.earn(Kind::Data);
            assert!((0..3).all(|_| budget.spend(Kind::Control, || Nanos::ZERO)));
        }
        budget.earn(Kind::Headers);
        assert!((0..100_000).all(|_| budget.spend(Kind::Data, || Nanos::ZERO)), "bodies are the library's to count");
    }
}
