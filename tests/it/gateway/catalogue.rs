//! Stripe's catalogue, row by row, through the whole stack: the figure, one less, one more, the reason, the modes apart, and what
//! a row takes from the global budget. The rows are the limits of the preset: one without a test here fails.

use crate::support::cases::configuration;
use crate::support::running::key;
use crate::support::seed;
use crate::support::stub::{InFlight, Stack, StubResponse, peer, poll_once, read};
use bytes::Bytes;
use http::Request;
use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;
use tollgate::engine::{Enforce, Limiter};

const LIVE: &str = "sk_live_000000000000000000000000000000000001";
const TEST: &str = "sk_test_000000000000000000000000000000000001";
const OTHER: &str = "sk_live_000000000000000000000000000000000002";

/// One row of the table.
struct Row {
    limit: &'static str,
    /// Method and path, and the form: the requests that it counts together, sent in turn.
    requests: &'static [(&'static str, &'static str)],
    /// In live and in test mode; 0 where the row does not hold in that mode.
    figures: [u32; 2],
    reason: &'static str,
    /// The global budget that one such request spends from, in live and in test mode.
    global: [bool; 2],
    /// A request that the full limit does not touch, of the same account.
    apart: (&'static str, &'static str),
    connected: bool,
}

const NO_FORM: &str = "";
const RETRIEVE: (&str, &str) = ("GET /v1/balance", NO_FORM);
const PLAIN: Row = Row {
    limit: "",
    requests: &[],
    figures: [0, 0],
    reason: "endpoint-rate",
    global: [true, true],
    apart: RETRIEVE,
    connected: false,
};

