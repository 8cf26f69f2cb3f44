//! From the raw structs to a [`Config`], past every mistake.
//!
//! The order is that of reference: upstreams before routes, routes and endpoints before limits, limits before tiers and
//! accounts. A name whose entry is broken still counts as known: one slip must not make two mistakes.

mod addresses;
mod conditions;
mod credentials;
mod endpoints;
mod facts;
mod heads;
mod limits;
mod locks;
mod overrides;
mod partitions;
mod resilience;
mod routes;
mod settings;
mod store;
mod tls;
mod trials;
mod upstreams;

pub(super) use endpoints::EndpointTable;
pub(super) use limits::{Checked, Limits};

pub(in crate::config) use limits::{Written, limiter};

use super::error::{ConfigErrors, Finding, Report, Severity};
use super::raw::{Damage, Item, RawReplay};
use super::source::{Place, SourceId, Sources};
use super::trace_format::TraceFormat;
use super::values::Located;
use super::{Config, document, lint, presets};
use crate::body::Inspection;
use crate::engine::{EndpointClass, Limit, Policy, Seed};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What every part of the compiler writes to.
pub(super) struct Context<'a> {
    pub(super) report: &'a mut Report,
    pub(super) seed: &'a Seed,
    /// What files' paths are relative to.
    folder: PathBuf,
    files: Vec<PathBuf>,
    /// What must not be said to be missing.
    damage: Damage,
}

impl<'a> Context<'a> {
    /// For values that come from no file.
    pub(super) fn bare(report: &'a mut Report, seed: &'a Seed) -> Context<'a> {
        Context { report, seed, folder: PathBuf::new(), files: Vec::new(), damage: Damage::default() }
    }
}

impl Context<'_> {
    /// A path as the configuration means it, and noted for the watcher.
    fn file(&mut self, written: &str) -> PathBuf {
        let path = self.folder.join(written);
        self.files.push(path.clone());
        path
    }

    fn tell(&mut self, finding: Finding) {
        self.report.add(finding);
    }

    /// Notes that something refers to a name that nothing has.
    fn unknown<'n>(
        &mut self,
        kind: &str,
        place: Place,
        word: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        otherwise: &str,
    ) {
        let finding = Finding::error(place, format!("there is no {kind} `{word}`"));
        let hint = self.report.nearest(word, known.clone());
        let few: Vec<&str> = known.take(9).collect();
        let finding = if (1..9).contains(&few.len()) { finding.expected(few.join(", ")) } else { finding };
        self.report.add(match hint {
            Some(hint) => finding.hint(hint),
            None if otherwise.is_empty() => finding,
            None => finding.hint(otherwise),
        });
    }
}

/// The value of a field, or its default.
fn value<T: Clone>(field: &Option<Located<T>>, default: T) -> T {
    field.as_ref().map_or(default, |located| located.value.clone())
}

pub(super) fn compile(text: &str, file: &Path, seed: &Seed) -> Result<Config, ConfigErrors> {
    let mut sources = Sources::new(&file.display().to_string(), text);
    let mut report = Report::default();
    let mut raw = document::read(text, SourceId::FILE, &mut report);
    let presets = presets::read(raw.presets.as_ref(), &mut sources, &mut report);
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let files = vec![file.to_path_buf()];
    let mut context = Context { report: &mut report, seed, folder, files, damage: std::mem::take(&mut raw.damage) };
    if presets.damaged {
        context.damage.sections.extend(["presets", "endpoints", "limits"]);
    }
    let mut config = build(&mut context, raw, presets);
    config.files = std::mem::take(&mut context.files);
    let refused = report.errors() > 0;
    let mut mistakes = report.finish(&sources);
    if refused {
        return Err(mistakes);
    }
    mistakes.mistakes.retain(|mistake| mistake.severity == Severity::Warning);
    config.warnings = mistakes.mistakes;
    Ok(config)
}

