//! `GET /v1/accounts/ID`: what is in force for one account, and where it stands.

use super::api::Reply;
use crate::config::Config;
use crate::engine::class::MAX_VALUES;
use crate::engine::{
    Access, Clock, Enforce, Id, IdKind, Limit, LimitId, Limiter, Mode, Nanos, Outcome, Part, Payers, RequestClass,
    RouteId, lot,
};
use crate::explain::{figures, milliseconds};
use crate::gateway::{Authority, Shared};
use crate::state::overrides::Override;
use http::StatusCode;
use serde_json::{Value, json};

const MAX_ACCOUNT_BYTES: usize = 255;

/// Answers for any account: what it would meet, if nobody has seen it yet.
pub(super) fn show(shared: &Shared, account: &str) -> Reply {
    let fit = account.len() <= MAX_ACCOUNT_BYTES
        && account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !fit {
        return Reply::refuse(StatusCode::BAD_REQUEST, "not an account's id");
    }
    let snapshot = shared.current();
    let config = &snapshot.config;
    let overrides: Vec<Override> = shared
        .overriding
        .look(|book, _| book.entries().iter().filter(|entry| entry.account == account).cloned().collect());
    let standing = Standing { shared, config, account, now: shared.time.now() };
    let limits: Vec<Value> = config
        .policy
        .limits()
        .map(|(id, limit)| {
            let over = overrides.iter().find(|entry| *entry.limit == *limit.name);
            standing.limit(id, limit, over)
        })
        .collect();
    // With passthrough any account is as good as another.
    let known = match &*snapshot.authority {
        Authority::Keys(keyring) => keyring.principals().any(|principal| *principal.account == *account).into(),
        Authority::Passthrough(_) | Authority::Waiting => Value::Null,
    };
    let tier = config.tiers.get(account);
    Reply::ok(json!({ "id": account, "known": known, "tier": tier, "limits": limits }))
}

struct Standing<'a> {
    shared: &'a Shared,
    config: &'a Config,
    account: &'a str,
    now: Nanos,
}

impl Standing<'_> {
    fn limit(&self, id: LimitId, limit: &Limit, over: Option<&Override>) -> Value {
        let own = self.config.policy.limiter(id, self.config.profile(self.account));
        let mut value = json!({
            "name": limit.name,
            "reason": limit.stage.reason(),
            "enforce": enforce(limit.enforce),
            "figures": figures(&own),
            "override": over.map(|over| &over.id),
        });
        if own != limit.limiter {
            value["base"] = figures(&limit.limiter);
        }
        // Where the account alone makes the partition, there is one a mode to look at.
        if *limit.per == [Part::Account] {
            let modes = Mode::ALL.into_iter().filter(|&mode| limit.when.mode.is_none_or(|wanted| wanted == mode));
            value["usage"] = modes.map(|mode| self.usage(id, &own, mode)).collect();
        }
        value
    }

    fn usage(&self, id: LimitId, limiter: &Limiter, mode: Mode) -> Value {
        let peek = |cost| self.shared.engine.peek(&self.config.policy, id, &self.class(mode, cost), self.now);
        let next_free = match peek(1) {
            Outcome::Admitted { .. } => json!(0),
            Outcome::Rejected { retry_at } => retry_at.map_or(Value::Null, |at| json!(milliseconds(at - self.now))),
        };
        let left = match (limiter, peek(0)) {
            // A slot has no cost: asking for one leaves one less.
            (Limiter::Concurrency(_), Outcome::Admitted { remaining }) => remaining + 1,
            (_, Outcome::Admitted { remaining }) => remaining,
            (_, Outcome::Rejected { .. }) => 0,
        };
        match limiter {
            Limiter::Concurrency(figures) => {
                json!({ "mode": mode.as_str(), "left": left, "in_flight": u64::from(figures.slots).saturating_sub(left) })
            }
            Limiter::Allocation(_) => {
                let class = self.class(mode, 0);
                let earned = self.shared.engine.earned(&self.config.policy, id, &class, self.now);
                let (transactions, allowed) = earned.map_or((0, 0), |earned| (earned.transactions, earned.allowed));
                json!({
                    "mode": mode.as_str(), "left": left, "next_free_ms": next_free,
                    "transactions": transactions, "allowed": allowed, "used": u64::from(allowed).saturating_sub(left),
                })
            }
            Limiter::Gcra(_) | Limiter::SlidingWindow(_) => {
                json!({ "mode": mode.as_str(), "left": left, "next_free_ms": next_free })
            }
        }
    }

    fn class(&self, mode: Mode, cost: u32) -> RequestClass {
        RequestClass {
            mode,
            access: Access::Write,
            endpoint: self.config.other(Access::Write),
            route: RouteId(0),
            profile: self.config.profile(self.account),
            cost,
            account: self.shared.engine.seed().id(IdKind::Account, self.account.as_bytes()),
            connected: Id::NONE,
            key: Id::NONE,
            ip: Id::NONE,
            values: [Id::NONE; MAX_VALUES],
            facts: 0,
            payers: Payers::Account,
            lot: lot(self.account),
        }
    }
}

/// As the configuration writes it.
fn enforce(enforce: Enforce) -> Value {
    match enforce {
        Enforce::Always => true.into(),
        Enforce::Never => false.into(),
        Enforce::Share(share) => share.fraction().into(),
    }
}
