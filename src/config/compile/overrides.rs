//! Tiers and accounts: figures in place of the limits' own. An account's go before its tier's, its tier's before the base.

use super::super::error::Finding;
use super::super::raw::{Item, Named, RawAccount, RawFigures, RawTier};
use super::super::values::Located;
use super::limits::{Limits, Written, check_cost, limiter};
use super::{Context, EndpointTable};
use crate::engine::{LimitId, Limiter, Part, Profile, ProfileId};
use std::collections::{BTreeMap, HashMap, HashSet};

type RawOverrides = BTreeMap<Located<String>, Located<RawFigures>>;

/// Sets of figures and who has which.
pub(super) struct Compiled {
    /// The base first.
    pub(super) profiles: Vec<Profile>,
    pub(super) accounts: HashMap<Box<str>, ProfileId>,
    pub(super) tier_profiles: HashMap<Box<str>, ProfileId>,
}

/// Compiles both.
pub(super) fn compile(
    context: &mut Context<'_>,
    tiers: &Named<RawTier>,
    accounts: &Named<RawAccount>,
    limits: &Limits,
    endpoints: &EndpointTable,
) -> Compiled {
    let mut profiles = vec![Profile::default()];
    let mut by_tier: HashMap<&str, ProfileId> = HashMap::new();
    for (name, item) in &tiers.0 {
        by_tier.insert(&name.value, id(&profiles));
        profiles.push(Profile { limiters: overrides(context, item, &item.raw.limits, limits, endpoints) });
    }
    let mut by_account = HashMap::new();
    let mut used = HashSet::new();
    for (account, item) in &accounts.0 {
        let tier = tier(context, item, &by_tier);
        used.extend(item.raw.tier.as_ref().map(|tier| tier.value.as_str()));
        let own = overrides(context, item, &item.raw.limits, limits, endpoints);
        if item.raw.tier.is_none() && item.raw.limits.is_empty() && !item.damaged {
            let message = format!("the account `{}` has neither a tier nor figures of its own", account.value);
            context.tell(Finding::warning(item.at(&account.span), message));
        }
        let profile = if own.is_empty() {
            tier
        } else {
            let mut profile = profiles.get(tier.0 as usize).cloned().unwrap_or_default();
            profile.limiters.extend(own);
            profiles.push(profile);
            ProfileId(id(&profiles).0 - 1)
        };
        by_account.insert(account.value.as_str().into(), profile);
    }
    let damaged = context.damage.touches("accounts") || accounts.0.iter().any(|(_, item)| item.damaged);
    for (name, item) in tiers.0.iter().filter(|(name, _)| !damaged && !used.contains(name.value.as_str())) {
        context.tell(Finding::warning(item.at(&name.span), format!("no account has the tier `{}`", name.value)));
    }
    let tier_profiles = by_tier.into_iter().map(|(name, id)| (name.into(), id)).collect();
    Compiled { profiles, accounts: by_account, tier_profiles }
}

/// The tier that each account is given.
pub(super) fn tiers(accounts: Option<&Named<RawAccount>>) -> HashMap<Box<str>, Box<str>> {
    let given = accounts.into_iter().flat_map(|accounts| &accounts.0);
    given
        .filter_map(|(name, item)| Some((name.value.as_str().into(), item.raw.tier.as_ref()?.value.as_str().into())))
        .collect()
}

/// The id that the next profile gets.
fn id(profiles: &[Profile]) -> ProfileId {
    ProfileId(u32::try_from(profiles.len()).unwrap_or(u32::MAX))
}

fn tier(context: &mut Context<'_>, item: &Item<RawAccount>, tiers: &HashMap<&str, ProfileId>) -> ProfileId {
    let Some(given) = &item.raw.tier else { return ProfileId::BASE };
    let known = tiers.get(given.value.as_str()).copied();
    if known.is_none() && !context.damage.touches("tiers") {
        let mut names: Vec<&str> = tiers.keys().copied().collect();
        names.sort_unstable();
        context.unknown("tier", item.at(&given.span), &given.value, names.into_iter(), "tiers are [tiers.NAME.limits]");
    }
    known.unwrap_or(ProfileId::BASE)
}

fn overrides<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    raw: &RawOverrides,
    limits: &Limits,
    endpoints: &EndpointTable,
) -> HashMap<LimitId, Limiter> {
    let mut compiled = HashMap::new();
    for (name, figures) in raw {
        let Some(&known) = limits.by_name.get(&name.value) else {
            if !context.damage.touches("limits") {
                let names = limits.checked.iter().map(|checked| &*checked.limit.name);
                context.unknown("limit", item.at(&name.span), &name.value, names, "");
            }
            continue;
        };
        let whose = format!("the override of `{}`", name.value);
        let written = Written { figures: &figures.value, place: item.at(&figures.span), damaged: item.damaged };
        let Some(limiter) = limiter(context, &written, &whose) else { continue };
        let base = known.and_then(|id| Some((id, limits.checked.get(id.index())?)));
        let Some((id, base)) = base else { continue };
        let [wanted, found] = [base.limit.limiter, limiter].map(|limiter| limiter.mechanism().as_str());
        if wanted != found {
            let finding =
                Finding::error(written.place, format!("the limit `{}` is a {wanted}, not a {found}", name.value));
            context.tell(
                finding
                    .expected(format!("{wanted} = ..."))
                    .hint("an override gives other figures, not another mechanism"),
            );
            continue;
        }
        check_cost(context, &written, &limiter, base.limit.when.endpoints.as_ref(), endpoints);
        if !base.limit.per.iter().any(|part| matches!(part, Part::Account | Part::Key)) {
            let message = format!("`{}` is not counted per account: others share its partitions", name.value);
            let finding = Finding::warning(item.at(&name.span), message);
            context.tell(
                finding.hint("what is spent is carried over at each change of figures; add \"account\" to its `per`"),
            );
        }
        compiled.insert(id, limiter);
    }
    compiled
}