fn build(context: &mut Context<'_>, raw: super::raw::RawConfig, presets: presets::Layers) -> Config {
    let server = settings::server(context, raw.server);
    let admin = settings::admin(context, raw.admin, &server);
    let addresses = addresses::compile(context, raw.addresses);
    let connect = settings::connect(raw.connect);
    let responses = settings::responses(context, raw.responses);
    let log = settings::log(context, raw.log);
    let state = settings::state(context, raw.state);
    let store::Compiled { store, sharing } = store::compile(context, raw.store);
    let auth = settings::auth(context, raw.auth, &store);
    let trace_format = trace_format(context, raw.replay);
    let own: Vec<_> = server.listen.iter().copied().chain(admin.listen).collect();
    let upstreams = upstreams::compile(context, raw.upstreams.unwrap_or_default(), &own);
    let (routes, router) = routes::compile(context, &raw.routes.unwrap_or_default(), &upstreams);
    let (preset_endpoints, preset_limits) = (presets.endpoints, presets.limits);
    let mut endpoints =
        endpoints::compile(context, presets.operations, preset_endpoints, raw.endpoints.unwrap_or_default());
    let (limits, mut values, facts) =
        limits::compile(context, preset_limits, raw.limits.unwrap_or_default(), &endpoints, &routes, sharing);
    locks::compile(context, &mut endpoints, &mut values);
    let inspections = inspections(&endpoints, &values, &facts);
    let tiers = overrides::tiers(raw.accounts.as_ref());
    let overrides::Compiled { profiles, accounts, tier_profiles } = overrides::compile(
        context,
        &raw.tiers.unwrap_or_default(),
        &raw.accounts.unwrap_or_default(),
        &limits,
        &endpoints,
    );
    lint::limits(context, &limits, &endpoints, &profiles);
    let doc_urls = limits.checked.iter().map(|checked| checked.doc_url.clone()).collect();
    let policy = policy(context.seed, &endpoints, limits, &values, profiles);
    Config {
        server,
        admin,
        addresses,
        auth,
        connect,
        responses,
        log,
        state,
        store,
        trace_format,
        upstreams: upstreams.upstreams.into(),
        routes: routes.into(),
        router,
        other: endpoints.other,
        endpoints: endpoints.endpoints.into(),
        index: endpoints.index,
        extractors: values.extractors.into(),
        inspections,
        policy: Arc::new(policy),
        doc_urls,
        profiles: accounts,
        tiers,
        tier_profiles,
        warnings: Vec::new(),
        files: Vec::new(),
    }
}

/// How foreign traces are written, with the defaults of its kind.
fn trace_format(context: &mut Context<'_>, raw: Option<Item<RawReplay>>) -> Option<TraceFormat> {
    let item = raw?;
    let written = item.raw.format.as_ref()?;
    match written.value.clone().checked() {
        Ok(format) => Some(format),
        // What is missing may be what could not be read.
        Err(_) if item.damaged => None,
        Err(why) => {
            context.tell(Finding::error(item.at(&written.span), why));
            None
        }
    }
}

/// What to look for in the queries and bodies of each endpoint's requests.
fn inspections(
    endpoints: &EndpointTable,
    values: &partitions::Values,
    facts: &facts::Facts,
) -> Box<[Option<Box<Inspection>>]> {
    let of = |(id, (values_here, facts)): (_, (&Vec<_>, &Vec<_>))| {
        let sources: Vec<_> = values.sources(endpoints, id, values_here).collect();
        if sources.is_empty() && facts.is_empty() {
            return None;
        }
        Inspection::new(&sources, facts).map(Box::new)
    };
    endpoints.ids().zip(values.by_endpoint.iter().zip(&facts.by_endpoint)).map(of).collect()
}

fn policy(
    seed: &Seed,
    endpoints: &EndpointTable,
    limits: limits::Limits,
    values: &partitions::Values,
    profiles: Vec<crate::engine::Profile>,
) -> Policy {
    let classes = endpoints.endpoints.iter().zip(&values.by_endpoint).map(|(endpoint, extractors)| EndpointClass {
        name: endpoint.name.clone(),
        cost: endpoint.cost,
        extractors: extractors.clone().into(),
    });
    let limits: Vec<Limit> = limits.checked.into_iter().map(|checked| checked.limit).collect();
    Policy::new(seed, limits, classes.collect(), profiles)
}
