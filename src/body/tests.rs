//! What forms and JSON say, and everything that is unclear.

use super::*;
use http::HeaderMap;
use proptest::prelude::*;

fn key(text: &str) -> FormKey {
    text.parse().unwrap()
}

/// Slot 0: `customer`. Slot 1: `payload[id]`. Slot 2: `q` of the query. Slot 3: `data.id` of JSON.
/// Fact 0: `always=yes`, 1: `items[*][quantity]` there, 2: `gone` not there, 3: either of the first two; all strict; and 4: as 0,
/// for an `except`.
fn inspection() -> Inspection {
    let values = [
        (0, Source::Form(key("customer"))),
        (1, Source::Form(key("payload[id]"))),
        (2, Source::Query(key("q"))),
        (3, Source::Json("data.id".parse().unwrap())),
    ];
    let test = |text: &str, wanted| Test { key: key(text), wanted };
    let always = || test("always", Wanted::Equals("yes".into()));
    let quantity = || test("items[*][quantity]", Wanted::Present);
    let fact = |any: Vec<Test>, if_unclear| Fact { any: any.into(), if_unclear };
    let facts = [
        (0, fact(vec![always()], true)),
        (1, fact(vec![quantity()], true)),
        (2, fact(vec![test("gone", Wanted::Absent)], true)),
        (3, fact(vec![always(), quantity()], true)),
        (4, fact(vec![always()], false)),
    ];
    Inspection::new(&values, &facts).unwrap()
}

const UNCLEAR: u64 = 0b0_1111;

fn form(text: &str) -> (u64, [Option<String>; 2]) {
    let inspection = inspection();
    let found = inspection.read(Body::Form(text.as_bytes()), "");
    let [first, second, ..] = found.values.map(|value| value.map(Cow::into_owned));
    (found.facts, [first, second])
}

#[test]
fn fields_are_found_in_every_spelling_of_their_escapes() {
    for text in [
        "customer=cus_1&payload[id]=p",
        "a=1&customer=cus_1&payload%5Bid%5D=p&b",
        "%63ustomer=cus%5F1&payload%5bid%5d=%70&&",
        "payload%5Bid]=p&customer=cus_1&long=%zz",
    ] {
        assert_eq!(form(text), (0b00100, [Some("cus_1".into()), Some("p".into())]), "{text}");
    }
    assert_eq!(form("customer=a+b%2B"), (0b00100, [Some("a b+".into()), None]));
    assert_eq!(form(""), (0b00100, [None, None]));
    assert_eq!(form("customer_id=1&payload[idx]=2&payload=3x[id]&xcustomer=1"), (0b00100, [None, None]));
}

