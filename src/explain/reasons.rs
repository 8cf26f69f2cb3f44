//! Why a limit does not apply to a request, in words.

use crate::config::Config;
use crate::engine::{Access, Condition, Enforce, Exempt, Limit, Part, RequestClass, Unmet};

/// Names that are listed of a condition; of more, how many there are.
const NAMES: usize = 3;

/// Words for one request.
pub(super) struct Reasons<'a> {
    pub(super) config: &'a Config,
    pub(super) class: &'a RequestClass,
    pub(super) account: &'a str,
    /// The limits that apply.
    pub(super) applying: &'a [&'a Limit],
}

impl Reasons<'_> {
    /// Why `limit` is exempt.
    pub(super) fn of(&self, limit: &Limit, exempt: Exempt) -> String {
        match exempt {
            Exempt::When(unmet) => self.unmet(&limit.when, unmet),
            Exempt::Except => {
                let except = limit.except.as_ref().map(|except| self.given(except)).unwrap_or_default();
                format!("its except holds: {}", except.join(" and "))
            }
            Exempt::Covered => match self.covering(limit) {
                Some(other) => format!("it is a fallback, and `{}` covers this request", other.name),
                None => "it is a fallback, and another limit covers this request".to_owned(),
            },
            Exempt::NoValue => self.no_value(limit),
        }
    }

    fn unmet(&self, when: &Condition, unmet: Unmet) -> String {
        let (config, class) = (self.config, self.class);
        match unmet {
            Unmet::Mode => {
                let wanted = when.mode.map_or("", |mode| mode.as_str());
                format!("when.mode is {wanted}, this request is {}", class.mode.as_str())
            }
            Unmet::Access => {
                let does = match class.access {
                    Access::Read => "reads",
                    Access::Write => "writes",
                };
                format!("when.access is {}, this request {does}", when.access.map_or("", |access| access.as_str()))
            }
            Unmet::Endpoint => {
                let name = &config.policy.endpoint(class.endpoint).name;
                format!("when.endpoint is {}, this request is {name}", self.endpoints(when))
            }
            Unmet::Connected if class.is_connected() => {
                "when.connected is false, this request is for a connected account".to_owned()
            }
            Unmet::Connected => "when.connected is true, this request is for no connected account".to_owned(),
            Unmet::Account => format!("when.account does not name {}", self.account),
            Unmet::Route => {
                let own = config.routes.get(class.route.0 as usize).map_or("none", |route| &route.name);
                format!("when.route is {}, this request takes {own}", self.routes(when))
            }
            Unmet::Form => {
                format!(
                    "when asks for {}, which the form of this request does not say",
                    self.facts(when.facts & !class.facts)
                )
            }
        }
    }

    /// Everything that a condition asks.
    fn given(&self, condition: &Condition) -> Vec<String> {
        let mut given = Vec::new();
        given.extend(condition.mode.map(|mode| format!("mode is {}", mode.as_str())));
        given.extend(condition.access.map(|access| format!("access is {}", access.as_str())));
        given.extend(condition.endpoints.as_ref().map(|_| format!("endpoint is {}", self.endpoints(condition))));
        given.extend(condition.connected.map(|connected| format!("connected is {connected}")));
        given.extend(condition.accounts.as_ref().map(|_| format!("account names {}", self.account)));
        given.extend(condition.routes.as_ref().map(|_| format!("route is {}", self.routes(condition))));
        given.extend((condition.facts != 0).then(|| self.facts(condition.facts)));
        given
    }

    fn endpoints(&self, condition: &Condition) -> String {
        let mut ids: Vec<_> = condition.endpoints.iter().flatten().copied().collect();
        ids.sort_unstable();
        few(ids.iter().map(|id| &*self.config.policy.endpoint(*id).name), ids.len())
    }

    fn routes(&self, condition: &Condition) -> String {
        let mut ids: Vec<_> = condition.routes.iter().flatten().copied().collect();
        ids.sort_unstable();
        few(ids.iter().filter_map(|id| Some(&*self.config.routes.get(id.0 as usize)?.name)), ids.len())
    }

    fn facts(&self, facts: u64) -> String {
        let inspection = self.config.inspection(self.class.endpoint);
        let tests: Vec<String> =
            inspection.into_iter().flat_map(|known| known.holding(facts)).map(|test| test.name()).collect();
        if tests.is_empty() { "a form".to_owned() } else { few(tests.iter().map(String::as_str), tests.len()) }
    }

    fn covering(&self, fallback: &Limit) -> Option<&&Limit> {
        let counts = fallback.enforce.is_for(self.class);
        self.applying.iter().find(|other| {
            !other.fallback
                && other.stage == fallback.stage
                && other.limiter.mechanism() == fallback.limiter.mechanism()
                && (!counts || other.enforce.is_for(self.class))
        })
    }

    fn no_value(&self, limit: &Limit) -> String {
        let lacks = |part: &&Part| match part {
            Part::Value(id) => self.config.policy.value_slot(self.class.endpoint, *id).is_none(),
            _ => false,
        };
        let lacking = limit.per.iter().find(lacks).and_then(|part| match part {
            Part::Value(id) => self.config.extractors.get(id.0 as usize),
            _ => None,
        });
        let name = lacking.map(ToString::to_string).unwrap_or_else(|| "a value".to_owned());
        let endpoint = &self.config.policy.endpoint(self.class.endpoint).name;
        format!("it counts by {name}, which {endpoint} does not have")
    }
}

/// For whom a limit refuses, as far as this request goes; `None` where that needs no word.
pub(super) fn enforcement(limit: &Limit, class: &RequestClass) -> Option<String> {
    match limit.enforce {
        Enforce::Always => None,
        Enforce::Never => Some("shadow: counted, not enforced".to_owned()),
        Enforce::Share(share) => {
            let percent = format!("{}", (share.fraction() * 1e6).round() / 1e4);
            let side =
                if limit.enforce.is_for(class) { "this account among them" } else { "for this one it is a shadow" };
            Some(format!("enforced for {percent}% of the accounts, {side}"))
        }
    }
}

fn few<'n>(names: impl Iterator<Item = &'n str>, all: usize) -> String {
    let named: Vec<&str> = names.take(NAMES).collect();
    match all.saturating_sub(named.len()) {
        0 => named.join(" or "),
        more => format!("{} or {more} more", named.join(", ")),
    }
}
