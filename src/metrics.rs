//! FLOOR 1: every metric, its name, help and labels, declared once.
//!
//! No label ever holds a raw key, a path or an id: endpoints, limits and routes are named by the configuration, everything
//! else is from a closed list. What is counted on the request path is resolved once per configuration, not per request.

mod accept;
mod addresses;
mod boards;
mod locks;
mod process;
mod store;
mod tls;
mod upstreams;

pub use accept::{AcceptMetrics, Closed, Paused};
pub use addresses::AddressMetrics;
pub use boards::BoardMetrics;
pub use locks::LockMetrics;
pub use process::ProcessMetrics;
pub use store::StoreMetrics;
pub use tls::{HandshakeResult, TlsMetrics};
pub use upstreams::{SERVER_STATES, UpstreamCensus, UpstreamMetrics};

use crate::engine::{Access, Limit, LimitId, Mode, Policy, Stage};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// Upper bounds in seconds for whole exchanges and the upstream's share: 1 ms to 80 s.
const EXCHANGE_SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 80.0];
/// Upper bounds in seconds for what the gateway adds: 5 µs to 100 ms.
const OVERHEAD_SECONDS: &[f64] =
    &[0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.01, 0.1];

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    declared: Vec<Declared>,
    /// `tollgate_requests_total`
    requests: IntCounterVec,
    /// `tollgate_decisions_total`
    decisions: IntCounterVec,
    /// `tollgate_candidate_decisions_total`
    candidate_decisions: IntCounterVec,
    /// `tollgate_rejections_total`
    rejections: IntCounterVec,
    /// `tollgate_auth_failures_total`
    auth_failures: IntCounterVec,
    /// `tollgate_bad_requests_total`
    bad_requests: IntCounterVec,
    /// `tollgate_request_duration_seconds`
    request_seconds: HistogramVec,
    /// `tollgate_upstream_duration_seconds`
    upstream_seconds: HistogramVec,
    /// `tollgate_overhead_seconds`
    overhead_seconds: HistogramVec,
    /// Those of limits by address.
    pub addresses: AddressMetrics,
    /// Those of boards in the shared store.
    pub boards: BoardMetrics,
    /// Those of object locks.
    pub locks: LockMetrics,
    /// Those of upstreams.
    pub upstreams: UpstreamMetrics,
    /// `tollgate_in_flight`
    in_flight: IntGaugeVec,
    /// `tollgate_partitions`
    partitions: IntGaugeVec,
    /// `tollgate_config_reloads_total`
    reloads: IntCounterVec,
    /// `tollgate_config_last_success_timestamp_seconds`
    last_reload: IntGaugeVec,
    /// `tollgate_transactions_total`
    transactions: IntCounterVec,
    /// Of the state that outlives a restart.
    pub state: StateMetrics,
    /// Of the store that gateways share.
    pub store: StoreMetrics,
    /// Of TLS to clients.
    pub tls: TlsMetrics,
    /// `tollgate_connections`: open client connections.
    pub connections: IntGauge,
    /// Of accepting connections.
    pub accept: AcceptMetrics,
    /// Of the process.
    pub process: ProcessMetrics,
    /// `tollgate_panics_total`: panics caught while serving a request, each answered with a 500.
    pub panics: IntCounter,
    /// `tollgate_access_log_dropped_total`: lines not written because the writer fell behind or could not write.
    pub log_dropped: IntCounter,
    /// Exchanges being served, as `tollgate_in_flight{stage="all"}`.
    pub exchanges: IntGauge,
}

/// What is told of the state that outlives a restart.
#[derive(Debug)]
pub struct StateMetrics {
    /// `tollgate_state_writes_total`
    writes: IntCounterVec,
    /// `tollgate_state_damaged_total`: stores found damaged and set aside.
    pub damaged: IntCounter,
    /// `tollgate_state_windows`: windows in the store, as far as it was written.
    pub windows: IntGauge,
}