/// The operations of enough endpoints that none of them is full before the account is.
const SPREAD: &[(&str, &str)] = &[
    ("GET /v1/customers", NO_FORM),
    ("GET /v1/products", NO_FORM),
    ("POST /v1/customers", NO_FORM),
    ("POST /v1/products", NO_FORM),
    ("GET /v1/charges", NO_FORM),
];
const SPREAD_READS: &[(&str, &str)] = &[
    ("GET /v1/customers", NO_FORM),
    ("GET /v1/products", NO_FORM),
    ("GET /v1/prices", NO_FORM),
    ("GET /v1/refunds", NO_FORM),
    ("GET /v1/charges", NO_FORM),
];
const SPREAD_WRITES: &[(&str, &str)] = &[
    ("POST /v1/customers", NO_FORM),
    ("POST /v1/products", NO_FORM),
    ("POST /v1/prices", NO_FORM),
    ("POST /v1/refunds", NO_FORM),
    ("POST /v1/charges", NO_FORM),
];
const INVOICING: &[(&str, &str)] = &[
    ("POST /v1/subscriptions/sub_1", "proration_behavior=always_invoice&metadata[a]=b"),
    ("POST /v1/invoices", "customer=cus_1&subscription=sub_1"),
    ("POST /v1/subscriptions/sub_1", "billing_cycle_anchor=now"),
];
const METER_EVENT: (&str, &str) =
    ("POST /v1/billing/meter_events", "event_name=calls&payload[stripe_customer_id]=cus_1&payload[value]=3");

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { limit: "global-live", requests: SPREAD, figures: [100, 0], reason: "global-rate", apart: METER_EVENT, ..PLAIN },
    Row { limit: "global-test", requests: SPREAD, figures: [0, 25], reason: "global-rate", apart: NOTHING, ..PLAIN },
    Row { limit: "global-live-read", requests: SPREAD_READS, figures: [100, 0], reason: "global-rate", apart: SPREAD_WRITES[0], ..PLAIN },
    Row { limit: "global-live-write", requests: SPREAD_WRITES, figures: [100, 0], reason: "global-rate", ..PLAIN },
    Row { limit: "global-test-read", requests: SPREAD_READS, figures: [0, 25], reason: "global-rate", apart: SPREAD_WRITES[0], ..PLAIN },
    Row { limit: "global-test-write", requests: SPREAD_WRITES, figures: [0, 25], reason: "global-rate", ..PLAIN },
    // In test mode the endpoint's 25 are the account's 25 as well, and the account's are asked first.
    Row { limit: "endpoint-default", requests: &[("GET /v1/customers", NO_FORM)], figures: [25, 0], ..PLAIN },
    Row { limit: "files-read", requests: &[("GET /v1/files", NO_FORM), ("GET /v1/files/file_1", NO_FORM), ("GET /v1/files/file_2/contents", NO_FORM)], figures: [20, 20], apart: ("POST /v1/files", NO_FORM), ..PLAIN },
    Row { limit: "files-write", requests: &[("POST /v1/files", NO_FORM)], figures: [20, 20], apart: ("GET /v1/files", NO_FORM), ..PLAIN },
    Row { limit: "search", requests: &[
        ("GET /v1/charges/search", NO_FORM), ("GET /v1/customers/search", NO_FORM), ("GET /v1/invoices/search", NO_FORM),
        ("GET /v1/payment_intents/search", NO_FORM), ("GET /v1/prices/search", NO_FORM), ("GET /v1/products/search", NO_FORM),
        ("GET /v1/subscriptions/search", NO_FORM),
    ], figures: [20, 20], ..PLAIN },
    Row { limit: "payment-intent-updates", requests: &[("POST /v1/payment_intents/pi_1", NO_FORM)], figures: [1000, 1000], reason: "resource-specific", apart: ("POST /v1/payment_intents/pi_2", NO_FORM), ..PLAIN },
    Row { limit: "new-invoices-a-minute", requests: INVOICING, figures: [10, 10], reason: "resource-specific", apart: ("POST /v1/subscriptions/sub_1", "proration_behavior=none"), ..PLAIN },
    Row { limit: "new-invoices-a-day", requests: INVOICING, figures: [20, 20], reason: "resource-specific", apart: ("POST /v1/invoices", "customer=cus_1&subscription=sub_2"), ..PLAIN },
    Row { limit: "quantity-updates", requests: &[("POST /v1/subscriptions/sub_1", "items[0][id]=si_1&items[0][quantity]=2"), ("POST /v1/subscriptions/sub_1", "items%5B1%5D%5Bquantity%5D=2")], figures: [200, 200], reason: "resource-specific", apart: ("POST /v1/subscriptions/sub_1", "items[0][id]=si_1"), ..PLAIN },
    Row { limit: "quantity-updates", requests: &[("POST /v1/subscription_items/si_1", "quantity=2")], figures: [200, 200], reason: "resource-specific", apart: ("POST /v1/subscription_items/si_2", "quantity=2"), ..PLAIN },
    Row { limit: "payouts-rate", requests: &[("POST /v1/payouts", NO_FORM)], figures: [15, 15], apart: ("GET /v1/payouts", NO_FORM), ..PLAIN },
    Row { limit: "payouts-concurrency", requests: &[("POST /v1/payouts", NO_FORM)], figures: [30, 30], reason: "endpoint-concurrency", ..PLAIN },
    Row { limit: "meter-events-live", requests: &[METER_EVENT, ("POST /v2/billing/meter_events", NO_FORM)], figures: [1000, 0], global: [false, true], ..PLAIN },
    Row { limit: "meter-event-in-flight", requests: &[METER_EVENT], figures: [1, 1], reason: "resource-specific", global: [false, true], apart: ("POST /v1/billing/meter_events", "event_name=calls&payload[stripe_customer_id]=cus_2"), ..PLAIN },
    Row { limit: "meter-event-in-flight", requests: &[METER_EVENT], figures: [1, 1], reason: "resource-specific", connected: true, apart: ("POST /v1/billing/meter_events", "event_name=tokens&payload[stripe_customer_id]=cus_1"), ..PLAIN },
    Row { limit: "accounts-live", requests: &[("POST /v1/accounts", NO_FORM)], figures: [30, 0], apart: ("GET /v1/accounts", NO_FORM), ..PLAIN },
    Row { limit: "accounts-test", requests: &[("POST /v1/accounts", NO_FORM)], figures: [0, 5], apart: ("GET /v1/accounts", NO_FORM), ..PLAIN },
    Row { limit: "meter-event-stream-live", requests: &[("POST /v2/billing/meter_event_stream", NO_FORM)], figures: [10_000, 0], global: [false, true], ..PLAIN },
];

/// In test mode nothing of the account goes on when all of it is spent.
const NOTHING: (&str, &str) = ("", "");

const PRESETS: [&str; 2] = ["stripe", "stripe-read-write"];

/// A stack under a preset.
struct Run {
    stack: Stack,
    open: Vec<InFlight>,
}

impl Run {
    fn new(preset: &str) -> Run {
        Run::with(&format!("presets = ['{preset}']"))
    }

    fn with(policy: &str) -> Run {
        let keys = [("live", LIVE, "acct_1"), ("test", TEST, "acct_1"), ("other", OTHER, "acct_2")].map(
            |(id, secret, account)| {
                key(id, secret, account, if secret == TEST { "test" } else { "live" }, "connected_accounts = \"*\"")
            },
        );
        Run { stack: Stack::new(configuration(policy, &seed()), &keys.concat()), open: Vec::new() }
    }

