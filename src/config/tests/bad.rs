//! Bad files, and every mistake that is told of each: exactly these, in this order, each once.

use super::*;

/// What is told: `line:column`, and a piece of what is printed there.
type Told = &'static [(&'static str, &'static str)];

/// A limit to go wrong with: lines 1 to 3.
const LIMIT: &str = "[[limits]]\nname = 'l'\nstage = 'endpoint'\n";

/// Whole files.
#[rustfmt::skip]
const WHOLE: &[(&str, Told)] = &[
    ("", &[("1:1", "`auth` lacks `keys_file`"), ("1:1", "there is no upstream")]),
    ("[upstreams.a]\nservers = 'http://a'", &[("1:1", "`auth` lacks `keys_file`")]),
    ("[auth]\nmode = 'passthrough'", &[("1:1", "there is no upstream")]),
    ("[auth]\nmode = 'keys'\n[upstreams.a]\nservers = []", &[("1:1", "lacks `keys_file`"), ("4:11", "the upstream `a` has no server")]),
    ("[auth]\nmode = 'kees'\n[upstreams.a]", &[("2:8", "did you mean `keys`?"), ("3:12", "has no server")]),
    ("[auth]\nmode = 'passthrough'\n[upstreams.a]\nservers = 'http://a'\n[upstreams.b]\nservers = 'http://b'",
        &[("5:12", "2 upstreams and no routes")]),
    ("[auth]\nstore = 'redis'\n[upstreams.a]\nservers = 'http://a'", &[("2:9", "keys cannot be in Redis")]),
    ("[auth]\nstore = 'memory'\n[upstreams.a]\nservers = 'http://a'", &[("2:9", "memory")]),
    ("[auth\nkeys_file = 'k'", &[("1:6", "unclosed table")]),
    ("[server]\nthreads = 1\n[auth\nkeys_file = 'k'\n[log]\nlevl = 'info'\n[admin]\nlisten = ", &[("3:6", "unclosed table"), ("6:1", "did you mean `level`?"), ("8:10", "expected")]),
    ("[auth]\nkeys_file = 'k\n[upstreams.a]\nservers = 'http://a'\nservers = 'http://b'", &[("2:15", "invalid"), ("5:1", "duplicate key")]),
    ("\u{feff}[auth]\r\nkeys_file = 'k'\r\n[upstreams.a]\r\nserverz = 'http://a'\r\n", &[("4:1", "did you mean `servers`?")]),
    ("[[upstreams]]\nservers = 'http://a'\n[auth]\nkeys_file = 'k'", &[("1:1", "[upstreams.NAME]")]),
];

