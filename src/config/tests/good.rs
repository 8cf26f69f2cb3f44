//! Good files and what they become.

use super::*;
use crate::engine::{
    Access, Enforce, Id, IdKind, Limiter, Mode, Nanos, Outcome, Part, Payers, ProfileId, RequestClass, Stage,
};
use std::time::Duration;

fn with_preset(text: &str) -> Config {
    good(&format!("presets = ['stripe']\n{BASE}{text}"))
}

fn limit<'c>(config: &'c Config, name: &str) -> (crate::engine::LimitId, &'c crate::engine::Limit) {
    config.policy.limits().find(|(_, limit)| *limit.name == *name).unwrap_or_else(|| panic!("no limit {name}"))
}

/// A request as classification will see it.
fn class(config: &Config, request: &str, mode: Mode) -> RequestClass {
    let (method, path) = request.split_once(' ').unwrap();
    let path = crate::path::canonical(path.as_bytes()).unwrap();
    let found = config.index.find(&method.parse().unwrap(), &path);
    let access = if method == "GET" { Access::Read } else { Access::Write };
    let endpoint = found.map_or(config.other(access), |found| found.endpoint());
    let known = &config.endpoints[endpoint.0 as usize];
    RequestClass {
        mode,
        access: known.access,
        endpoint,
        route: crate::engine::RouteId(0),
        profile: ProfileId::BASE,
        cost: known.cost,
        account: SEED.id(IdKind::Account, b"acct_1"),
        connected: Id::NONE,
        key: Id::NONE,
        ip: Id::NONE,
        values: [Id::NONE; 8],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    }
}

/// The limits that a request meets, in order.
fn met(config: &Config, class: &RequestClass) -> Vec<String> {
    let engine = Arc::new(crate::engine::Engine::new(SEED, 1000));
    let mut steps: Vec<crate::engine::Step> = Vec::new();
    let hold = engine.walk(&config.policy, class, Nanos::ZERO, &mut steps).unwrap();
    drop(hold);
    let decided = steps.into_iter().filter_map(|step| match step {
        crate::engine::Step::Decided { limit, outcome: Outcome::Admitted { .. }, .. } => Some(limit),
        _ => None,
    });
    let enforced = decided.map(|id| config.policy.limit(id)).filter(|limit| limit.enforce == Enforce::Always);
    enforced.map(|limit| limit.name.to_string()).collect()
}

fn figures(config: &Config, name: &str, profile: ProfileId) -> (u64, u64) {
    match config.policy.limiter(limit(config, name).0, profile) {
        Limiter::Gcra(bucket) => (bucket.count(), bucket.burst()),
        Limiter::SlidingWindow(window) => (window.limit().into(), window.window().as_secs()),
        Limiter::Concurrency(slots) => (u64::from(slots.slots), 0),
        Limiter::Allocation(earned) => (earned.per_transaction.into(), earned.at_least.into()),
    }
}

#[test]
fn the_presets_report_the_read_allocation_and_do_not_enforce_it() {
    for preset in ["stripe", "stripe-read-write"] {
        let config = good(&format!("presets = ['{preset}']\n{BASE}"));
        let transactions: Vec<&str> =
            config.endpoints.iter().filter(|endpoint| endpoint.transaction).map(|endpoint| &*endpoint.name).collect();
        assert_eq!(transactions.len(), 4, "{transactions:?}");
        for (name, connected) in [("read-allocation", false), ("read-allocation-platform", true)] {
            let (_, row) = limit(&config, name);
            let Limiter::Allocation(earned) = row.limiter else { panic!("{name}") };
            assert_eq!((earned.per_transaction, earned.at_least, earned.window.as_secs()), (500, 10_000, 30 * 86_400));
            assert_eq!(
                (row.enforce, row.stage.reason(), row.when.connected),
                (Enforce::Never, "global-rate", Some(connected))
            );
            let left_out = row.except.as_ref().and_then(|except| except.endpoints.as_ref()).map_or(0, |set| set.len());
            assert!(left_out > 8, "{left_out}");
        }
    }
}

