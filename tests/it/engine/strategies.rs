//! Random policies and timelines. Names, figures and moments come from small sets, so that requests meet each other.

use crate::support::{Figures, LimitSpec, MatchSpec, PartSpec, RequestSpec};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tollgate::engine::{Access, Mode, Stage};

const ACCOUNTS: [&str; 4] = ["acct_1", "acct_2", "acct_gold", "acct_slow"];
const ENDPOINTS: [&str; 4] = ["charges.create", "payouts.create", "refunds.update", "files.retrieve"];
const ROUTES: [&str; 2] = ["main", "side"];

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A request arrives; it is decided stage by stage or by `walk`.
    Arrive { request: RequestSpec, by_walk: bool },
    /// A request that was admitted ends (the one at this place, modulo how many there are).
    End { place: usize, how: Ending },
    /// Time passes.
    Pass { by_ns: u64 },
    /// Idle partitions are forgotten.
    Sweep,
    /// Limits (by place, modulo how many there are) get other figures.
    Reload { rates: Vec<(usize, Figures)>, slots: Vec<(usize, Figures)> },
}

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// It was forwarded and its answer is through.
    Committed,
    /// It was given up before it was forwarded.
    Cancelled,
    /// It was dropped before it was forwarded, by somebody without a clock.
    Dropped,
}

/// A policy of up to `most` limits.
pub(super) fn limits(most: usize) -> impl Strategy<Value = Vec<LimitSpec>> {
    vec(limit(), 1..=most).prop_map(|mut limits| {
        for (place, limit) in limits.iter_mut().enumerate() {
            limit.name = format!("limit-{place}");
        }
        limits
    })
}

/// What happens to a policy over time.
pub(super) fn timeline(most: usize) -> impl Strategy<Value = Vec<Event>> {
    vec(event(), 1..=most)
}

/// Rates from nothing to a token a nanosecond, with bursts from nothing to a dozen.
pub(super) fn rate() -> impl Strategy<Value = Figures> {
    let count = select(vec![0, 1, 1, 2, 3, 7, 10, 1_000, 1_000_000_000, 3_000_000_000]);
    let period_ns = select(vec![1, 1_000_000, 1_000_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_007]);
    (count, period_ns, 0_u64..=12).prop_map(|(count, period_ns, burst)| Figures::Rate { count, period_ns, burst })
}

fn slots() -> impl Strategy<Value = Figures> {
    (0_u32..=4).prop_map(Figures::Slots)
}

fn limit() -> impl Strategy<Value = LimitSpec> {
    let figures = prop_oneof![
        2 => (rate().boxed(), vec((1_usize..=2, rate()), 0..=1), weighted(0.3, rate()).boxed()),
        1 => (slots().boxed(), vec((1_usize..=2, slots()), 0..=1), weighted(0.3, slots()).boxed()),
    ];
    let per = subsequence(
        vec![PartSpec::Account, PartSpec::Connected, PartSpec::Key, PartSpec::Ip, PartSpec::Endpoint, PartSpec::PathId],
        0..=3,
    );
    let when = prop_oneof![2 => Just(MatchSpec::default()), 1 => condition()];
    (
        select(Stage::ALL.to_vec()),
        figures,
        when,
        weighted(0.2, condition()),
        prop::bool::weighted(0.25),
        per,
        prop::bool::weighted(0.8),
    )
        .prop_map(|(stage, (figures, overrides, candidate), when, except, fallback, per, enforce)| LimitSpec {
            name: String::new(),
            stage,
            figures,
            overrides,
            when,
            except,
            fallback,
            per,
            enforce,
            candidate,
        })
}

fn condition() -> impl Strategy<Value = MatchSpec> {
    (
        weighted(0.3, select(Mode::ALL.to_vec())),
        weighted(0.2, select(Access::ALL.to_vec())),
        weighted(0.4, subsequence(ENDPOINTS.to_vec(), 0..=3)),
        weighted(0.2, any::<bool>()),
        weighted(0.3, subsequence(ACCOUNTS.to_vec(), 0..=3)),
        weighted(0.2, subsequence(ROUTES.to_vec(), 0..=2)),
    )
        .prop_map(|(mode, access, endpoints, connected, accounts, routes)| MatchSpec {
            mode,
            access,
            endpoints,
            connected,
            accounts,
            routes,
        })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (request(), any::<bool>()).prop_map(|(request, by_walk)| Event::Arrive { request, by_walk }),
        4 => (0_usize..64, ending()).prop_map(|(place, how)| Event::End { place, how }),
        6 => pause().prop_map(|by_ns| Event::Pass { by_ns }),
        1 => Just(Event::Sweep),
        1 => (vec((0_usize..8, rate()), 0..=4), vec((0_usize..8, slots()), 0..=2))
            .prop_map(|(rates, slots)| Event::Reload { rates, slots }),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    select(vec![Ending::Committed, Ending::Committed, Ending::Cancelled, Ending::Cancelled, Ending::Dropped])
}

/// Nothing, one nanosecond, the emission intervals of the rates above and their neighbors, or far too long.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        select(vec![100_000_000, 333_333_333, 333_333_334, 142_857_142, 142_857_143, 1_000_000_000, 60_000_000_000]),
        0_u64..2_000_000_000,
        0_u64..4_000_000_000_000,
        Just(1 << 55),
    ]
}

fn request() -> impl Strategy<Value = RequestSpec> {
    (
        prop_oneof![3 => Just(Mode::Live), 1 => Just(Mode::Test)],
        select(Access::ALL.to_vec()),
        select(ENDPOINTS.to_vec()),
        select(ROUTES.to_vec()),
        select(ACCOUNTS.to_vec()),
        of(select(vec!["acct_1", "acct_sub"])),
        (select(vec!["key_1", "key_2"]), select(vec!["192.0.2.1", "192.0.2.2"]), select(vec!["obj_1", "obj_2"])),
        prop_oneof![4 => Just(1_u32), 3 => 0_u32..=5, 1 => Just(u32::MAX)],
    )
        .prop_map(|(mode, access, endpoint, route, account, connected, (key, ip, object), cost)| RequestSpec {
            mode,
            access,
            endpoint,
            route,
            account: account.to_owned(),
            connected,
            key,
            ip,
            object,
            cost,
        })
}