/// What follows a good beginning.
#[rustfmt::skip]
const AFTER_BASE: &[(&str, Told)] = &[
    ("[serve]\nlisten = 5", &[("1:2", "did you mean `server`?"), ("2:10", "a value of the wrong type")]),
    ("[replay.format]\nkind = 'json'", &[("1:1", "where to find: time")]),
    ("[replay.format]\nkind = 'jsn'\ntime_is = 'begin'\ncount = 'x'", &[("2:8", "unknown word `jsn`"), ("3:11", "unknown word `begin`"), ("4:1", "unknown key `count`")]),
    ("[replay]\nformat = { kind = 'tollgate', time = 'x' }", &[("2:10", "takes no fields")]),
    ("[nonsense]", &[("1:2", "unknown key `nonsense`")]),
    ("presets = ['strip']", &[("1:1", "unknown key `presets`")]),
    ("[server]\nlisten = 'localhost:80'", &[("2:10", "not an IP address with a port")]),
    ("[server]\nlisten = '127.0.0.1'", &[("2:10", "lacks a port")]),
    ("[server]\nlisten = []", &[("2:10", "no address to listen on")]),
    ("[server]\nlisten = ['0.0.0.0:80', '127.0.0.1:80', 'x']", &[("2:25", "meets `0.0.0.0:80`"), ("2:41", "not an IP address")]),
    ("[server]\nlisten = '127.0.0.1:9090'\n[admin]\nlisten = '127.0.0.1:9090'", &[("4:10", "on the public listener")]),
    ("[admin]\nlisten = '0.0.0.0:9091'\n[limit]", &[("2:10", "warning: the admin can be reached"), ("3:1", "[[limits]]"), ("3:2", "unknown key `limit`")]),
    ("[server]\ntls = { certificate = 'c' }", &[("2:7", "lacks `private_key`")]),
    ("[server]\ntls = { certificate = 'c', private_key = 'k', certificates = [{ certificate = 'd' }], min_version = '1.3' }",
        &[("2:63", "`certificates` lacks `private_key`")]),
    ("[server]\ntls = { certificate = 'c', private_key = 'k', min_version = '1.1', unknown_sni = 'drop' }", &[("2:61", "`1.2`?"), ("2:82", "default, refuse")]),
    ("[server]\ntls = { certificate = 'c', private_key = 'k', client_auth = 'optional', client_crl = 'x' }\nmax_handshakes = 0\nhandshake_timeout = '0s'",
        &[("2:61", "without `client_ca`"), ("2:86", "without `client_ca`"), ("3:18", "1 to 1000000"), ("4:21", "1ms to 1day")]),
    ("[upstreams.b]\nservers = 'https://b'\nserver_name = 'a b'\nclient_certificate = { certificate = 'c', key = 'k' }\n[[routes]]\nupstream = 'a'\n[[routes]]\nupstream = 'b'\nhosts = 'b'",
        &[("3:15", "not a name that a certificate can hold"), ("4:43", "unknown key `key`")]),
    ("[server]\nheader_timeout = 30\nidle_timeout = '30'\nbody_timeout = '0s'\nmax_header_bytes = '1GB'\nthreads = 9999",
        &[("2:18", "a duration such as"), ("3:16", "not a duration"), ("4:16", "1ms to 1day"), ("5:20", "8.0 KiB to 1.0 MiB"), ("6:11", "0 to 1024")]),
    ("[server]\ntrusted_proxies = ['10.0.0.0/33', '10.0.0.1']\nthreads = -1", &[("2:20", "not a network"), ("3:11", "from 0 to 4,294,967,295")]),
    ("[store]\nkind = 'redis'\nconnect_timeout = '0s'\nlease_ttl = '10ms'\nprefix = 'a b'\nuser = 'x'",
        &[("1:1", "lacks `urls`"), ("3:19", "1ms to 1day"), ("4:13", "1s to 1h"), ("5:10", "not a prefix"), ("6:8", "without a password")]),
    ("[store]\nmode = 'exactly'\non_store_failure = 'close'", &[("2:8", "did you mean `exact`?"), ("3:20", "did you mean `closed`?")]),
    ("[store]\nkind = 'redis'\nurls = ['redis://a', 'http://b', 'redis://u:p@c', 'redis://d:0', 'redis://e/x']\nmaster_name = 'm'\npassword_file = 'x'\npassword_env = 'Y'",
        &[("3:22", "how they belong together"), ("3:22", "not the URL"), ("3:34", "keeps it apart"), ("3:51", "not the URL"), ("3:66", "not the URL"), ("4:15", "belongs to sentinels"), ("6:16", "both")]),
    ("[store]\nkind = 'redis'\nurls = 'redis://a/1'\ntopology = 'cluster'", &[("3:8", "a cluster has no databases")]),
    ("[store]\nkind = 'redis'\nurls = 'redis://a/1'\ntopology = 'sentinel'", &[("4:12", "by its name")]),
    ("[[limits]]\nname = 'l'\nstage = 'global'\nrate = '1/s'\nstore = 'redis'\n[[limits]]\nname = 'm'\nstage = 'global'\nrate = '1/s'\nstore = 'local'\non_store_failure = 'open'",
        &[("5:9", "no Redis"), ("11:20", "needs no store")]),
    ("[responses]\nreason_header = 'a b'\nretry_after = 'yes'\nshould_retry = true\ndoc_url = 'docs'",
        &[("2:17", "not a header's name"), ("3:15", "true or false"), ("4:16", "wanted string or table"), ("5:11", "not a URL")]),
    ("[server]\nforwarded = 'on'\nvia = 'a b'\nmax_via = 0", &[("2:13", "append"), ("3:7", "not a name for `Via`"), ("4:11", "1 to 100")]),
    ("[addresses]\nrequests = '0/s'\nfailed_authentications = 'of'\nfailed_authentications_total = '5'\nexempt = ['x']\nmax_addresses = 1",
        &[("2:12", "admits nobody"), ("3:26", "a number, a slash and a time"), ("4:32", "a number, a slash and a time"), ("5:11", "not a network"), ("6:17", "1000 to 10000000")]),
    ("[addresses]\nrequests_burst = 5\nfailed_authentications_burst = 0\nfailed_authentication = '5/s'",
        &[("2:18", "a burst without `requests`"), ("3:32", "burst of 0"), ("4:1", "did you mean `failed_authentications`?")]),
    ("[addresses]\nfailed_authentications = '1/d'\nfailed_authentications_burst = 4000000000\nrequests = 'off'\nrequests_burst = 1",
        &[("3:32", "584 years"), ("5:18", "a burst without `requests`")]),
    ("[[routes]]\nrequest_headers = { set = { 'X Y' = '1', 'Host' = 'a', 'Content-Length' = '1', 'stripe_account' = 'x', 'Tollgate-Mode' = 'live', 'X-HTTP-Method-Override' = 'GET' } }",
        &[("2:29", "not a header's name"), ("2:42", "`host` says"), ("2:56", "frames the message"), ("2:80", "limits decide by it"), ("2:104", "writes it itself"), ("2:130", "another request of the one")]),
    ("[[routes]]\nrequest_headers = { remove = ['Authorization', 'via', 'X-A', 'x_a', 'Idempotency-Key'], add = { 'X-B' = 'é', 'X-C' = ' c', 'TE' = 'x' } }",
        &[("2:31", "`credentials` says"), ("2:48", "writes it itself"), ("2:62", "the header `x_a` twice"), ("2:69", "limits decide by it"), ("2:105", "not a header's value"), ("2:118", "not a header's value"), ("2:124", "frames the message")]),
    ("[[routes]]\nrequest_headers = { set = { 'X-A' = '{acount}', 'x-a' = '1' }, drop = [] }\nresponse_headers = { set = { 'X-A' = '{account}', 'Transfer-Encoding' = 'x', 'Request-Id' = 'y' } }",
        &[("2:37", "did you mean `account`?"), ("2:64", "unknown key `drop`"), ("3:38", "there is no variable `{account}`"), ("3:51", "frames the message"), ("3:78", "writes it itself")]),
    ("[[routes]]\nrequest_headers = 5\nhost = 'a/b'\nstrip_prefix = '/api'\nadd_prefix = 'v2'",
        &[("2:19", "a value of the wrong type"), ("3:8", "not a host"), ("4:16", "not a prefix of all paths"), ("5:14", "not the beginning of a canonical path")]),
    ("[[routes]]\npath_prefix = '/api/v1'\nstrip_prefix = '/ap'\nadd_prefix = '/a/../b'\nhost = ''", &[("3:16", "not a prefix of all paths"), ("4:14", "not the beginning of a canonical path"), ("5:8", "not a host")]),
    ("[[routes]]\npath_prefix = '/api/v1'\nstrip_prefix = '/api'\nadd_prefix = '/%61'\nhost = 'u@a'", &[("4:14", "not the beginning of a canonical path"), ("5:8", "not a host")]),
    ("[[routes]]\ncredentials = 'sk_live_1'\n[[routes]]\npath_prefix = '/x'\ncredentials = {}\n[[routes]]\npath_prefix = '/y'\ncredentials = { bearer = 'x' }",
        &[("2:15", "a value of the wrong type"), ("5:15", "no credential"), ("8:17", "unknown key `bearer`")]),
    ("[[routes]]\ncredentials = { bearer_env = 'A-B' }\n[[routes]]\npath_prefix = '/x'\ncredentials = { bearer_env = 'A', basic_file = 'b' }\n[[routes]]\npath_prefix = '/y'\ncredentials = { value_file = 'x' }\n[[routes]]\npath_prefix = '/z'\ncredentials = { header = 'Host', value_env = 'X' }",
        &[("2:30", "not the name of an environment variable"), ("5:15", "more than one credential"), ("8:15", "belong together"), ("11:26", "`host` says")]),
    ("[state]\ndir = 5\npersist_interval = '1ms'\npersist_min_window = '400d'\npersist = '1s'",
        &[("2:7", "a value of the wrong type"), ("3:20", "100ms to 1h"), ("4:22", "1s to 1year"), ("5:1", "unknown key `persist`")]),
    ("[responses]\nreason_header = 'Content-Length'", &[("2:17", "has another use")]),
    ("[upstreams.b]\nservers = ['ftp://a', 'http://a/x', 'http://u@a', 'http://a:0', 'http://a', 'http://a']",
        &[("1:12", "2 upstreams and no routes"), ("2:12", "begin with http://"), ("2:23", "has no path"), ("2:37", "no user name"), ("2:51", "not a host and a port"), ("2:77", "the same server twice")]),
    ("[server]\nlisten = '0.0.0.0:8443'\n[upstreams.b]\nservers = ['http://127.0.0.1:8443', 'http://localhost:9090', 'http://10.0.0.1:8443']\n[[routes]]\nupstream = 'b'\n[[routes]]\nupstream = 'a'\nhosts = 'a'",
        &[("4:12", "the gateway itself listens there"), ("4:37", "the gateway itself listens there")]),
    ("[[routes]]\nupstream = 'aa'\n[[routes]]\nhosts = ['a:80', 'a/', '*']\npath_prefix = 'v1'",
        &[("2:12", "did you mean `a`?"), ("4:10", "not a host"), ("4:18", "not a host"), ("4:24", "not a host"), ("5:15", "not the beginning of a path")]),
    ("[[routes]]\nhosts = 'A.org'\npath_prefix = '/v1/'\n[[routes]]\nhosts = ['b.org', 'a.org']\npath_prefix = '/v1'",
        &[("4:1", "the route `/v1` has the same host and path prefix")]),
    ("[[routes]]\nname = 'r'\n[[routes]]\nname = 'r'\npath_prefix = '/x'\n[[routes]]\nhosts = []\npath_prefix = '/y'",
        &[("4:8", "a second route `r`"), ("7:9", "empty list of hosts"), ]),
    ("[server]\ntunnel_idle_timeout = '0s'\n[[routes]]\nupgrades = ['websocket', 'H2C', 'a b']",
        &[("2:23", "1ms"), ("4:26", "never begins by an upgrade"), ("4:33", "no name of a protocol")]),
    ("[upstreams.b]\nservers = 'http://b'\n[[routes]]\npath_prefix = '/v1'", &[("1:12", "no route leads to the upstream `b`"), ("3:1", "lacks `upstream`")]),
    ("[[endpoints]]\nname = 'x'", &[("1:1", "lacks `match`")]),
    ("[connect]\ncharge = 'platfrom'\npays = 1", &[("2:10", "did you mean `platform`?"), ("3:1", "unknown key `pays`")]),
    ("[server]\nhttp2 = 'yes'\nhttp2_max_streams = 0\nhttp2_stream_window = '1KiB'\nhttp2_connection_window = '1GiB'\nhttp2_send_buffer = '1KiB'",
        &[("2:9", "a value of the wrong type"), ("3:21", "1 to 10000"), ("4:23", "64.0 KiB to 16.0 MiB"), ("5:27", "64.0 KiB to 16.0 MiB"), ("6:21", "16.0 KiB to 16.0 MiB")]),
    ("[upstreams.b]\nservers = 'http://b'\nprotocol = 'h2'", &[("1:12", "2 upstreams and no routes"), ("3:12", "unknown word `h2`")]),
    ("[server]\nproxy_protocol = 'on'\nmax_buffer_memory = '1KiB'\nmin_body_rate = '2GiB'\nmin_write_rate = 'fast'\nmax_body_bytes = '2TiB'\ndrain_delay = '2h'\nmax_connections_per_address = -1",
        &[("2:18", "unknown word `on`"), ("3:21", "1.0 MiB to 16.0 TiB"), ("4:17", "0 B to 1.0 GiB"), ("5:18", "not a size"), ("6:18", "0 B to 1.0 TiB"), ("7:15", "0s to 1h"), ("8:31", "found: integer `-1`")]),
    ("[server]\ninspect_body_max = '1GiB'", &[("2:20", "0 B to 16.0 MiB")]),
    ("[[endpoints]]\nmatch = 'post /v1'\n[[endpoints]]\nmatch = '/v1'\n[[endpoints]]\nmatch = 'GET v1/{a'",
        &[("2:9", "upper case"), ("4:9", "a method and a path template"), ("6:9", "must begin with a slash")]),
    ("[[endpoints]]\nmatch = 'GET /a/{b}'\n[[endpoints]]\nmatch = 'GET /a/{c}'", &[("4:9", "the endpoint `GET /a/{b}` has the same method and path")]),
    ("[[endpoints]]\nmatch = 'GET /a'\nname = 'n'\n[[endpoints]]\nmatch = 'GET /b'\nname = 'n'", &[("6:8", "a second endpoint `n`")]),
    ("[[endpoints]]\nmatch = 'GET /a'\nname = 'other.read'\n[[endpoints]]\nmatch = 'GET /b'\nname = 'a*'\ncost = 1000001\naccess = 'reed'",
        &[("3:8", "is taken"), ("6:8", "not a name"), ("7:8", "0 to 1000000"), ("8:10", "did you mean `read`?")]),
    ("balance = 'random'\nmax_pending = -1\nmax_connections = 0\nresolve_interval = '1ms'",
        &[("1:11", "least_loaded, round_robin"), ("2:15", "from 0 to"), ("3:19", "1 to 1000000"), ("4:20", "1s to 1day")]),
    ("health = {}\nejection = { failures = 1001, base = '1h', max_share = 1.5 }\nretries = { attempts = 11, on = 'reset', budget = -1, max_body = '2MiB' }",
        &[("1:10", "lacks `path`"), ("2:25", "0 to 1000"), ("2:38", "100ms to 5m"), ("2:56", "0 to 1"), ("3:24", "0 to 10"), ("3:51", "0 to 1"), ("3:66", "1.0 MiB")]),
    ("retries.on = ['reset', '500']\nhealth.pth = '/'", &[("1:24", "unknown word `500`"), ("2:8", "did you mean `path`?")]),
    ("health = { path = 'healthz', statuses = ['2xx'], host = 'a/b', unhealthy = 0 }\nretries.per_try_timeout = '0s'",
        &[("1:19", "not a path"), ("1:42", "not a status"), ("1:57", "not a host"), ("1:76", "1 to 1000"), ("2:27", "1ms to 1day")]),
    ("[server]\nlock_queue_max = 65537\nlock_waiters_max = 1000001", &[("2:18", "0 to 65536"), ("3:20", "0 to 1000000")]),
    ("[[endpoints]]\nmatch = 'GET /a'\nlock = {}\n[[endpoints]]\nmatch = 'GET /b'\nlock = 'path.b'", &[("3:8", "the lock lacks `per`"), ("6:8", "a value of the wrong type")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { pre = ['path.a'], wait = '5' }", &[("3:10", "did you mean `per`?"), ("3:35", "not a duration")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { per = ['path.a'], wait = '2h', name = '' }", &[("3:35", "0s to 1h"), ("3:48", "not a name for a lock")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { per = [] }", &[("3:16", "1 to 8 values")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { per = ['path.b'] }\n[[endpoints]]\nmatch = 'PUT /{a}'\nlock = { per = ['path.a', 'path.a'] }",
        &[("3:17", "the endpoint `GET /{a}` has no {b} in its path"), ("6:27", "`path.a` twice")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { per = ['account'] }\n[[endpoints]]\nmatch = 'PUT /{a}'\nlock = { per = ['header.Cookie'] }",
        &[("3:17", "`account` is no value of a request"), ("6:17", "holds a secret")]),
    ("[[endpoints]]\nmatch = 'GET /{a}'\nlock = { per = ['path.a'], name = 'x' }\n[[endpoints]]\nmatch = 'PUT /{a}'\nlock = { per = ['path.a', 'header.b'], name = 'x' }",
        &[("6:8", "another lock `x` names its objects by 1 values")]),
];

/// What follows a good beginning and the first lines of a limit: lines count from those.
#[rustfmt::skip]
const IN_LIMIT: &[(&str, Told)] = &[
    ("", &[("1:1", "the limit `l` lacks its figure")]),
    ("rat = '5/s'", &[("4:1", "did you mean `rate`?")]),
    ("rate = '5'", &[("4:8", "a rate is a number, a slash and a time")]),
    ("rate = 5", &[("4:8", "found: integer `5`")]),
    ("rate = '2000000000/s'", &[("4:8", "at most 1,000,000,000 a second")]),
    ("rate = '5/s'\nconcurrency = 5", &[("5:15", "both `rate` and `concurrency`")]),
    ("concurrency = 5\nburst = 5", &[("5:9", "belongs to a `rate`")]),
    ("rate = '5/s'\nburst = 0", &[("5:9", "admits nothing")]),
    ("rate = '1/d'\nburst = 1000000", &[("5:9", "584 years")]),
    ("quota = '1000/h'\nburst = 5", &[("5:9", "not to a `quota`")]),
    ("quota = '1000/h'\nrate = '5/s'", &[("4:9", "both `rate` and `quota`")]),
    ("quota = '1000/h'\nconcurrency = 5", &[("5:15", "both `quota` and `concurrency`")]),
    ("quota = '10/500ms'", &[("4:9", "1 second to 366 days")]),
    ("quota = '10/400d'", &[("4:9", "1 second to 366 days")]),
    ("quota = '5000000000/h'", &[("4:9", "too large")]),
    ("allocation = {}", &[("4:14", "lacks `per_transaction`"), ("4:14", "lacks `window`")]),
    ("allocation = { per_transaction = 5, window = '1ms', at_most = 5 }", &[("4:46", "a window of this length"), ("4:53", "unknown key `at_most`")]),
    ("allocation = { per_transaction = 5, window = '1d' }\nrate = '5/s'", &[("4:14", "both `rate` and `allocation`")]),
    ("allocation = { per_transaction = 5, window = '1d' }\nper = ['account', 'endpoint']", &[("5:7", "what transactions do not have")]),
    ("rate = '5/s'\n[[endpoints]]\nmatch = 'GET /a'\ntransaction = true", &[("7:15", "a transaction is a write")]),
    ("quota = 'many'", &[("4:9", "a rate is a number, a slash and a time")]),
    ("quota = '2/m'\n[[endpoints]]\nmatch = 'GET /a'\ncost = 3", &[("4:9", "more than the quota")]),
    ("rate = '5/s'\nper = ['acount', 'form.customer', 'ip', 'ip', 'header.a b', 'header.Authorization']",
        &[("5:8", "did you mean `account`?"), ("5:41", "`ip` twice"), ("5:47", "not a header's name"), ("5:61", "holds a secret")]),
    ("rate = '5/s'\nper = ['account', 'key', 'ip', 'endpoint', 'header.a', 'header.b', 'header.c', 'header.d', 'header.e']", &[("5:7", "more than 8 items")]),
    ("rate = '5/s'\nper = ['form.a[b', 'query.a b', 'form.a[*]', 'json.a..b', 'form.', 'path.x|header.y', 'form.x|', 'form.ok']",
        &[("5:8", "names in brackets"), ("5:20", "without escapes"), ("5:33", "is for conditions"), ("5:46", "names of members"), ("5:59", "1 to 200 bytes"), ("5:68", "no alternative"), ("5:87", "nothing to count by")]),
    ("rate = '5/s'\nwhen = { form = { 'a[' = true, b = 5 } }\nexcept = { form = 'x' }",
        &[("5:19", "names in brackets"), ("5:36", "a text, true or false"), ("6:19", "found: string \"x\"")]),
    ("rate = '5/s'\nper = ['form.ok', 'form.ok']\nwhen = { form_any = {} }", &[("5:19", "`form.ok` twice"), ("6:8", "an empty `form_any`")]),
    ("rate = '5/s'\nper = ['path.nothing']", &[("5:8", "none of this limit's endpoints has {nothing}")]),
    ("rate = '5/s'\nper = ['path.b']\nwhen = { endpoint = ['other.read'] }\n[[endpoints]]\nmatch = 'GET /a/{b}'", &[("5:8", "the endpoint `other.read` has no {b}")]),
    ("rate = '5/s'\nwhen = { endpoint = 'other.raed' }", &[("5:21", "did you mean `other.read`?")]),
    ("rate = '5/s'\nwhen = { endpoint = 'other.rate' }", &[("5:21", "there is no endpoint `other.rate`")]),
    ("rate = '5/s'\nwhen = { endpoint = ['payouts.*'], mode = 'prod', route = 'defaullt', account = [] }",
        &[("5:22", "no endpoint matches `payouts.*`"), ("5:43", "live, test"), ("5:59", "did you mean `default`?"), ("5:81", "an empty list of `account`")]),
    ("rate = '5/s'\nwhen = { mod = 'live' }\nexcept = { endpoint = 5 }\nfallback = 1", &[("5:10", "did you mean `mode`?"), ("6:23", "a string or a list of strings"), ("7:12", "true or false")]),
    ("rate = '5/s'\nwhen = { endpoint = 'GET /dear' }\n[[endpoints]]\nmatch = 'GET /dear'\ncost = 6", &[("4:8", "requests to `GET /dear` would never be admitted")]),
    ("rate = '5/s'\n[[limits]]\nname = 'l'\nstage = 'global'\nrate = '1/s'", &[("6:8", "a second limit `l`")]),
    ("rate = '5/s'\n[[limits]]\nrate = '1/s'\n[[limits]]\nname = 'a b'\nstage = 'resource'\nconcurrency = 1",
        &[("5:1", "the limit lacks `name`"), ("5:1", "lacks `stage`"), ("7:1", "lacks `per`"), ("8:8", "not a name for a limit")]),
    ("rate = '5/s'\n[tiers.gold.limits]\nll = { rate = '1/s' }\nl = { concurrency = 5 }\n[accounts.a]\ntier = 'golf'\nlimits.l = {}\n[accounts.b]\ntier = 'gold'",
        &[("6:1", "did you mean `l`?"), ("7:5", "the limit `l` is a rate, not a concurrency"), ("9:8", "did you mean `gold`?"), ("10:12", "the override of `l` lacks its figure")]),
    ("rate = '5/s'\n[tiers.gold.limits]\nl = { rat = '1/s' }\n[tiers.gold]\nlimit = 1", &[("6:7", "unknown key `rat`"), ("7:8", "no account has the tier `gold`"), ("8:1", "did you mean `limits`?")]),
    ("rate = '5/s'\nenforce = 1.5\ncandidate = { quota = '5/m' }\ndoc_url = 'docs'",
        &[("5:11", "not a share of the accounts"), ("6:13", "the limit is a rate, not a quota"), ("7:11", "not a URL")]),
    ("rate = '5/s'\nenforce = 'some'", &[("5:11", "a share of the accounts from 0 to 1")]),
    ("rate = '5/s'\ncandidate = {}", &[("5:13", "the candidate lacks its figure")]),
    ("rate = '5/s'\nenforce = nan\ncandidate = { rate = '9/s', burst = 0 }", &[("5:11", "not a share"), ("6:37", "a burst of 0 admits nothing")]),
    ("allocation = { per_transaction = 1, window = '1h' }\ncandidate = { allocation = { per_transaction = 1, window = '2h' } }\nper = ['account']",
        &[("5:13", "the candidate's window is not the limit's")]),
    ("rate = 'x'\nburst = 'x'\nper = 'account'\nwhen = { endpoint = 'nope' }\nenforc = true",
        &[("4:8", "a rate is"), ("5:9", "from 0 up"), ("6:7", "a list"), ("7:21", "no endpoint `nope`"), ("8:1", "did you mean `enforce`?")]),
];

fn check(name: &str, text: &str, skipped: usize, told: Told) -> Result<(), String> {
    let errors = match compile(text) {
        Ok(_) => return Err(format!("{name}: nothing is told of\n{text}\n")),
        Err(errors) => errors,
    };
    let same = errors.mistakes.len() == told.len()
        && errors.mistakes.iter().zip(told).all(|(mistake, (place, piece))| {
            let line = mistake.line.saturating_sub(skipped);
            format!("{line}:{}", mistake.column) == *place && mistake.to_string().contains(piece)
        });
    if same { Ok(()) } else { Err(format!("{name}, less {skipped} lines\n{text}\nwanted {told:#?}\ngot\n{errors}\n")) }
}

#[test]
fn every_mistake_is_told_once_and_at_its_place() {
    let lines = |text: &str| text.lines().count();
    let whole = WHOLE.iter().map(|(text, told)| check("whole", text, 0, told));
    let after =
        AFTER_BASE.iter().map(|(text, told)| check("after the base", &format!("{BASE}{text}"), lines(BASE), told));
    let limit = IN_LIMIT.iter().map(|(text, told)| check("limit", &format!("{BASE}{LIMIT}{text}"), lines(BASE), told));
    let cases: Vec<_> = whole.chain(after).chain(limit).collect();
    assert!(cases.len() >= 55);
    let wrong: Vec<String> = cases.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_unknown_preset_is_one_mistake() {
    let text = format!(
        "presets = ['strip']\n{BASE}{LIMIT}rate = '1/s'\nwhen = {{ endpoint = 'payouts.create' }}\n[accounts.a]\nlimits.search = {{ rate = '1/s' }}"
    );
    check("preset", &text, 0, &[("1:12", "did you mean `stripe`?")]).unwrap();
    let text = format!("presets = ['stripe', 'stripe', 'stripe-read-write']\n{BASE}");
    check("presets", &text, 0, &[("1:22", "twice"), ("1:32", "describe the same API")]).unwrap();
}

#[test]
fn thousands_of_mistakes_are_counted_and_the_first_are_told() {
    let mut text = BASE.to_owned();
    for nth in 0..5_000 {
        text.push_str(&format!(
            "[[limits]]\nname = 'l{nth}'\nstage = 'endpoint'\nrate = '{nth}'\nwhen = {{ endpoint = 'x{nth}' }}\n"
        ));
    }
    let errors = compile(&text).unwrap_err();
    assert_eq!(errors.mistakes.len(), MAX_MISTAKES);
    assert!(errors.omitted > 1_000);
}

#[test]
fn more_values_than_a_request_holds_are_told_once() {
    let header =
        |nth| format!("[[limits]]\nname = 'l{nth}'\nstage = 'resource'\nrate = '1/s'\nper = ['header.h{nth}']\n");
    let text: String = std::iter::once(BASE.to_owned()).chain((1..=9).map(header)).collect();
    check("values", &text, 0, &[("49:8", "count by more than 8 values")]).unwrap();
}

/// Every way to drop a character, and many to add one: an answer each time, and an error is always told with its place.
#[test]
fn no_slip_of_a_finger_is_too_much() {
    let text = format!(
        "{BASE}{LIMIT}rate = '5/s'\nburst = 7\nper = ['account', 'header.x']\nwhen = {{ endpoint = 'GET*', mode = 'live' }}\n\
         [[endpoints]]\nmatch = 'GET /a/{{e}}'\n[tiers.t.limits]\nl = {{ rate = '1/s' }}\n[accounts.x]\ntier = 't'\n"
    );
    good(&text);
    let mut refused = 0;
    for (at, _) in text.char_indices() {
        let (before, rest) = text.split_at(at);
        let without = rest.chars().skip(1).collect::<String>();
        let slips = ["\"", "[", "=", "\n", "é", "#", "\0"].map(|slip| format!("{before}{slip}{rest}"));
        for slip in slips.into_iter().chain([format!("{before}{without}"), before.to_owned()]) {
            let Err(errors) = compile(&slip) else { continue };
            refused += 1;
            assert!(errors.mistakes.iter().any(|mistake| mistake.severity == Severity::Error), "{slip}\n{errors}");
            assert!(errors.mistakes.iter().all(|mistake| mistake.line >= 1 && mistake.column >= 1), "{slip}\n{errors}");
            let places: Vec<_> = errors.mistakes.iter().map(ToString::to_string).collect();
            let mut once = places.clone();
            once.dedup();
            assert_eq!(places, once, "{slip}");
        }
    }
    assert!(refused > 1_000);
}

#[test]
fn more_facts_than_bits_are_told_once() {
    let condition = |nth| {
        format!(
            "[[limits]]\nname = 'l{nth}'\nstage = 'endpoint'\nrate = '1/s'\nwhen = {{ form = {{ k{nth} = true, j{nth} = 'x' }} }}\n"
        )
    };
    let text = |limits| std::iter::once(BASE.to_owned()).chain((1..=limits).map(condition)).collect::<String>();
    good(&text(32));
    check("facts", &text(33), 0, &[("169:8", "too many form conditions")]).unwrap();
}