impl StateMetrics {
    fn new(make: &Maker) -> Result<StateMetrics, prometheus::Error> {
        let help = "Writes of the state that outlives a restart.";
        Ok(StateMetrics {
            writes: make.counters("tollgate_state_writes_total", help, &["result"])?,
            damaged: make
                .counter("tollgate_state_damaged_total", "State files found damaged and set aside at the start.")?,
            windows: make.gauge("tollgate_state_windows", "Sliding windows in the state store.")?,
        })
    }

    /// Notes a write.
    pub fn written(&self, succeeded: bool) {
        self.writes.with_label_values(&[if succeeded { "success" } else { "failure" }]).inc();
    }
}

fn bad_requests(make: &Maker) -> Result<IntCounterVec, prometheus::Error> {
    let help = "Requests that the wire guard refused before they became one.";
    make.counters("tollgate_bad_requests_total", help, &["fault"])
}

fn auth_failures(make: &Maker) -> Result<IntCounterVec, prometheus::Error> {
    make.counters("tollgate_auth_failures_total", "Requests refused because of their key.", &["cause"])
}

fn candidate_decisions(make: &Maker) -> Result<IntCounterVec, prometheus::Error> {
    let help = "What each limit's candidate said to the same requests: admit, reject. It refuses nobody.";
    make.counters("tollgate_candidate_decisions_total", help, &["limit", "verdict"])
}

fn transactions(make: &Maker) -> Result<IntCounterVec, prometheus::Error> {
    let help = "Successful requests to endpoints with transaction = true.";
    make.counters("tollgate_transactions_total", help, &["mode"])
}

/// The counters of one limit.
#[derive(Clone, Debug)]
pub struct LimitCounters {
    /// Requests it had room for.
    pub admit: IntCounter,
    /// Requests it refused.
    pub reject: IntCounter,
    /// Requests it would have refused.
    pub shadow_reject: IntCounter,
    /// Requests it refused, by mode.
    pub rejections: [IntCounter; 2],
    /// Those of its candidate, where it has one.
    pub candidate: Option<CandidateCounters>,
}

/// The counters of a limit's candidate.
#[derive(Clone, Debug)]
pub struct CandidateCounters {
    /// Requests it had room for.
    pub admit: IntCounter,
    /// Requests it would have refused.
    pub reject: IntCounter,
}

/// The series of one limit in [`Metrics::forget_limits`].
const VERDICTS: [&str; 3] = ["admit", "reject", "shadow_reject"];

/// The timers of one route.
#[derive(Clone, Debug)]
pub struct RouteTimers {
    /// From the request's head to the response's last byte.
    pub request: Histogram,
    /// From handing the request to the upstream to the head of its answer.
    pub upstream: Histogram,
    /// What the gateway added.
    pub overhead: Histogram,
    /// How long those waited for an object that had to.
    pub lock_wait: Histogram,
}

/// The label of a request that was refused before its mode or access was known.
pub const UNKNOWN: &str = "unknown";