#[test]
fn the_stripe_preset_is_the_table() {
    let config = with_preset("");
    let cases = [
        ("GET /v1/balance", Mode::Live, "global-live endpoint-default"),
        ("GET /v1/balance", Mode::Test, "global-test endpoint-default"),
        ("GET /v1/nothing", Mode::Live, "global-live endpoint-default"),
        ("GET /v1/files/file_1", Mode::Live, "global-live files-read"),
        ("GET /v1/files/file_1/contents", Mode::Test, "global-test files-read"),
        ("POST /v1/files", Mode::Live, "global-live files-write"),
        ("GET /v1/charges/search", Mode::Live, "global-live search"),
        ("POST /v1/payouts", Mode::Live, "global-live payouts-rate payouts-concurrency"),
        ("GET /v1/payouts", Mode::Live, "global-live endpoint-default"),
        ("POST /v1/accounts", Mode::Live, "global-live accounts-live"),
        ("POST /v1/accounts", Mode::Test, "global-test accounts-test"),
        ("POST /v1/billing/meter_events", Mode::Live, "meter-events-live meter-event-in-flight"),
        ("POST /v2/billing/meter_events", Mode::Live, "meter-events-live"),
        ("POST /v1/billing/meter_events", Mode::Test, "global-test meter-event-in-flight"),
        ("POST /v2/billing/meter_event_stream", Mode::Live, "meter-event-stream-live"),
    ];
    for (request, mode, wanted) in cases {
        assert_eq!(met(&config, &class(&config, request, mode)).join(" "), wanted, "{request} {mode:?}");
    }
    let mut connected = class(&config, "POST /v1/billing/meter_events", Mode::Live);
    connected.connected = SEED.id(IdKind::Account, b"acct_2");
    assert_eq!(met(&config, &connected), ["global-live", "meter-event-in-flight"]);
    let wanted =
        [("global-live", 100), ("global-test", 25), ("endpoint-default", 25), ("files-read", 20), ("search", 20)];
    for (name, count) in
        wanted.into_iter().chain([("payouts-rate", 15), ("accounts-test", 5), ("meter-events-live", 1000)])
    {
        assert_eq!(figures(&config, name, ProfileId::BASE), (count, count), "{name}");
    }
    assert_eq!(limit(&config, "payouts-concurrency").1.stage, Stage::EndpointConcurrency);
}

#[test]
fn the_older_preset_counts_reads_and_writes_apart() {
    let config = good(&format!("presets = 'stripe-read-write'\n{BASE}"));
    let met = |request, mode| met(&config, &class(&config, request, mode)).join(" ");
    assert_eq!(met("GET /v1/balance", Mode::Live), "global-live-read endpoint-default");
    assert_eq!(met("POST /v1/payouts", Mode::Test), "global-test-write payouts-rate payouts-concurrency");
    assert_eq!(met("POST /v1/billing/meter_events", Mode::Live), "meter-events-live meter-event-in-flight");
    assert_eq!(met("POST /v1/billing/meter_events", Mode::Test), "global-test-write meter-event-in-flight");
}

#[test]
fn an_entry_of_a_presets_name_replaces_it() {
    let config = with_preset(
        "[[limits]]\nname = 'search'\nstage = 'endpoint'\nrate = '7/s'\nburst = 9\nwhen = { endpoint = 'search.*' }\n\
         [[endpoints]]\nmatch = 'POST /v1/payouts'\ncost = 3\n\
         [[endpoints]]\nmatch = 'GET /v1/files/{id}'\nname = 'files.get'\n",
    );
    assert_eq!(figures(&config, "search", ProfileId::BASE), (7, 9));
    assert_eq!(config.policy.limits().filter(|(_, limit)| &*limit.name == "search").count(), 1);
    let payout = class(&config, "POST /v1/payouts", Mode::Live);
    assert_eq!((payout.cost, &*config.endpoints[payout.endpoint.0 as usize].name), (3, "payouts.create"));
    assert_eq!(met(&config, &class(&config, "GET /v1/files/f", Mode::Live)), ["global-live", "files-read"]);
    let moved = with_preset("[[endpoints]]\nmatch = 'POST /v9/payouts'\nname = 'payouts.create'\n");
    let old = class(&moved, "POST /v1/payouts", Mode::Live);
    assert_eq!(&*moved.endpoints[old.endpoint.0 as usize].name, "POST /v1/payouts");
    assert_eq!(met(&moved, &class(&moved, "POST /v9/payouts", Mode::Live)).len(), 3);
}

#[test]
fn defaults_of_a_limit() {
    let config = good(&format!(
        "{BASE}[[limits]]\nname = 'a'\nstage = 'global'\nrate = '100/min'\n\
         [[limits]]\nname = 'b'\nstage = 'endpoint'\nrate = '5/100ms'\nenforce = false\n\
         [[limits]]\nname = 'c'\nstage = 'global'\nconcurrency = 0\n\
         [[limits]]\nname = 'd'\nstage = 'resource'\nrate = '0/s'\nper = []\n",
    ));
    let of = |name| limit(&config, name).1;
    assert_eq!((figures(&config, "a", ProfileId::BASE), &*of("a").per), ((100, 1), &[Part::Account][..]));
    assert_eq!(
        (figures(&config, "b", ProfileId::BASE), &*of("b").per),
        ((5, 50), &[Part::Account, Part::Endpoint][..])
    );
    assert_eq!((of("a").enforce, of("b").enforce, of("a").fallback), (Enforce::Always, Enforce::Never, false));
    assert_eq!((of("c").stage, of("d").stage), (Stage::GlobalConcurrency, Stage::Resource));
    assert!(of("d").per.is_empty());
}

