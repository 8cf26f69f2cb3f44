//! What an upstream does about servers that fail: health checks, ejection, retries.

use super::super::error::Finding;
use super::super::model::{Ejection, HealthCheck, Retries, RetryOn, Share};
use super::super::raw::{Item, RawEjection, RawHealth, RawRetries, RawRetryOn, RawUpstream};
use super::super::values::Located;
use super::settings::TIMEOUT;
use super::{Context, value};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Checks or failures in a row: more would take longer than anybody means.
const IN_A_ROW: RangeInclusive<u32> = 1..=1_000;
/// How often a server may be asked.
const CHECK_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// Longer ones than the longest ejection are meant as something else.
const EJECTION_BASE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const LONGEST_PATH_BYTES: usize = 1_000;

pub(super) fn health(
    context: &mut Context<'_>,
    item: &Item<RawUpstream>,
    raw: &Located<RawHealth>,
) -> Option<HealthCheck> {
    let RawHealth { path, interval, timeout, healthy, unhealthy, statuses, host } = &raw.value;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let seconds = Duration::from_secs;
    let interval = context.duration(item, interval.as_ref(), seconds(5), CHECK_INTERVAL);
    let timeout = context.duration(item, timeout.as_ref(), seconds(2), TIMEOUT);
    let healthy = narrow(context.number(item, healthy.as_ref(), 2, IN_A_ROW));
    let unhealthy = narrow(context.number(item, unhealthy.as_ref(), 3, IN_A_ROW));
    let statuses = match statuses {
        Some(given) if given.value.0.is_empty() && !item.damaged => {
            context.tell(Finding::error(item.at(&given.span), "no status would be that of a server that is well"));
            Box::default()
        }
        Some(given) => given.value.0.iter().map(|range| (range.value.0, range.value.1)).collect(),
        None => [(200, 299)].into(),
    };
    if let Some(given) = host.as_ref().filter(|given| given.value.parse::<http::uri::Authority>().is_err()) {
        context.tell(Finding::error(item.at(&given.span), "not a host").expected(r#""api.example.com""#));
    }
    let Some(path) = path else {
        if !item.damaged {
            let finding = Finding::error(item.at(&raw.span), "the health check lacks `path`");
            context.tell(finding.expected(r#"health = { path = "/healthz" }"#));
        }
        return None;
    };
    if !is_target(&path.value) {
        let finding = Finding::error(item.at(&path.span), "not a path to ask for");
        context.tell(finding.expected(r#""/healthz""#).found(format!("{:?}", path.value)));
    }
    let host = host.as_ref().map(|host| host.value.as_str().into());
    Some(HealthCheck { path: path.value.as_str().into(), interval, timeout, healthy, unhealthy, statuses, host })
}

/// Whether a text can stand in a request line.
fn is_target(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= LONGEST_PATH_BYTES
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

pub(super) fn ejection(context: &mut Context<'_>, item: &Item<RawUpstream>) -> Ejection {
    let raw = item.raw.ejection.as_ref().map(|raw| raw.value.clone()).unwrap_or_default();
    let RawEjection { failures, base, max_share } = raw;
    Ejection {
        failures: u32::try_from(context.number(item, failures.as_ref(), 5, 0..=*IN_A_ROW.end())).unwrap_or(0),
        base: context.duration(item, base.as_ref(), Duration::from_secs(10), EJECTION_BASE),
        max_share: share(context, item, max_share.as_ref(), Share(500)),
    }
}

pub(super) fn retries(context: &mut Context<'_>, item: &Item<RawUpstream>) -> Retries {
    let raw = item.raw.retries.as_ref().map(|raw| raw.value.clone()).unwrap_or_default();
    let RawRetries { attempts, on, budget, per_try_timeout, writes_with_idempotency_key, max_body } = raw;
    let mut after = RetryOn { connect: on.is_none(), reset: on.is_none(), ..RetryOn::default() };
    for cause in on.iter().flat_map(|given| &given.value.0) {
        match cause.value {
            RawRetryOn::Connect => after.connect = true,
            RawRetryOn::Reset => after.reset = true,
            RawRetryOn::BadGateway => after.bad_gateway = true,
            RawRetryOn::Unavailable => after.unavailable = true,
            RawRetryOn::GatewayTimeout => after.gateway_timeout = true,
        }
    }
    Retries {
        attempts: u32::try_from(context.number(item, attempts.as_ref(), 2, 0..=10)).unwrap_or(0),
        on: after,
        budget: share(context, item, budget.as_ref(), Share(200)),
        per_try_timeout: per_try_timeout
            .as_ref()
            .map(|given| context.duration(item, Some(given), Duration::ZERO, TIMEOUT)),
        writes_with_idempotency_key: value(&writes_with_idempotency_key, false),
        max_body: context.size(item, max_body.as_ref(), 64 << 10, 0..=1 << 20),
    }
}

/// A number from 0 to 1.
fn share(context: &mut Context<'_>, item: &Item<RawUpstream>, field: Option<&Located<f64>>, default: Share) -> Share {
    let Some(given) = field else { return default };
    if !(0.0..=1.0).contains(&given.value) {
        let finding = Finding::error(item.at(&given.span), "a share out of range").expected("0 to 1");
        context.tell(finding.found(given.value.to_string()));
        return default;
    }
    // Between 0 and 1000.
    Share((given.value * 1_000.0).round() as u32)
}
