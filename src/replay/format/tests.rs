use super::*;

fn read(reader: &mut Reader, line: &str) -> Record<'static> {
    let record = reader.read(line).unwrap_or_else(|fault| panic!("{fault:?}: {line}"));
    let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
    Record {
        account: owned(record.account),
        connected: owned(record.connected),
        key: owned(record.key),
        method: Cow::Owned(record.method.into_owned()),
        path: Cow::Owned(record.path.into_owned()),
        host: owned(record.host),
        client: owned(record.client),
        at: record.at,
        duration: record.duration,
        mode: record.mode,
        status: record.status,
        ..Record::default()
    }
}

const TEN: u64 = 1_795_341_600_000_000_000;

#[test]
fn combined_lines() {
    let line =
        r#"192.0.2.1 - alice [22/Nov/2026:11:00:00 +0100] "POST /v1/charges?x=1 HTTP/1.1" 200 17 "-" "curl \"8\"""#;
    let record = read(&mut Reader::new(None, false), line);
    assert_eq!((record.at, record.duration, record.status), (TEN, None, 200));
    assert_eq!((&*record.method, &*record.path), ("POST", "/v1/charges?x=1"));
    assert_eq!((record.account.as_deref(), record.client.as_deref()), (Some("alice"), Some("192.0.2.1")));
    let nobody = read(&mut Reader::new(None, false), &line.replace("alice", "-"));
    assert_eq!(nobody.account.as_deref(), Some("192.0.2.1"));
    let more = mapping("[replay.format]\nkind = 'combined'\nduration = '10'\naccount = '11'\n").unwrap();
    let record = read(&mut Reader::new(Some(&more), false), &format!("{line} 0.250 acct_7"));
    assert_eq!((record.at, record.duration), (TEN - 250_000_000, Some(250_000_000)));
    assert_eq!(record.account.as_deref(), Some("acct_7"));
}

#[test]
fn caddy_and_envoy_are_known_by_their_first_line() {
    let caddy = r#"{"level":"info","ts":1795341600.5,"logger":"http.log.access","msg":"handled request","request":{
        "remote_ip":"192.0.2.1","client_ip":"192.0.2.1","method":"GET","host":"api.test","uri":"/v1/charges",
        "headers":{"Stripe-Account":["acct_c"]}},"duration":0.5,"size":1,"status":200}"#;
    let record = read(&mut Reader::new(None, false), caddy);
    assert_eq!((record.at, record.duration, record.status), (TEN, Some(500_000_000), 200));
    assert_eq!((record.account.as_deref(), record.host.as_deref()), (Some("192.0.2.1"), Some("api.test")));
    let own = mapping("kind = 'caddy'\naccount = 'request.headers.Stripe-Account'\n").unwrap();
    assert_eq!(read(&mut Reader::new(Some(&own), false), caddy).account.as_deref(), Some("acct_c"));
    let envoy = r#"{"start_time":"2026-11-22T10:00:00.000Z","method":"GET","path":"/v1/charges","response_code":429,
        "duration":12,"authority":"api.test","downstream_remote_address":"192.0.2.1:5000"}"#;
    let record = read(&mut Reader::new(None, false), envoy);
    assert_eq!((record.at, record.duration, record.status), (TEN, Some(12_000_000), 429));
}

#[test]
fn what_cannot_be_told_is_a_fault() {
    for (line, wanted) in [
        ("{\"a\":1}", Fault::Malformed),
        ("{\"a\":", Fault::Truncated),
        ("hello there", Fault::Malformed),
        ("192.0.2.1 - - [22/Nov/2026:11:00:00 +0100", Fault::Truncated),
        ("192.0.2.1 - - [22/Nov/2026:11:00:00 +0100] \"GET", Fault::Truncated),
        ("192.0.2.1 - - [22/Nob/2026:11:00:00 +0100] \"GET / HTTP/1.1\" 200 1", Fault::Time),
        ("192.0.2.1 - - [22/Nov/2026:11:00:00 +0100] \"GET / HTTP/1.1\" abc 1", Fault::Field),
        ("192.0.2.1 - - [22/Nov/2026:11:00:00 +0100] \"\\x16\\x03\" 400 1", Fault::Malformed),
    ] {
        assert_eq!(Reader::new(None, false).read(line).map(|_| ()), Err(wanted), "{line}");
    }
}

#[test]
fn a_mapping_that_lacks_something_says_what() {
    for (text, wanted) in [
        ("kind = 'json'\ntime = 't'\naccount = 'a'", "request, or method and path"),
        ("kind = 'json'\nrequest = 'r'\naccount = 'a'", "time"),
        ("kind = 'json'\nrequest = 'r'\ntime = 't'", "account"),
        ("kind = 'tollgate'\ntime = 't'", "takes no fields"),
        ("kind = 'xml'", "xml"),
        ("kind = 'json'\nverb = 'x'", "verb"),
        ("[replay.format]\nkind = 'json'\n[replay.other]", "other"),
    ] {
        let error = mapping(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn numbers_of_any_unit() {
    assert_eq!(decimal("1795341600.123456789", 1_000_000_000), Some(TEN + 123_456_789));
    assert_eq!(decimal("1795341600123", 1_000_000), Some(TEN + 123_000_000));
    assert_eq!(decimal("1.7953416e9", 1_000_000_000), Some(TEN));
    assert_eq!([decimal("-1", 1), decimal("x", 1), decimal("99999999999999999999", 1)], [None; 3]);
}