#[test]
fn an_accounts_figures_go_before_its_tiers_and_those_before_the_base() {
    let config = with_preset(
        "[tiers.gold.limits]\nsearch = { rate = '40/s' }\npayouts-rate = { rate = '60/s', burst = 100 }\n\
         [accounts.a]\ntier = 'gold'\n[accounts.b]\ntier = 'gold'\nlimits.search = { rate = '50/s' }\n\
         [accounts.c]\nlimits.payouts-concurrency = { concurrency = 99 }\n",
    );
    let of = |account, name| figures(&config, name, config.profile(account));
    assert_eq!(["a", "b", "c", "x"].map(|account| of(account, "search").0), [40, 50, 20, 20]);
    assert_eq!(
        ["a", "b", "c", "x"].map(|account| of(account, "payouts-rate")),
        [(60, 100), (60, 100), (15, 15), (15, 15)]
    );
    assert_eq!(of("c", "payouts-concurrency").0, 99);
    assert_ne!(config.profile("a"), config.profile("b"));
    assert_eq!(config.profile("x"), ProfileId::BASE);
}

#[test]
fn values_to_count_by_are_noted_where_they_are() {
    let config = good(&format!(
        "{BASE}[[endpoints]]\nmatch = 'GET /a/{{id}}'\n[[endpoints]]\nmatch = 'GET /b'\n\
         [[limits]]\nname = 'l'\nstage = 'resource'\nrate = '1/s'\nper = ['path.id', 'header.X-Tenant']\n",
    ));
    let [path, header] = [0, 1].map(crate::engine::policy::ExtractorId);
    assert_eq!(config.extractors[0], Extractor::Path("id".into()));
    assert_eq!(config.extractors[1], Extractor::Header(http::HeaderName::from_static("x-tenant")));
    let of = |request| &*config.policy.endpoint(class(&config, request, Mode::Live).endpoint).extractors;
    assert_eq!(of("GET /a/1"), [path, header]);
    assert_eq!(of("GET /b"), [header]);
    assert_eq!(met(&config, &class(&config, "GET /a/1", Mode::Live)), ["l"]);
    assert!(met(&config, &class(&config, "GET /b", Mode::Live)).is_empty());
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let config = good(&format!(
        "{BASE}ca = 'ca.pem'\n[server]\ntls = {{ certificate = '/c', private_key = 'p' }}\n[log]\naccess = 'a.log'\n",
    ));
    let files: Vec<_> = config.files.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(files, ["dir/t.toml", "/c", "dir/p", "dir/k", "dir/ca.pem"]);
    assert_eq!(config.log.access, Some(AccessLog::File("dir/a.log".into())));
    assert_eq!(config.auth.keys_file.as_deref(), Some(Path::new("dir/k")));
}

#[test]
fn routes_have_names_of_their_own() {
    let config = good(&format!(
        "{BASE}[[routes]]\npath_prefix = '/v1'\n[[routes]]\n[[routes]]\nhosts = ['*.b.org']\npath_prefix = '/v1'\n\
         [[routes]]\nname = 'own'\nhosts = 'c.org'\nupstream = 'a'\n",
    ));
    let names: Vec<&str> = config.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["/v1", "default", "route-3", "own"]);
    assert_eq!(config.route("x.b.org", "/v1/x").map(|id| id.0), Some(2));
    assert_eq!(config.route("C.org:80", "/v1/x").map(|id| id.0), Some(3));
}