    /// Sends one request; it stays in flight when `hold`. The refusal's limit and reason.
    fn send(
        &mut self,
        (request, form): (&str, &str),
        secret: &str,
        connected: bool,
        hold: bool,
    ) -> Result<(), (String, String)> {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "a")
            .header("authorization", format!("Bearer {secret}"));
        if connected {
            builder = builder.header("stripe-account", "acct_connected");
        }
        if !form.is_empty() {
            builder = builder.header("content-type", "application/x-www-form-urlencoded");
        }
        let request = builder
            .header("x-stub", if hold { "wait" } else { "answer" })
            .body(Bytes::copy_from_slice(form.as_bytes()))
            .unwrap();
        let peer = peer("192.0.2.1");
        let mut call = self.stack.send(&peer, request);
        let verdict = match poll_once(&mut call) {
            Poll::Pending => {
                self.open.push(call);
                Ok(())
            }
            Poll::Ready(response) => verdict(response),
        };
        peer.let_go();
        verdict
    }

    /// Whether anything was spent from a global budget.
    fn spent_globally(&self) -> bool {
        let snapshot = self.stack.home.shared.current();
        let mut limits = snapshot.config.policy.limits().zip(&snapshot.limits);
        limits.any(|((_, limit), counters)| limit.name.starts_with("global-") && counters.admit.get() > 0)
    }
}

fn verdict(response: StubResponse) -> Result<(), (String, String)> {
    if response.status() == 200 {
        read(response);
        return Ok(());
    }
    assert_eq!(response.status(), 429);
    let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
    let limit = header("ratelimit").split('"').nth(1).unwrap().to_owned();
    Err((limit, header("stripe-rate-limited-reason")))
}

/// How far the clock moves after each request, so that slower limits fill up while faster ones do not.
fn pace(run: &Run, row: &Row) -> Duration {
    let policy = &run.stack.home.shared.current().config.policy;
    let limiter = policy.limits().find(|(_, limit)| &*limit.name == row.limit).unwrap().1.limiter;
    match (limiter, row.limit) {
        // Two windows on the same requests: the shorter one must let the longer one fill.
        (_, "new-invoices-a-day") => Duration::from_secs(61),
        (Limiter::SlidingWindow(_), _) => Duration::from_millis(200),
        // In flight, 100 ms apart, the rate of the same endpoint has room.
        (Limiter::Concurrency(_), _) => Duration::from_millis(100),
        (Limiter::Gcra(_) | Limiter::Allocation(_), _) => Duration::ZERO,
    }
}

/// Rows that are reported, not refused: the module `allocation` fills them.
const REPORTED: [&str; 2] = ["read-allocation", "read-allocation-platform"];

fn rows_of(preset: &str) -> Vec<&'static Row> {
    let run = Run::new(preset);
    let names: BTreeSet<String> =
        run.stack.home.shared.current().config.policy.limits().map(|(_, limit)| limit.name.to_string()).collect();
    ROWS.iter().filter(|row| names.contains(row.limit)).collect()
}

#[test]
fn every_limit_of_a_preset_has_a_row_and_every_row_a_limit() {
    let mut known = BTreeSet::new();
    for preset in PRESETS {
        let run = Run::new(preset);
        for (_, limit) in run.stack.home.shared.current().config.policy.limits() {
            if REPORTED.contains(&&*limit.name) {
                assert_eq!(limit.enforce, Enforce::Never, "{}", limit.name);
                continue;
            }
            assert!(ROWS.iter().any(|row| row.limit == &*limit.name), "{preset}: no row tests {}", limit.name);
            known.insert(limit.name.to_string());
        }
    }
    for row in ROWS {
        assert!(known.contains(row.limit), "no preset has {}", row.limit);
    }
}

#[test]
fn every_row_admits_its_figure_and_not_one_more() {
    for preset in PRESETS {
        for row in rows_of(preset) {
            for (mode, secret) in [LIVE, TEST].into_iter().enumerate() {
                if row.figures[mode] > 0 {
                    fills(preset, row, mode, secret);
                }
            }
        }
    }
}

fn fills(preset: &str, row: &Row, mode: usize, secret: &str) {
    let mut run = Run::new(preset);
    let place = format!("{preset}, {}, mode {mode}", row.limit);
    let pace = pace(&run, row);
    let holds = row.reason == "endpoint-concurrency" || row.limit == "meter-event-in-flight";
    let mut turns = row.requests.iter().cycle();
    for nth in 1..=row.figures[mode] {
        let request = *turns.next().unwrap();
        assert_eq!(run.send(request, secret, row.connected, holds), Ok(()), "{place}: {nth}");
        run.stack.clock.advance(pace);
    }
    let refused = Err((row.limit.to_owned(), row.reason.to_owned()));
    for request in row.requests {
        assert_eq!(run.send(*request, secret, row.connected, holds), refused, "{place}: one more");
    }
    if row.apart != NOTHING {
        assert_eq!(run.send(row.apart, secret, row.connected, false), Ok(()), "{place}: what lies apart");
    }
    for stranger in [OTHER, if mode == 0 { TEST } else { LIVE }] {
        assert_eq!(
            run.send(row.requests[0], stranger, row.connected, false),
            Ok(()),
            "{place}: another account or mode"
        );
    }
}