#[test]
fn conditions_hold_or_do_not() {
    for (text, facts) in [
        ("always=yes", 0b11101),
        ("always=no", 0b00100),
        ("always=y%65s", 0b11101),
        ("always=yes&always=yes", 0b11101),
        ("items[0][quantity]=2", 0b01110),
        ("items%5B17%5D%5Bquantity%5D=2&gone=1", 0b01010),
        ("items[][quantity]=2", 0b01110),
        ("items[0][price]=2&quantity=1", 0b00100),
        ("gone", 0b00000),
        // What cannot be told is strict: bits 0 to 3 as if it held, bit 4 as if it did not.
        ("always=yes&always=no", 0b01101),
        ("always[]=yes", 0b01101),
        ("Always=yes", 0b01101),
        // To some readers a NUL ends a key.
        ("always%00x=yes", 0b01101),
        ("gone%00x=1", 0b00100),
        ("items[quantity]=1", 0b01110),
        ("GONE=1", 0b00100),
    ] {
        assert_eq!(form(text).0, facts, "{text}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_unclear() {
    for text in [
        "customer=a&customer=a",
        "customer=a&customer[]=b",
        "customer[]=a",
        "customer[0]=a",
        "customer[x][y]=a",
        "[customer]=a",
        " customer=a",
        "+customer=a",
        "customer%20=a",
        "customer%00=a",
        "CUSTOMER=a",
        "%43ustomer=a",
        "payload[id]=a&payload[id][]=b",
        "payload[[id]]=a",
        "payload[id=a",
        "x=1;customer=a",
        "customer=a;x",
        "x=%3B;payload%5Bid%5D=1",
        "items[;0][quantity]=1",
        "customer=%zz",
        "customer=%",
        "%zz=1",
        "customer=%ff",
        "%ff=1",
    ] {
        assert_eq!(form(text), (UNCLEAR, [None, None]), "{text}");
    }
    let long = format!("%63{}=1", "x".repeat(600));
    assert_eq!(form(&long).0, UNCLEAR);
    let inspection = inspection();
    for body in [Body::Unclear, Body::Json(b"{}"), Body::Form(b"a=\xff"), Body::Form(b"\xff=1")] {
        assert_eq!(inspection.read(body, "").facts, UNCLEAR, "{body:?}");
    }
}

#[test]
fn what_php_reads_as_an_underscore_is_a_variant_of_one() {
    let wanted = key("payment_intent");
    for variant in ["payment.intent", "payment intent", "Payment.Intent[]", "payment[intent", "payment_intent\0x"] {
        assert_eq!(wanted.compare(variant.as_bytes()), form::Match::Variant, "{variant}");
    }
    for other in ["payment-intent", "paymentintent", "payment[intent]x", "payment.intents"] {
        assert_eq!(wanted.compare(other.as_bytes()), form::Match::No, "{other}");
    }
}

#[test]
fn a_forms_key_in_the_query_is_unclear_and_others_are_not() {
    let inspection = inspection();
    for query in ["customer=a", "x;items[0][quantity]=1", "items[;0][quantity]=1", "customer[]", "%zz"] {
        assert_eq!(inspection.read(Body::Empty, query).facts, UNCLEAR, "{query}");
    }
    let found = inspection.read(Body::Form(b"customer=a"), "q=v%20w&expand[]=x");
    assert_eq!(
        (found.facts, found.values[0].as_deref(), found.values[2].as_deref()),
        (0b00100, Some("a"), Some("v w"))
    );
    for query in ["q=1&q=2", "q[]=1", "Q=1", "q=%ff"] {
        assert_eq!(inspection.read(Body::Empty, query).values[2], None, "{query}");
    }
}

#[test]
fn members_of_json() {
    let inspection = inspection();
    let read =
        |text: &str| inspection.read(Body::Json(text.as_bytes()), "").values[3].as_ref().map(ToString::to_string);
    for (text, wanted) in [
        (r#"{"data":{"id":"a"}}"#, "a"),
        (r#" {"x":[{"data":1}],"d\u0061ta":{"y":{"id":2},"id":"a\u0062"}} "#, "ab"),
        (r#"{"data":{"id":17}}"#, "17"),
        (r#"{"data":{"id":-17}}"#, "-17"),
        (r#"{"data":{"id":true}}"#, "true"),
    ] {
        assert_eq!(read(text).as_deref(), Some(wanted), "{text}");
    }
    for text in [
        "",
        "[]",
        "1",
        "null",
        r#""data""#,
        "{",
        "{}",
        r#"{"data":{}}"#,
        r#"{"data":null}"#,
        r#"{"data":1}"#,
        r#"{"data":{"id":"a"}"#,
        r#"{"data":{"id":"a"}} x"#,
        r#"{"data":{"id":null}}"#,
        r#"{"data":{"id":["a"]}}"#,
        r#"{"data":{"id":{"id":"a"}}}"#,
        r#"{"data":[{"id":"a"}]}"#,
        r#"{"data":{"id":"a","id":"a"}}"#,
        r#"{"data":{"id":"a"},"data":{}}"#,
        r#"{"data":{"id":"a"},"Data":{}}"#,
        r#"{"data":{"id":1.5}}"#,
        r#"{"data":{"id":"a"},}"#,
        "\u{feff}{\"data\":{\"id\":\"a\"}}",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
    assert_eq!(inspection.read(Body::Json(b"{\"data\":{\"id\":\"a\"},\"x\":\"\xff\"}"), "").values[3], None);
}

#[test]
fn deep_json_is_skipped_or_unclear_and_never_too_much() {
    let inspection = inspection();
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let beside = format!(r#"{{"x":{},"data":{{"id":"a"}}}}"#, deep("[", "]"));
    assert_eq!(inspection.read(Body::Json(beside.as_bytes()), "").values[3].as_deref(), Some("a"));
    for text in [deep("[", "]"), deep(r#"{"data":"#, "}"), "[".repeat(100_000), r#"{"data":"#.repeat(50_000)] {
        assert_eq!(inspection.read(Body::Json(text.as_bytes()), "").values[3], None);
    }
}

#[test]
fn kinds() {
    let of = |lines: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Kind::of(&headers)
    };
    let typed = |value: &str| of(&[("content-type", value)]);
    for form in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded ; Charset=\"UTF-8\""] {
        assert_eq!(typed(form), Kind::Form, "{form}");
    }
    for json in ["application/json", "application/merge-patch+json; charset=utf8"] {
        assert_eq!(typed(json), Kind::Json, "{json}");
    }
    for other in [
        "",
        "multipart/form-data; boundary=x",
        "application/json;charset=utf-16",
        "text/plain",
        "+json",
        "application/x-www-form-urlencoded; charset=iso-8859-1",
        "application/json, application/x-www-form-urlencoded",
    ] {
        assert_eq!(typed(other), Kind::Unclear, "{other}");
    }
    assert_eq!(of(&[]), Kind::Unclear);
    let coded = |coding| of(&[("content-type", "application/json"), ("content-encoding", coding)]);
    assert_eq!([coded("identity"), coded("gzip"), coded("identity, gzip")], [Kind::Json, Kind::Unclear, Kind::Unclear]);
}

#[test]
fn keys_as_they_are_written() {
    for good in ["a", "a[b]", "items[*][quantity]", "a.b-c_d[1]"] {
        assert_eq!(key(good).to_string(), good);
    }
    let nine = format!("a{}", "[b]".repeat(9));
    for bad in ["", "a[", "a]", "a[]", "[a]", "a[b]c", "a[b*]", "a*", "a b", "a&b", "a=b", "a%5Bb%5D", nine.as_str()] {
        assert!(bad.parse::<FormKey>().is_err(), "{bad}");
    }
    for bad in ["", ".", "a..b", "a.b.c.d.e.f.g.h.i", "a|b"] {
        assert!(bad.parse::<JsonPath>().is_err(), "{bad}");
    }
}

proptest! {
    /// No bytes are too much, and whatever a form says of other fields changes nothing.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), query in "\\PC{0,20}") {
        let inspection = inspection();
        for body in [Body::Form(&bytes), Body::Json(&bytes)] {
            let _ = inspection.read(body, &query);
        }
    }

    /// A single value is what a plain decoder says it is, wherever it stands.
    #[test]
    fn values_are_what_a_plain_decoder_says(
        others in proptest::collection::vec(("[d-z]{1,8}(\\[[a-z0-9]{0,3}\\])?", "[a-z0-9%25]{0,6}"), 0..8),
        value in "[a-zA-Z0-9_.~é -]{0,12}",
        at in 0_usize..8,
    ) {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let mut fields: Vec<String> = others
            .iter()
            .filter(|(name, _)| !name.starts_with("payload") && !name.starts_with("items") && !name.starts_with("gone"))
            .map(|(name, other)| format!("{name}={}", escape(other)))
            .collect();
        fields.insert(at.min(fields.len()), format!("{}={}", escape("customer"), escape(&value)));
        let text = fields.join("&");
        let [customer, _] = form(&text).1;
        prop_assert_eq!(customer, Some(value), "{}", text);
    }
}