impl Metrics {
    /// Fresh metrics in a registry of their own.
    ///
    /// # Errors
    /// None in practice: only if two metrics had one name.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let make = Maker { registry: Registry::new(), declared: RefCell::default() };
        let in_flight =
            make.gauges("tollgate_in_flight", "Slots held, by stage; stage \"all\" counts exchanges.", &["stage"])?;
        Ok(Metrics {
            requests: make.counters(
                "tollgate_requests_total",
                "Requests answered, the gateway's own answers included. Status 499: the client left first.",
                &["route", "mode", "access", "status"],
            )?,
            decisions: make.counters(
                "tollgate_decisions_total",
                "What each limit said to the requests it applied to: admit, reject, shadow_reject.",
                &["limit", "verdict"],
            )?,
            candidate_decisions: candidate_decisions(&make)?,
            rejections: make.counters(
                "tollgate_rejections_total",
                "Requests refused by a limit.",
                &["reason", "limit", "mode"],
            )?,
            auth_failures: auth_failures(&make)?,
            bad_requests: bad_requests(&make)?,
            request_seconds: make.seconds(
                "request_duration",
                "From a request's head to its response's last byte.",
                EXCHANGE_SECONDS,
            )?,
            upstream_seconds: make.seconds(
                "upstream_duration",
                "From handing a request to the upstream to the head of its answer.",
                EXCHANGE_SECONDS,
            )?,
            overhead_seconds: make.seconds(
                "overhead",
                "What the gateway added to a forwarded request before it was sent on.",
                OVERHEAD_SECONDS,
            )?,
            addresses: AddressMetrics::new(&make)?,
            boards: BoardMetrics::new(&make)?,
            locks: LockMetrics::new(&make)?,
            upstreams: UpstreamMetrics::new(&make)?,
            partitions: make.gauges("tollgate_partitions", "Partitions with state.", &["limit"])?,
            reloads: make.counters("tollgate_config_reloads_total", "Loads of the configuration.", &["result"])?,
            last_reload: make.gauges(
                "tollgate_config_last_success_timestamp_seconds",
                "When the running configuration was loaded.",
                &["result"],
            )?,
            transactions: transactions(&make)?,
            state: StateMetrics::new(&make)?,
            store: StoreMetrics::new(&make)?,
            tls: TlsMetrics::new(&make)?,
            connections: make.gauge("tollgate_connections", "Open client connections.")?,
            accept: AcceptMetrics::new(&make)?,
            process: ProcessMetrics::new(&make)?,
            panics: make.counter("tollgate_panics_total", "Panics caught while serving, each answered with a 500.")?,
            log_dropped: make.counter(
                "tollgate_access_log_dropped_total",
                "Access log lines dropped because the writer fell behind or could not write.",
            )?,
            exchanges: in_flight.with_label_values(&["all"]),
            in_flight,
            registry: make.registry,
            declared: make.declared.into_inner(),
        })
    }

    /// All metrics, whether they have a series yet or not.
    #[must_use]
    pub fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// The counters of every limit of a policy, by [`LimitId`].
    #[must_use]
    pub fn limits(&self, policy: &Policy) -> Box<[LimitCounters]> {
        policy
            .limits()
            .map(|(_, limit)| LimitCounters {
                admit: self.decisions.with_label_values(&[&limit.name, "admit"]),
                reject: self.decisions.with_label_values(&[&limit.name, "reject"]),
                shadow_reject: self.decisions.with_label_values(&[&limit.name, "shadow_reject"]),
                rejections: Mode::ALL
                    .map(|mode| self.rejections.with_label_values(&[limit.stage.reason(), &limit.name, mode.as_str()])),
                candidate: limit.candidate.map(|_| CandidateCounters {
                    admit: self.candidate_decisions.with_label_values(&[&limit.name, "admit"]),
                    reject: self.candidate_decisions.with_label_values(&[&limit.name, "reject"]),
                }),
            })
            .collect()
    }

    /// The timers of a route.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteTimers {
        RouteTimers {
            request: self.request_seconds.with_label_values(&[route]),
            upstream: self.upstream_seconds.with_label_values(&[route]),
            overhead: self.overhead_seconds.with_label_values(&[route]),
            lock_wait: self.locks.wait(route),
        }
    }

    /// The counter of answered requests with these labels.
    #[must_use]
    pub fn requests(&self, route: &str, mode: Option<Mode>, access: Option<Access>, status: u16) -> IntCounter {
        let mode = mode.map_or(UNKNOWN, Mode::as_str);
        let access = access.map_or(UNKNOWN, Access::as_str);
        self.requests.with_label_values(&[route, mode, access, &status.to_string()])
    }

    /// The counter of refused keys for one cause.
    #[must_use]
    pub fn auth_failures(&self, cause: &str) -> IntCounter {
        self.auth_failures.with_label_values(&[cause])
    }

    /// Notes a request that was refused on the wire, by [`WireFault::label`](crate::wire_fault::WireFault::label).
    pub fn bad_request(&self, fault: &str) {
        self.bad_requests.with_label_values(&[fault]).inc();
    }

    /// Notes a reload and, when it succeeded, when it was (Unix seconds).
    pub fn reloaded(&self, succeeded: bool, unix_seconds: i64) {
        let result = if succeeded { "success" } else { "failure" };
        self.reloads.with_label_values(&[result]).inc();
        if succeeded {
            self.last_reload.with_label_values(&[result]).set(unix_seconds);
        }
    }

    /// Counts a transaction.
    pub fn transaction(&self, mode: Mode) {
        self.transactions.with_label_values(&[mode.as_str()]).inc();
    }

    /// Sets the gauges that are taken at a scrape: partitions by limit, slots by stage.
    pub fn take_census(&self, policy: &Policy, census: &HashMap<LimitId, crate::engine::Count>) {
        let mut slots = Stage::ALL.map(|stage| (stage, 0_u64));
        for (id, limit) in policy.limits() {
            let count = census.get(&id).copied().unwrap_or_default();
            self.partitions.with_label_values(&[&limit.name]).set(gauge_value(count.partitions));
            slots[limit.stage as usize].1 += count.in_flight;
        }
        for (stage, held) in slots {
            self.in_flight.with_label_values(&[stage.reason()]).set(gauge_value(held));
        }
    }

    /// Forgets the series of limits and candidates that a new policy no longer has, so that a scrape shows today's limits only.
    /// Requests that are under way with the old policy count on, unseen.
    pub fn forget_limits(&self, old: &Policy, new: &Policy) {
        let kept: HashMap<&str, &Limit> = new.limits().map(|(_, limit)| (&*limit.name, limit)).collect();
        for (_, limit) in old.limits() {
            let kept = kept.get(&*limit.name);
            // A series that was never made is not an error in any of these.
            if kept.is_none_or(|kept| kept.candidate.is_none()) {
                for verdict in VERDICTS {
                    let _ = self.candidate_decisions.remove_label_values(&[&limit.name, verdict]);
                }
            }
            if kept.is_none_or(|kept| kept.stage != limit.stage) {
                for mode in Mode::ALL {
                    let labels = [limit.stage.reason(), &*limit.name, mode.as_str()];
                    let _ = self.rejections.remove_label_values(&labels);
                }
            }
            if kept.is_none() {
                let _ = self.partitions.remove_label_values(&[&limit.name]);
                for verdict in VERDICTS {
                    let _ = self.decisions.remove_label_values(&[&limit.name, verdict]);
                }
            }
        }
    }

    /// The Prometheus text of everything.
    ///
    /// # Errors
    /// When a metric cannot be written as text, which none of these can.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Seconds as Prometheus counts them.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A metric as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name; a histogram's without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// Makes metrics and puts them into a registry.
