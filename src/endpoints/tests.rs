use super::*;
use proptest::prelude::*;

/// A part of Stripe's surface with every place where a static segment and a parameter overlap.
const STRIPE: &[&str] = &[
    "GET /v1/account",
    "GET /v1/accounts",
    "POST /v1/accounts",
    "GET /v1/accounts/{account}",
    "POST /v1/accounts/{account}/external_accounts/{id}",
    "GET /v1/balance",
    "GET /v1/charges",
    "POST /v1/charges",
    "GET /v1/charges/search",
    "GET /v1/charges/{charge}",
    "POST /v1/charges/{charge}",
    "POST /v1/charges/{charge}/capture",
    "GET /v1/credit_notes/preview",
    "GET /v1/credit_notes/preview/lines",
    "GET /v1/credit_notes/{id}",
    "POST /v1/credit_notes/{id}",
    "GET /v1/credit_notes/{credit_note}/lines",
    "GET /v1/customers/search",
    "GET /v1/customers/{customer}",
    "DELETE /v1/customers/{customer}",
    "GET /v1/customers/{customer}/sources/{id}",
    "POST /v1/customers/{customer}/sources/{id}/verify",
    "GET /v1/invoices/search",
    "GET /v1/invoices/upcoming",
    "GET /v1/invoices/upcoming/lines",
    "POST /v1/invoices/create_preview",
    "GET /v1/invoices/{invoice}",
    "POST /v1/invoices/{invoice}",
    "GET /v1/invoices/{invoice}/lines",
    "POST /v1/invoices/{invoice}/pay",
    "GET /v1/payment_intents/search",
    "GET /v1/payment_intents/{intent}",
    "POST /v1/payment_intents/{intent}/confirm",
    "POST /v1/payment_records/report_payment",
    "GET /v1/payment_records/{id}",
    "POST /v1/payment_records/{id}/report_payment_attempt",
    "GET /v1/prices/search",
    "GET /v1/prices/{price}",
    "GET /v1/products/search",
    "GET /v1/products/{id}",
    "POST /v1/products/{id}",
    "GET /v1/subscriptions/search",
    "GET /v1/subscriptions/{subscription_exposed_id}",
    "POST /v1/payouts",
    "GET /v1/payouts/{payout}",
    "POST /v1/tax/transactions/create_from_calculation",
    "POST /v1/tax/transactions/create_reversal",
    "GET /v1/tax/transactions/{transaction}",
    "GET /v1/tax/transactions/{transaction}/line_items",
    "POST /v2/billing/meter_event_stream",
    "GET /v2/core/events/{id}",
];

fn endpoints(templates: &[&str]) -> Endpoints {
    let mut endpoints = Endpoints::default();
    for (id, template) in (0..).map(EndpointId).zip(templates) {
        endpoints.insert(&template.parse().unwrap(), id).unwrap();
    }
    endpoints
}

/// What `METHOD PATH` is found as, with the values of its parameters.
fn look_up(endpoints: &Endpoints, request: &str) -> Option<(EndpointId, Vec<String>)> {
    let (method, path) = request.split_once(' ').unwrap();
    let path = path::canonical(path.as_bytes()).unwrap();
    let found = endpoints.find(&method.parse().unwrap(), &path)?;
    Some((found.endpoint(), (0..).map_while(|index| found.param(index).map(Cow::into_owned)).collect()))
}

fn assert_found(request: &str, template: &str, values: &[&str]) {
    let found = look_up(&endpoints(STRIPE), request);
    let (id, found_values) = found.unwrap_or_else(|| panic!("{request} is not found"));
    assert_eq!(
        (STRIPE[id.0 as usize], found_values),
        (template, values.iter().map(|&v| v.to_owned()).collect()),
        "{request}"
    );
}

