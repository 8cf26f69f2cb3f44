//! What routes do to what passes: header rules, prefixes, hosts, credentials; and how the gateway speaks of itself and of others.

use crate::support::running::{Folder, LIVE, Running, Setup, UNKNOWN, get, keys, post, request};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Head};
use tollgate::process::Source;

/// What the upstream gets, and what the client gets back, under these lines of a route.
fn through(route: &str, sent: impl AsRef<[u8]>) -> (Head, Answer) {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nserver: theirs\r\nx-powered-by: php\r\nX_Powered_By: cgi\r\nx-a: 1\r\n\r\n".to_vec()
    });
    let gateway = Setup::new(upstream.address()).with(&format!("[[routes]]\n{route}\n")).start();
    let answer = gateway.ask(sent);
    assert_eq!(answer.status(), 200, "{answer:?}");
    (upstream.last(), answer)
}

#[test]
fn headers_of_requests_are_set_added_and_removed() {
    let rules = "request_headers = { set = { \"X-Env\" = \"prod\", \"X-Who\" = \"{account}/{mode} {key_id}\", \
                 \"X-Trace\" = \"{request_id}@{client_ip}\" }, add = { \"X-Hop\" = \"edge\" }, \
                 remove = [\"X-Debug\", \"Cookie\", \"Tollgate-Key-Id\", \"X-Forwarded-For\"] }";
    let lines = "x-env: dev\r\nX_Env: dev\r\nx-hop: client\r\nx-debug: 1\r\nX_DEBUG: 1\r\nx-debug: 2\r\ncookie: a=b\r\n\
                 request-id: req_1\r\nx-who: evil\r\n";
    let (head, _) = through(rules, request("GET", "/v1/charges", LIVE, lines));
    let got = |name: &str| head.values(name);
    assert_eq!(got("x-env"), ["prod"]);
    assert_eq!(got("x-who"), ["acct_a/live key_live"]);
    assert_eq!(got("x-trace"), ["req_1@127.0.0.1"]);
    assert_eq!(got("x-hop"), ["client", "edge"]);
    for gone in ["x_env", "x-debug", "x_debug", "cookie", "tollgate-key-id", "x-forwarded-for"] {
        assert!(!head.has(gone), "{gone}: {head:?}");
    }
    assert_eq!(got("tollgate-account"), ["acct_a"]);
    assert!(head.has("via"));
}

#[test]
fn headers_of_answers_are_set_added_and_removed() {
    let rules = "response_headers = { set = { \"Server\" = \"ours\", \"X-Mode\" = \"{mode}\" }, add = { \"X-A\" = \"2\" }, \
                 remove = [\"X-Powered-By\"] }";
    let (_, answer) = through(rules, get("/v1/charges", LIVE));
    assert_eq!(answer.head.values("server"), ["ours"]);
    assert_eq!(answer.head.values("x-mode"), ["live"]);
    assert_eq!(answer.head.values("x-a"), ["1", "2"]);
    assert!(!answer.head.has("x-powered-by") && !answer.head.has("x_powered_by"), "{answer:?}");
    let (_, untouched) = through("host = \"keep\"", get("/v1/charges", LIVE));
    assert_eq!((untouched.head.value("server"), untouched.head.value("x-powered-by")), (Some("theirs"), Some("php")));
}

#[test]
fn prefixes_change_where_a_request_goes_and_not_what_it_is() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address())
        .with("[[routes]]\npath_prefix = \"/v1\"\nstrip_prefix = \"/v1\"\nadd_prefix = \"/api/v9\"\nhost = \"up.internal:80\"\n")
        .with("[[routes]]\npath_prefix = \"/strip/it\"\nstrip_prefix = \"/strip\"\nhost = \"server\"\n")
        .with("[[limits]]\nname = \"list\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 3\nper = [\"account\"]\n")
        .with("when = { endpoint = \"charges.list\" }\n")
        .start();
    let mut client = gateway.connect();
    let own = upstream.address().to_string();
    for (sent, got, host) in [
        ("/v1/charges?a=%2F//&b=/v1", "/api/v9/charges?a=%2F//&b=/v1", "up.internal:80"),
        ("//V1/./%63harges", "/api/v9/charges", "up.internal:80"),
        ("http://api.test/v1/x/../charges", "/api/v9/charges", "up.internal:80"),
        ("/v1", "/api/v9", "up.internal:80"),
        ("/strip/it", "/it", &own),
        ("/strip/it/a%20b?", "/it/a%20b?", &own),
    ] {
        assert_eq!(client.ask(get(sent, LIVE)).status(), 200, "{sent}");
        let head = upstream.last();
        assert_eq!((head.target(), head.values("host")), (got, vec![host]), "{sent}");
        assert_eq!(head.values("x-forwarded-host"), ["api.test"], "{sent}");
        let prefix = if sent.contains("strip") { "/strip" } else { "/v1" };
        assert_eq!(head.values("x-forwarded-prefix"), [prefix], "{sent}");
    }
    let refused = client.ask(get("/v1/charges", LIVE));
    assert!(refused.status() == 429 && refused.message().contains("'list'"), "the client's path decides: {refused:?}");
    assert_eq!(client.ask(get("/api/v9/charges", LIVE)).status(), 404, "and the upstream's is no way around");
}