struct Maker {
    registry: Registry,
    declared: RefCell<Vec<Declared>>,
}

impl Maker {
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        self.declared.borrow_mut().extend(metric.desc().into_iter().map(|desc| Declared {
            name: desc.fq_name.clone(),
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
        }));
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    /// A histogram without labels.
    fn seconds_of(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec()))?)
    }

    /// A histogram by route, `tollgate_WHAT_seconds`.
    fn seconds(&self, what: &str, help: &str, bounds: &[f64]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(format!("tollgate_{what}_seconds"), help).buckets(bounds.to_vec());
        self.register(HistogramVec::new(options, &["route"])?)
    }
}

fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_register_once_and_print() {
        let metrics = Metrics::new().unwrap();
        metrics.requests("default", Some(Mode::Live), Some(Access::Read), 200).inc();
        metrics.requests("none", None, None, 401).inc();
        metrics.reloaded(true, 7);
        metrics.reloaded(false, 8);
        let text = metrics.text().unwrap();
        assert!(
            text.contains(r#"tollgate_requests_total{access="read",mode="live",route="default",status="200"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"mode="unknown",route="none",status="401""#), "{text}");
        assert!(text.contains(r#"tollgate_config_last_success_timestamp_seconds{result="success"} 7"#), "{text}");
        assert!(text.contains(r#"tollgate_config_reloads_total{result="failure"} 1"#), "{text}");
        let declared = |name: &str| metrics.declared().iter().find(|one| one.name == name).unwrap().labels.clone();
        assert_eq!(declared("tollgate_requests_total"), ["route", "mode", "access", "status"]);
        assert_eq!(declared("tollgate_overhead_seconds"), ["route"]);
        assert_eq!(declared("tollgate_panics_total"), [""; 0]);
    }
}