#[test]
fn what_works_but_is_not_meant_is_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        with_preset(text).warnings.iter().map(|warning| format!("{}: {}", warning.line, warning.message)).collect()
    };
    let limit = |name: &str, rest: &str| format!("[[limits]]\nname = '{name}'\nstage = 'endpoint'\n{rest}\n");
    let of_search = "rate = '30/s'\nwhen = { endpoint = 'search.*' }\nper = ['account']";
    assert_eq!(warnings(&limit("wide", of_search)), ["7: the limit `wide` never refuses: `search` is as strict"]);
    let shadow = format!("{of_search}\nenforce = false");
    assert!(warnings(&limit("wide", &shadow)).is_empty());
    let raised = limit("wide", of_search) + "[accounts.a]\nlimits.search = { rate = '90/s' }";
    assert!(warnings(&raised).is_empty());
    let never = "rate = '1/s'\nwhen = { mode = 'test', connected = true }\nexcept = { mode = 'test' }";
    assert_eq!(warnings(&limit("never", never)), ["7: the limit `never` never applies"]);
    let access = "rate = '1/s'\nwhen = { access = 'read', endpoint = 'payouts.create' }";
    assert_eq!(warnings(&limit("reads", access)), ["7: the limit `reads` never applies"]);
    assert_eq!(warnings("[tiers.t]"), ["6: no account has the tier `t`"]);
    let shared = limit("by-ip", "rate = '1/s'\nper = ['ip']") + "[accounts.a]\nlimits.by-ip = { rate = '9/s' }";
    assert_eq!(warnings(&shared), ["12: `by-ip` is not counted per account: others share its partitions"]);
    let admin = warnings("[admin]\nlisten = ':9090'");
    assert!(admin.len() == 1 && admin[0].contains("from other machines"), "{admin:?}");
}

#[test]
fn a_great_many_limits_compile() {
    let mut text = format!("presets = 'stripe'\n{BASE}");
    for nth in 0..20_000 {
        text.push_str(&format!(
            "[[limits]]\nname = 'l{nth}'\nstage = 'resource'\nrate = '{}/s'\nper = ['account']\n\
             when = {{ endpoint = 'payouts.*', account = 'acct_{nth}' }}\n",
            nth + 1
        ));
    }
    assert!(good(&text).policy.len() > 20_000);
}

#[test]
fn time_outs_and_sizes_are_read() {
    let config = good(&format!(
        "{BASE}response_timeout = '90s'\nmax_idle = 3\n[server]\ndrain_timeout = '0s'\nmax_uri_bytes = '4KiB'\nmax_connections = 5\nhttp2_max_streams = 7\n",
    ));
    assert_eq!(config.server.drain_timeout, Duration::ZERO);
    assert_eq!(config.server.http2.unwrap().max_streams, 7);
    let other = good(&format!("{BASE}protocol = 'http2'\n[server]\nhttp2 = false\n"));
    assert_eq!((other.server.http2, other.upstreams[0].protocol), (None, crate::config::Protocol::Http2));
    assert_eq!((config.server.max_uri_bytes, config.server.max_connections), (4096, 5));
    assert_eq!((config.upstreams[0].response_timeout, config.upstreams[0].max_idle), (Duration::from_secs(90), 3));
}

/// The lock of the endpoint that a request is for.
fn lock(config: &Config, request: &str) -> Option<crate::config::ObjectLock> {
    config.endpoints[class(config, request, Mode::Live).endpoint.0 as usize].lock.clone()
}