/// What an environment variable holds that is always there.
fn path() -> String {
    std::env::var("PATH").unwrap()
}

fn with_credentials(setting: &str, folder: &Folder, upstream: &Upstream) -> Running {
    folder.put("keys.toml", &keys());
    folder.put("tollgate.toml", &Setup::new(upstream.address()).with(&format!("[[routes]]\n{setting}\n")).toml());
    Running::start(Source::File(folder.path("tollgate.toml")))
}

#[test]
fn the_clients_key_stays_here_where_another_credential_is_configured() {
    let upstream = Upstream::fine();
    let lines = "X-Api-Key: client\r\nx_api_key: client\r\n";
    for (setting, authorization, api_key) in [
        ("credentials = \"keep\"", Some(format!("Bearer {LIVE}")), vec!["client"]),
        ("credentials = \"drop\"", None, vec!["client"]),
        ("credentials = { bearer_file = \"secret\" }", Some("Bearer user:up5tream".to_owned()), vec!["client"]),
        ("credentials = { basic_file = \"secret\" }", Some("Basic dXNlcjp1cDV0cmVhbQ==".to_owned()), vec!["client"]),
        ("credentials = { header = \"X-Api-Key\", value_file = \"secret\" }", None, vec!["user:up5tream"]),
        ("credentials = { bearer_env = \"PATH\" }", Some(format!("Bearer {}", path())), vec!["client"]),
    ] {
        let folder = Folder::new();
        folder.put("secret", "user:up5tream\n");
        let gateway = with_credentials(setting, &folder, &upstream);
        for _ in 0..2 {
            assert_eq!(gateway.ask(request("GET", "/v1/charges", LIVE, lines)).status(), 200, "{setting}");
            let head = upstream.last();
            assert_eq!(head.value("authorization"), authorization.as_deref(), "{setting}");
            assert_eq!(head.values("x-api-key"), api_key, "{setting}");
            assert_eq!(head.has("x_api_key"), api_key == ["client"], "{setting}: {head:?}");
            assert_eq!(head.value("tollgate-key-id"), Some("key_live"));
            assert!(setting.contains("keep") || !format!("{head:?}").contains(LIVE), "{setting}: {head:?}");
        }
        // Whose key is no good gets nobody's credential.
        assert_eq!(gateway.ask(get("/v1/charges", UNKNOWN)).status(), 401);
    }
}

#[test]
fn a_changed_credential_is_read_again_and_a_bad_one_is_refused() {
    let (upstream, folder) = (Upstream::fine(), Folder::new());
    folder.put("token", "one");
    let gateway = with_credentials("credentials = { bearer_file = \"token\" }", &folder, &upstream);
    let sent = || {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
        upstream.last().value("authorization").map(str::to_owned)
    };
    assert_eq!(sent().as_deref(), Some("Bearer one"));
    folder.put("token", "two\n");
    wait_until("the file is read again", || sent().as_deref() == Some("Bearer two"));
    folder.put("token", "");
    let error = gateway.handle().reload().unwrap_err().to_string();
    assert!(error.ends_with("token: is empty"), "{error}");
    assert_eq!(sent().as_deref(), Some("Bearer two"), "the last good one stays");
}

#[test]
fn in_passthrough_mode_too_the_clients_key_ends_here() {
    let upstream = Upstream::fine();
    let setup = Setup::new(upstream.address()).upstream("credentials = { bearer_env = \"PATH\" }");
    let config = setup.toml().replace("keys_file = \"keys.toml\"", "mode = \"passthrough\"");
    let gateway = Running::start(Source::Text { config, keys: String::new() });
    assert_eq!(gateway.ask(get("/v1/charges", "sk_test_anything")).status(), 200);
    let head = upstream.last();
    assert_eq!(head.values("authorization"), [format!("Bearer {}", path())]);
    assert_eq!(head.values("tollgate-mode"), ["test"]);
    assert!(!format!("{head:?}").contains("anything"), "{head:?}");
}

#[test]
fn a_circle_is_cut_and_a_chain_is_not() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let mut with = |via: &str| client.ask(request("POST", "/v1/charges", LIVE, &format!("{via}content-length: 0\r\n")));
    assert_eq!(with("via: 1.1 tollgate, 1.0 other\r\nvia: 2 tollgate\r\n").status(), 200, "an edge, a mesh, a sidecar");
    assert_eq!(upstream.last().values("via"), ["1.1 tollgate, 1.0 other", "2 tollgate", "1.1 tollgate"]);
    let refused = with("via: 1.1 tollgate, 1.1 tollgate\r\nvia: 1.1 Tollgate\r\n");
    assert_eq!(refused.status(), 508, "{refused:?}");
    assert_eq!(refused.error()["type"], "api_error");
    assert_eq!((refused.head.value("stripe-should-retry"), refused.closes()), (Some("false"), false));
    // What the connection's header names cannot hide where a request has been.
    let hidden = with("connection: via\r\nvia: 1.1 tollgate\r\nvia: 1.1 tollgate\r\n");
    assert_eq!(hidden.status(), 200);
    assert_eq!(upstream.last().values("via").len(), 3);
}