#[test]
fn every_template_finds_itself() {
    for template in STRIPE {
        let request = template.replace('{', "id_").replace('}', "");
        let names =
            template.parse::<Template>().unwrap().names().iter().map(|name| format!("id_{name}")).collect::<Vec<_>>();
        assert_found(&request, template, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn static_beats_parameter_wherever_stripe_overlaps() {
    for collection in ["charges", "customers", "invoices", "payment_intents", "prices", "products", "subscriptions"] {
        let search = format!("GET /v1/{collection}/search");
        assert_found(&search, &search, &[]);
    }
    for path in [
        "GET /v1/credit_notes/preview",
        "GET /v1/credit_notes/preview/lines",
        "GET /v1/invoices/upcoming",
        "GET /v1/invoices/upcoming/lines",
        "POST /v1/invoices/create_preview",
        "POST /v1/payment_records/report_payment",
        "POST /v1/tax/transactions/create_from_calculation",
        "POST /v1/tax/transactions/create_reversal",
    ] {
        assert_found(path, path, &[]);
    }
}

#[test]
fn a_static_branch_that_dead_ends_is_given_up() {
    // No method there, no such child there, and both values kept in order.
    assert_found("POST /v1/charges/search", "POST /v1/charges/{charge}", &["search"]);
    assert_found("POST /v1/charges/search/capture", "POST /v1/charges/{charge}/capture", &["search"]);
    assert_found("POST /v1/invoices/upcoming/pay", "POST /v1/invoices/{invoice}/pay", &["upcoming"]);
    let crossed = endpoints(&["GET /a/{x}/c/{y}/e", "GET /a/b/{z}/d/f", "GET /a/b/c/{w}/g"]);
    assert_eq!(look_up(&crossed, "GET /a/b/c/d/e"), Some((EndpointId(0), vec!["b".into(), "d".into()])));
    assert_eq!(look_up(&crossed, "GET /a/b/c/d/f"), Some((EndpointId(1), vec!["c".into()])));
    assert_eq!(look_up(&crossed, "GET /a/b/c/d/g"), Some((EndpointId(2), vec!["d".into()])));
    assert_eq!(look_up(&crossed, "GET /a/b/c/d/h"), None);
}

#[test]
fn disguises_find_the_endpoint() {
    for request in [
        "POST /v1/payouts/",
        "POST //v1//payouts",
        "POST /v1/./payouts",
        "POST /v1/x/../payouts",
        "POST /v1/x/..;y/payouts",
        "POST /v1/payouts;a=b",
        "POST /v1;x/payouts;",
        "POST /v1/;x/payouts/;y",
        "POST /V1/PayOuts",
        "POST /v1/pa%79outs",
        "POST /%56%31/%50ayouts;z/",
    ] {
        assert_found(request, "POST /v1/payouts", &[]);
    }
    assert_found("GET /v1/charges/SEARCH", "GET /v1/charges/search", &[]);
    assert_found("GET /v1/Charges/Ch_1", "GET /v1/charges/{charge}", &["Ch_1"]);
    assert_found("HEAD /v1/charges/search", "GET /v1/charges/search", &[]);
}

#[test]
fn reserved_characters_match_raw_and_escaped() {
    let endpoints = endpoints(&["POST /v1/things:batch", "POST /v1/{id}", "GET /caf%c3%a9", "GET /a%3Bb"]);
    for (request, id) in [
        ("POST /v1/things:batch", 0),
        ("POST /v1/things%3abatch", 0),
        ("POST /v1/%74hings%3Abatch;x", 0),
        ("POST /v1/things%253abatch", 1),
        ("GET /caf\u{e9}", 2),
        ("GET /CAF%C3%A9", 2),
        ("GET /a%3bb", 3),
    ] {
        assert_eq!(look_up(&endpoints, request).map(|found| found.0), Some(EndpointId(id)), "{request}");
    }
    assert_eq!(look_up(&endpoints, "GET /a;b"), None);
}

#[test]
fn the_exact_case_comes_first() {
    let mut both = endpoints(&["GET /a/B", "GET /a/b", "GET /a/{id}", "GET /A/b/c"]);
    for (request, id) in [("GET /a/B", 0), ("GET /a/b", 1), ("GET /A/b", 1), ("GET /a/b/c", 3), ("GET /A/x", 2)] {
        assert_eq!(look_up(&both, request).map(|found| found.0), Some(EndpointId(id)), "{request}");
    }
    assert_eq!(both.insert(&"GET /A/b".parse().unwrap(), EndpointId(9)), Ok(()));
    assert_eq!(look_up(&both, "GET /A/b").map(|found| found.0), Some(EndpointId(9)));
}

#[test]
fn values_are_decoded_and_borrowed_where_they_can_be() {
    let endpoints = endpoints(&["GET /c/{id}/{x}"]);
    let path = path::canonical(b"/c/po_1;v=2/50%25%20off%2Coff").unwrap();
    let found = endpoints.find(&Method::GET, &path).unwrap();
    assert!(matches!(found.param(0), Some(Cow::Borrowed("po_1"))));
    assert_eq!(found.param(1).as_deref(), Some("50% off,off"));
    assert_eq!(found.param(2), None);
    assert_eq!(found.param(usize::MAX), None);
}

#[test]
fn what_no_template_covers_is_a_miss() {
    let endpoints = endpoints(STRIPE);
    for request in [
        "GET /",
        "GET /v1",
        "GET /v1/nothing",
        "PUT /v1/charges",
        "get /v1/charges",
        "GET /v1/charges/a/b",
        "HEAD /v1/payouts",
    ] {
        assert_eq!(look_up(&endpoints, request), None, "{request}");
    }
    for segment in ["/a", "/;a", "/v1", "/%25"] {
        assert_eq!(
            look_up(&endpoints, &format!("GET /v1/charges/x{}", segment.repeat(2000))).is_some(),
            segment == "/;a"
        );
    }
    assert_eq!(look_up(&Endpoints::default(), "GET /"), None);
}

#[test]
fn the_root_and_head_can_have_templates() {
    let endpoints = endpoints(&["GET /", "GET /a", "HEAD /a"]);
    assert_eq!(look_up(&endpoints, "HEAD //"), Some((EndpointId(0), vec![])));
    assert_eq!(look_up(&endpoints, "HEAD /a"), Some((EndpointId(2), vec![])));
}

#[test]
fn one_shape_is_taken_once() {
    let mut endpoints = endpoints(&["POST /v1/payouts/{payout}"]);
    let mut insert = |template: &str| endpoints.insert(&template.parse().unwrap(), EndpointId(7));
    assert_eq!(insert("POST /v1/payouts/{id}/"), Err(EndpointId(0)));
    assert_eq!(insert("POST /v1/pa%79outs/{id}"), Err(EndpointId(0)));
    assert_eq!(insert("GET /v1/payouts/{id}"), Ok(()));
}

#[test]
fn bad_templates_say_what_is_wrong() {
    let deep = format!("GET {}", "/a".repeat(MAX_TEMPLATE_SEGMENTS + 1));
    let wide = format!("GET {}", (0..=MAX_PARAMETERS).map(|n| format!("/{{p{n}}}")).collect::<String>());
    for (text, part) in [
        ("", "expected a method"),
        ("/v1/payouts", "expected a method"),
        ("POST /v1 payouts", "expected a method"),
        ("post /v1/payouts", "upper case"),
        ("* /v1/payouts", "upper case"),
        ("P{T /v1/payouts", "not an HTTP method"),
        ("GET v1/payouts", "begin with a slash"),
        ("GET /v1/payouts?x=1", "no query"),
        ("GET /v1#x", "no query"),
        ("GET /v1//payouts", "repeated slashes"),
        ("GET /v1/../payouts", "repeated slashes"),
        ("GET /v1/%2e", "repeated slashes"),
        ("GET /v1/a;b", "ignored in matching"),
        ("GET /v1/po_{id}", "mixes text"),
        ("GET /v1/{id", "mixes text"),
        ("GET /v1/*", "any one segment"),
        ("GET /v1/{}", "not a parameter's name"),
        ("GET /v1/{a b}", "expected a method"),
        ("GET /v1/{a.b}", "not a parameter's name"),
        ("GET /v1/{a}/{a}", "there twice"),
        ("GET /v1/a%2fb", "encoded slash"),
        ("GET /v1/%zz", "hexadecimal"),
        (&deep, "more than 32 segments"),
        (&wide, "more than 8 parameters"),
    ] {
        let message = text.parse::<Template>().expect_err(text).to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_template_is_shown_as_written() {
    let template: Template = "  POST   /v1/payouts/{payout}/ ".parse().unwrap();
    assert_eq!(template.to_string(), "POST /v1/payouts/{payout}/");
    assert_eq!((template.method(), template.path()), (&Method::POST, "/v1/payouts/{payout}/"));
    assert_eq!(template.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["payout"]);
}

#[test]
fn globs_match_whole_names() {
    for (glob, name, fits) in [
        ("payouts.*", "payouts.create", true),
        ("payouts.*", "payouts.", true),
        ("payouts.*", "xpayouts.create", false),
        ("payouts.create", "payouts.create", true),
        ("payouts.create", "payouts.created", false),
        ("payouts.create", "Payouts.create", false),
        ("GET /v1/charges*", "GET /v1/charges/{charge}", true),
        ("GET /v1/charges*", "POST /v1/charges", false),
        ("* /v1/charges", "POST /v1/charges", true),
        ("*a*b*", "xaxbaxbx", true),
        ("*ab", "aab", true),
        ("*ab", "aba", false),
        ("a*a", "a", false),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("**", "a", true),
    ] {
        assert_eq!(glob_matches(glob, name), fits, "{glob} {name}");
    }
    assert!(!glob_matches(&"*a".repeat(200), &"a".repeat(199)));
}

/// How well a template's segment fits one of a path: smaller is better.
type Fit = (u8, Vec<u8>);

/// The reference: holds every template against the path, segment by segment, and takes the best fit.
fn plain_find(templates: &[Template], method: &Method, path: &str) -> Option<usize> {
    let segments: Vec<Vec<u8>> = path
        .split('/')
        .map(|segment| path::decoded(segment.split(';').next().unwrap()).collect::<Vec<u8>>())
        .filter(|segment| !segment.is_empty())
        .collect();
    let fit = |template: &Template| -> Option<(Vec<Fit>, bool)> {
        let own = template.method() == method;
        if !(own || method == Method::HEAD && template.method() == Method::GET)
            || template.segments().len() != segments.len()
        {
            return None;
        }
        let fits = template.segments().iter().zip(&segments).map(|(wanted, found)| match wanted {
            Segment::Static(wanted) if **wanted == **found => Some((0, vec![])),
            Segment::Static(wanted) if wanted.eq_ignore_ascii_case(found) => Some((1, wanted.to_vec())),
            Segment::Static(_) => None,
            Segment::Parameter => Some((2, vec![])),
        });
        Some((fits.collect::<Option<Vec<_>>>()?, !own))
    };
    let candidates = templates.iter().enumerate().filter_map(|(index, template)| Some((fit(template)?, index)));
    candidates.min().map(|(_, index)| index)
}

const NAMES: [&str; 6] = ["a", "A", "b", "ab", "aB", "a%3Ab"];

fn template() -> impl Strategy<Value = Template> {
    let method = prop::sample::select(vec!["GET", "POST", "HEAD"]);
    let segment =
        prop_oneof![3 => prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned), 2 => Just("{}".to_owned())];
    (method, prop::collection::vec(segment, 0..5)).prop_map(|(method, segments)| {
        let named = segments.iter().enumerate().map(|(n, segment)| segment.replace("{}", &format!("{{p{n}}}")));
        format!("{method} /{}", named.collect::<Vec<_>>().join("/")).parse().unwrap()
    })
}

fn request() -> impl Strategy<Value = (Method, String)> {
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::HEAD]);
    let odd = ["a;x", ";x", "", "%41", "a:b", "A%3ab", "other"];
    let segment = prop::sample::select([&NAMES[..], &odd[..]].concat());
    (method, prop::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/"))))
}

proptest! {
    #[test]
    fn finds_what_the_plain_matcher_finds(
        templates in prop::collection::vec(template(), 0..24),
        requests in prop::collection::vec(request(), 1..24),
    ) {
        let mut endpoints = Endpoints::default();
        let mut kept: Vec<Template> = Vec::new();
        for template in templates {
            let same = kept.iter().position(|known| known.method() == template.method() && known.segments() == template.segments());
            let id = EndpointId(u32::try_from(kept.len()).unwrap());
            let taken = endpoints.insert(&template, id).err();
            prop_assert_eq!(taken, same.map(|index| EndpointId(u32::try_from(index).unwrap())));
            if same.is_none() {
                kept.push(template);
            }
        }
        for (method, path) in requests {
            let path = path::canonical(path.as_bytes()).unwrap();
            let found = endpoints.find(&method, &path);
            let want = plain_find(&kept, &method, path.as_str());
            prop_assert_eq!(found.map(|found| found.endpoint().0 as usize), want, "{} {}", method, path);
            if let (Some(found), Some(want)) = (found, want) {
                prop_assert!(found.param(kept[want].names().len()).is_none());
                prop_assert!((0..kept[want].names().len()).all(|index| found.param(index).is_some_and(|value| !value.is_empty())));
            }
        }
    }
}