#[test]
fn locks_of_one_name_are_one() {
    let config = with_preset(
        "[[limits]]\nname = 'l'\nstage = 'resource'\nrate = '5/s'\nper = ['header.x-part']\n\
         [[endpoints]]\nmatch = 'POST /v1/payment_intents/{intent}'\nlock = { per = ['path.intent', 'header.x-part'] }\n\
         [[endpoints]]\nmatch = 'POST /v1/payment_intents/{intent}/capture'\nlock = { per = ['path.intent'], wait = '250ms' }\n\
         [[endpoints]]\nmatch = 'POST /v1/charges/{charge}'\nlock = { per = ['path.charge'], name = 'path.intent' }",
    );
    let update = lock(&config, "POST /v1/payment_intents/pi_1").unwrap();
    let capture = lock(&config, "POST /v1/payment_intents/pi_1/capture").unwrap();
    let charge = lock(&config, "POST /v1/charges/ch_1").unwrap();
    assert_eq!((update.wait, capture.wait), (Duration::from_secs(5), Duration::from_millis(250)));
    assert_eq!(capture.id, charge.id, "the name is `per`, unless given");
    assert_ne!(capture.id, update.id);
    let values = |request: &str| {
        let extractors = &config.policy.endpoint(class(&config, request, Mode::Live).endpoint).extractors;
        let name = |&slot: &usize| format!("{:?}", config.extractors[extractors[slot].0 as usize]);
        lock(&config, request).unwrap().values.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(values("POST /v1/payment_intents/pi_1"), ["Path(\"intent\")", "Header(\"x-part\")"]);
    assert_eq!(values("POST /v1/payment_intents/pi_1/capture"), ["Path(\"intent\")"]);
    assert!(lock(&config, "GET /v1/payment_intents/pi_1").is_none());
}

#[test]
fn the_examples_of_locks_in_the_preset_are_good() {
    let preset = include_str!("../../../config/stripe.toml");
    let lines = preset.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with([' ', ':']));
    let config = with_preset(&lines.collect::<Vec<_>>().join("\n"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for request in ["POST /v1/payment_intents/pi_1/confirm", "POST /v1/subscriptions/sub_1/pause"] {
        assert!(lock(&config, request).is_some(), "{request}");
    }
    assert!(with_preset("").endpoints.iter().all(|endpoint| endpoint.lock.is_none()));
}

#[test]
fn limits_by_address_have_defaults_that_hurt_nobody_behind_a_load_balancer() {
    let bare = good(BASE).addresses;
    assert_eq!((bare.requests, bare.max_addresses), (None, 250_000));
    let figures = |gate: Option<crate::engine::Gate>| {
        let figures = *gate.unwrap().figures();
        (figures.count(), figures.period().as_secs(), figures.burst())
    };
    assert_eq!((figures(bare.failures), figures(bare.all_failures)), ((60, 60, 60), (1_000, 1, 1_000)));
    let [public, private] = ["192.0.2.1", "10.0.0.1"].map(|address| address.parse().unwrap());
    assert!(bare.counts_failures(public) && !bare.counts_failures(private) && !bare.is_exempt(private));
    let of = |text: &str| good(&format!("{BASE}[addresses]\n{text}")).addresses;
    let asked = of("requests = '5/s'\nrequests_burst = 9\nfailed_authentications = '20/m'\nexempt = ['10.0.0.0/31']");
    assert_eq!((figures(asked.requests), figures(asked.failures)), ((5, 1, 9), (20, 60, 20)));
    assert!(!asked.counts_failures(private) && asked.counts_failures("10.0.0.2".parse().unwrap()));
    let off = of("failed_authentications = 'off'\nfailed_authentications_total = 'off'");
    assert!((off.failures, off.all_failures) == (None, None) && !off.counts_failures(public));
    assert_eq!(figures(of("requests = '90/m'").requests), (90, 60, 1));
}

#[test]
fn a_routes_options_are_read() {
    let config = good(&format!(
        "{BASE}credentials = {{ bearer_file = 'token' }}\n[[routes]]\npath_prefix = '/API/v1/'\nstrip_prefix = '/api/'\n\
         add_prefix = '/v2/'\nhost = 'up.internal:80'\nrequest_headers = {{ set = {{ X-Who = 'a {{account}}{{\"x\": 1}}' }}, remove = ['X-Debug', 'Tollgate-Mode'] }}\n\
         response_headers = {{ add = {{ Report-To = '{{{{\"group\": 1}}}}', X-Id = '{{request_id}}' }} }}\n\
         [[routes]]\ncredentials = 'keep'\nhost = 'server'\n[server]\nvia = 'edge:80'\n",
    ));
    let options = &config.routes[0].options;
    assert_eq!((&*options.strip_prefix, &*options.add_prefix), ("/api", "/v2"));
    assert_eq!(options.stripped, Some(http::HeaderValue::from_static("/api")));
    assert_eq!(options.host, HostRule::Fixed(http::HeaderValue::from_static("up.internal:80")));
    let names: Vec<&str> = options.request_headers.cleared.iter().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-debug", "tollgate-mode", "x-who"]);
    let text = |text: &str| Piece::Text(text.into());
    let filled = [text("a "), Piece::Account, text("{\"x\": 1}")];
    assert_eq!(options.request_headers.set[0].1, HeaderValueRule::Filled(filled.into()));
    let fixed = http::HeaderValue::from_static("{{\"group\": 1}}");
    assert_eq!(options.response_headers.add[0].1, HeaderValueRule::Fixed(fixed));
    assert_eq!(options.response_headers.add[1].1, HeaderValueRule::Filled([Piece::RequestId].into()));
    let Credentials::Replace(replacement) = &options.credentials else { panic!("the upstream's") };
    assert_eq!(replacement.source, SecretSource::File("dir/token".into()));
    assert!(config.files.contains(&"dir/token".into()), "it is watched");
    assert_eq!(
        (&config.routes[1].options.credentials, &config.routes[1].options.host),
        (&Credentials::Keep, &HostRule::Server)
    );
    assert_eq!(config.server.via.value(http::Version::HTTP_2), "2 edge:80");
    let default = good(&format!("{BASE}credentials = 'drop'\n"));
    assert_eq!(default.routes[0].options.credentials, Credentials::Drop);
}