/// Gateways that forward to each other for ever, but for `Via`.
#[test]
fn two_gateways_in_a_circle_answer() {
    let nobody = crate::support::upstream::Nobody::new();
    let folder = Folder::new();
    folder.put("keys.toml", &keys());
    let put = |to| folder.put("tollgate.toml", &Setup::new(to).toml());
    put(nobody.address());
    let first = Running::start(Source::File(folder.path("tollgate.toml")));
    let second = Setup::new(first.address).start();
    put(second.address);
    first.handle().reload().unwrap();
    let answer = first.ask(get("/v1/charges", LIVE));
    assert_eq!(answer.status(), 508, "{answer:?}");
    let rounds = |gateway: &Running| gateway.metrics().sum("tollgate_requests_total", &[("status", "508")]);
    wait_until("each of the four that it passed has recorded it", || rounds(&first) + rounds(&second) == 4.0);
}

#[test]
fn forwarded_is_written_on_request_and_believed_from_trusted_proxies_only() {
    let upstream = Upstream::fine();
    let sent = |server: &str, lines: &str| {
        let gateway = Setup::new(upstream.address()).server(server).start();
        let answer = gateway
            .ask(post("/v1/charges", LIVE).replace("host: api.test\r\n", &format!("host: api.test:80\r\n{lines}")));
        assert_eq!(answer.status(), 200, "{answer:?}");
        upstream.last().values("forwarded").join(" | ")
    };
    let own = "for=127.0.0.1;host=\"api.test:80\";proto=http";
    let evil = "forwarded: for=6.6.6.6;proto=https\r\nforwarded: for=7.7.7.7\r\nx-forwarded-for: 6.6.6.6\r\n";
    assert_eq!(sent("", evil), "", "off");
    let append = "forwarded = \"append\"";
    assert_eq!(sent(append, evil), own);
    let trusting = "forwarded = \"append\"\ntrusted_proxies = [\"127.0.0.1\"]";
    assert_eq!(sent(trusting, evil), format!("for=6.6.6.6;proto=https, for=7.7.7.7, {own}"));
    let chain = "x-forwarded-for: 2001:db8::1, 192.0.2.9\r\n";
    assert_eq!(sent(trusting, chain), format!("for=\"[2001:db8::1]\", for=192.0.2.9, {own}"));
    assert_eq!(sent(trusting, ""), own);
}

#[test]
fn a_trace_that_is_none_is_replaced_with_its_state() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for lines in [
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x\r\ntracestate: a=1\r\n",
        "traceparent: <script>\r\ntracestate: a=1\r\n",
        "tracestate: a=1\r\n",
    ] {
        assert_eq!(client.ask(request("GET", "/v1/charges", LIVE, lines)).status(), 200);
        let head = upstream.last();
        let parents = head.values("traceparent");
        assert!(parents.len() == 1 && parents[0].len() == 55 && parents[0].starts_with("00-"), "{head:?}");
        assert!(!head.has("tracestate"), "{head:?}");
    }
}

/// Row 108 of the catalogue of hostile inputs: no other way to say the method than the method.
#[test]
fn a_method_is_what_the_request_line_says() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address())
        .with("[[limits]]\nname = \"list\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 4\nper = [\"account\"]\n")
        .with("when = { endpoint = \"charges.list\" }\n")
        .with("[[limits]]\nname = \"writes\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 1\nper = [\"account\"]\n")
        .with("when = { access = \"write\" }\n")
        .start();
    let mut client = gateway.connect();
    let overrides = "x-http-method-override: POST\r\nx-method-override: POST\r\nx-http-method: POST\r\n\
                     X_HTTP_Method_Override: POST\r\nx_method-override: POST\r\n";
    for (method, target) in [("GET", "/v1/charges"), ("GET", "/v1/charges?_method=POST"), ("HEAD", "/v1/charges")] {
        client.send(request(method, target, LIVE, overrides));
        assert_eq!(client.answer_to(method).status(), 200, "{method} {target}");
        let head = upstream.last();
        assert_eq!(head.method(), method);
        assert!(!format!("{head:?}").to_lowercase().contains("override"), "{head:?}");
    }
    assert_eq!(gateway.ask(request("get", "/v1/charges", LIVE, "")).status(), 400);
    assert_eq!(client.ask(request("PURGE", "/v1/charges", LIVE, "")).status(), 200, "unknown methods write");
    assert_eq!(client.ask(request("FROBNICATE", "/v1/charges", LIVE, "")).status(), 429);
    // HEAD and the disguised GETs were all reads of the one endpoint: one token of four is left.
    assert_eq!(
        [client.ask(get("/v1/charges", LIVE)).status(), client.ask(get("/v1/charges", LIVE)).status()],
        [200, 429]
    );
}