#[test]
fn a_row_takes_from_the_global_budget_what_the_table_says() {
    for preset in PRESETS {
        for row in rows_of(preset) {
            for (mode, secret) in [LIVE, TEST].into_iter().enumerate() {
                for request in row.requests {
                    let mut run = Run::new(preset);
                    assert_eq!(run.send(*request, secret, row.connected, false), Ok(()), "{preset}, {}", row.limit);
                    let spent = run.spent_globally();
                    assert_eq!(spent, row.global[mode], "{preset}, {}, mode {mode}: {}", row.limit, request.0);
                }
            }
        }
    }
}

/// Rows 12' and 12'': in test mode, and for a connected account, meter events have the account's figure alone.
#[test]
fn meter_events_inside_the_global_figure() {
    for (secret, connected, figure) in [(TEST, false, 25), (TEST, true, 25), (LIVE, true, 100)] {
        for (nth, request) in ["POST /v2/billing/meter_events", "POST /v1/billing/meter_events"].into_iter().enumerate()
        {
            let mut run = Run::new("stripe");
            for _ in 0..figure {
                assert_eq!(run.send((request, NO_FORM), secret, connected, false), Ok(()), "{request}");
            }
            let refused = Err(("global-live".to_owned(), "global-rate".to_owned()));
            let refused =
                if secret == TEST { Err(("global-test".to_owned(), "global-rate".to_owned())) } else { refused };
            assert_eq!(run.send((request, NO_FORM), secret, connected, false), refused, "{nth}");
        }
    }
}

/// Row 15 has no figure of its own: the preset shows how to give it one by tiers.
#[test]
fn the_presets_example_for_issuing_works() {
    for text in [include_str!("../../../config/stripe.toml"), include_str!("../../../config/stripe-read-write.toml")] {
        let example: String = text
            .lines()
            .skip_while(|line| !line.starts_with("# ---- Row 15"))
            .skip(1)
            .take_while(|line| line.starts_with('#'))
            .filter_map(|line| line.strip_prefix("#   "))
            .map(|line| format!("{}\n", line.replace("acct_123", "acct_2")))
            .collect();
        let mut run = Run::with(&format!(
            "presets = ['stripe']\n{example}[[limits]]\nname = 'endpoint-default'\nstage = 'endpoint'\nrate = '1000/s'\nfallback = true\n"
        ));
        for (secret, figure) in [(LIVE, 10), (OTHER, 50)] {
            for _ in 0..figure {
                assert_eq!(run.send(("POST /v1/issuing/cards", NO_FORM), secret, false, false), Ok(()));
            }
            let refused = Err(("issuing-cards".to_owned(), "resource-specific".to_owned()));
            assert_eq!(run.send(("POST /v1/issuing/cards", NO_FORM), secret, false, false), refused);
        }
    }
}

/// `[connect] charge`: how many calls for the connected account go on, then what is left to either account itself.
#[test]
fn a_connected_call_spends_whose_budget_the_setting_names() {
    const LIMIT: &str = "[[limits]]\nname = 'l'\nstage = 'global'\nrate = '10/h'\nburst = 10\n\
        [accounts.acct_connected]\nlimits.l = { rate = '4/h', burst = 4 }\n";
    let request = ("GET /v1/balance", NO_FORM);
    let count =
        |run: &mut Run, connected| (0..20).take_while(|_| run.send(request, LIVE, connected, false).is_ok()).count();
    for (charge, calls, left) in [("platform", 10, 0), ("connected", 4, 10), ("both", 4, 6)] {
        let mut run = Run::with(&format!("{LIMIT}[connect]\ncharge = '{charge}'\n"));
        assert_eq!((count(&mut run, true), count(&mut run, false)), (calls, left), "{charge}");
    }
    // All or nothing the other way around: the platform's refusal costs the connected account nothing.
    let mut run = Run::with(&format!("{LIMIT}[connect]\ncharge = 'both'\n"));
    assert_eq!(count(&mut run, false), 10);
    assert_eq!(count(&mut run, true), 0);
    run.stack.clock.advance(Duration::from_secs(3600));
    assert_eq!((count(&mut run, true), count(&mut run, false)), (4, 6));
}
