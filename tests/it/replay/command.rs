//! The built command: formats, packing, output, exit codes, memory.

use super::{line, moment};
use crate::support::running::Folder;
use crate::support::wait::{PATIENCE, wait_within};
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use tollgate::engine::Nanos;

const CONFIG: &str = "[auth]\nmode = 'passthrough'\n[upstreams.api]\nservers = ['http://127.0.0.1:9']\n\
    [[endpoints]]\nmatch = 'POST /v1/charges'\nname = 'charges.create'\n\
    [[limits]]\nname = 'all'\nstage = 'global'\nrate = '1/h'\nburst = 3\n\
    [[limits]]\nname = 'slots'\nstage = 'endpoint'\nconcurrency = 1\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.put("one.toml", CONFIG);
    folder.put("other.toml", &CONFIG.replace("burst = 3", "burst = 5"));
    folder
}

/// The command in the folder, so that what it prints names no other.
fn command(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("replay").args(args).current_dir(folder.path(""));
    command
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    command(folder, args).stdin(Stdio::null()).output().unwrap()
}

fn run_with(folder: &Folder, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(folder, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Requests of a few accounts, some of them at once.
fn trace(requests: u64) -> String {
    let at = |number: u64| Nanos(number * 40_000_000);
    let request = |number: u64| line(at(number), 55.5, &format!("acct_{}", number % 7), "POST /v1/charges", 200, "");
    (0..requests).map(request).collect()
}

#[test]
fn packed_or_plain_and_twice_the_bytes_are_the_same() {
    let folder = folder();
    let text = trace(2_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let args = ["--config", "one.toml", "--against", "other.toml", "--json", "-"];
    let plain = run_with(&folder, &args, text.as_bytes());
    let report = json(&plain);
    assert_eq!(report["trace"]["requests"], 2_000);
    assert!(report["refused"].as_u64() > Some(1_000), "{report}");
    assert!(report["difference"]["newly_admitted"].as_u64() > Some(0), "{report}");
    for packed in [text.clone().into_bytes(), gzip.finish().unwrap(), zstd::encode_all(text.as_bytes(), 0).unwrap()] {
        assert!(run_with(&folder, &args, &packed).stdout == plain.stdout);
    }
}

#[test]
fn several_traces_are_one_by_time() {
    let folder = folder();
    let text = trace(300);
    folder.put("whole.jsonl", &text);
    for (name, keep) in [("even.jsonl", 0), ("odd.jsonl", 1)] {
        let part: Vec<&str> =
            text.lines().enumerate().filter(|(number, _)| number % 2 == keep).map(|it| it.1).collect();
        folder.put(name, &part.join("\n"));
    }
    let whole = json(&run(&folder, &["--config", "one.toml", "--json", "whole.jsonl"]));
    let parts = json(&run(&folder, &["--config", "one.toml", "--json", "odd.jsonl", "even.jsonl"]));
    assert_eq!(parts["trace"]["files"], serde_json::json!(["odd.jsonl", "even.jsonl"]));
    for part in ["admitted", "limits", "accounts", "timeline"] {
        assert_eq!(whole[part], parts[part], "{part}");
    }
}

#[test]
fn what_people_read_names_limits_accounts_and_figures() {
    let folder = folder();
    folder.put("t.jsonl", &(trace(100) + "{\"ts\":\n"));
    let output = run(&folder, &["--config", "one.toml", "--against", "other.toml", "t.jsonl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    for wanted in [
        "100 requests of 7 accounts (101 lines)\n",
        "\nbusiest second: 25 requests at ",
        "warning: 1 line ends in the middle: t.jsonl:101\n",
        "all    1/h, burst 3",
        "refuses nobody",
        "acct_1",
        "AGAINST",
        "14 newly admitted",
        "14 no longer refused by all",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let one = run_with(&folder, &["--config", "one.toml", "--once", "-"], trace(1).as_bytes());
    let text = String::from_utf8(one.stdout).unwrap();
    assert!(
        text.contains("1 request of 1 account (1 line)") && text.contains("busiest second: 1 request at "),
        "{text}"
    );
}

#[test]
fn exit_codes_and_what_is_told_on_the_way_out() {
    let folder = folder();
    folder.put("bad.jsonl", &(trace(3) + "nonsense\n"));
    folder.put("bad.toml", "[auth]\nmode = 'maybe'\n");
    folder.put("format.toml", "[replay.format]\nkind = 'json'\n");
    let told = |args: &[&str], code: i32, wanted: &str| {
        let output = run(&folder, args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(wanted), "{args:?}: {text}");
    };
    told(&["--config", "one.toml", "bad.jsonl"], 0, "");
    told(&["--config", "one.toml", "--strict", "bad.jsonl"], 2, "bad.jsonl:4: the line is not of the format");
    told(&["--config", "one.toml", "missing.jsonl"], 2, "missing.jsonl: cannot be read");
    told(&["--config", "bad.toml", "bad.jsonl"], 2, "maybe");
    told(&["--config", "one.toml", "--format", "format.toml", "bad.jsonl"], 2, "format.toml: ");
    told(&["--config", "one.toml"], 2, "TRACE");
}

/// The examples of the documentation, each run as it stands there.
#[test]
fn the_examples_of_formats_work() {
    let page = include_str!("../../../docs/replay.md");
    let mut examples = 0;
    for example in page.split("<!-- example -->").skip(1) {
        let mut blocks = example.split("```").skip(1).step_by(2);
        let (mapping, lines) = (blocks.next().unwrap(), blocks.next().unwrap());
        let body = |block: &str| block.split_once('\n').unwrap().1.to_owned();
        let folder = folder();
        folder.put("format.toml", &body(mapping));
        folder.put("trace", &body(lines));
        let report =
            json(&run(&folder, &["--config", "one.toml", "--format", "format.toml", "--strict", "--json", "trace"]));
        let requests = body(lines).lines().count();
        assert_eq!(report["trace"]["requests"], requests, "{mapping}");
        assert_eq!(report["accounts"]["top"][0]["name"], "acct_1", "{report}");
        assert_eq!(report["endpoints"][0]["name"], "charges.create", "{report}");
        examples += 1;
    }
    assert!(examples >= 4, "the examples are there");
}

#[test]
fn memory_does_not_grow_with_the_trace() {
    let folder = folder();
    let most = |requests: u64| {
        let mut text = String::new();
        for number in 0..requests {
            let (account, at) = (number % 500, moment(Nanos(number * 500_000)));
            writeln!(
                text,
                "{{\"ts\":\"{at}\",\"duration_ms\":3,\"account\":\"acct_{account}\",\"endpoint\":\"e\",\"method\":\"GET\",\
                 \"path\":\"/v1/charges/ch_{number}\",\"status\":200}}"
            )
            .unwrap();
        }
        let args = ["--config", "one.toml", "--once", "--json", "-"];
        let mut child = command(&folder, &args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let most = Cell::new(0);
        let ends = || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            most.set(most.get().max(now.unwrap_or(0)));
            child.try_wait().unwrap()
        };
        assert!(wait_within("it ends", 15 * PATIENCE, ends).success());
        assert!(most.get() > 1_000, "it was seen while it ran");
        most.get()
    };
    // What is held back until it can be put in order is bounded by more than either has.
    let (short, long) = (most(10_000), most(80_000));
    assert!(long < short + 30_000, "{short} kB for 10,000 requests, {long} kB for 80,000");
}

/// Foreign lines are read by the configuration's own table; the gateway's are read as what they are, unless a file is given.
#[test]
fn the_configuration_says_how_foreign_traces_are_written() {
    let folder = folder();
    let table =
        "[replay.format]\nkind = 'json'\ntime = 'at'\ntime_format = 'unix'\nrequest = 'line'\naccount = 'who'\n";
    folder.put("one.toml", &format!("{CONFIG}{table}"));
    folder.put("foreign.jsonl", "{\"at\":1795341600.5,\"line\":\"POST /v1/charges HTTP/1.1\",\"who\":\"acct_f\"}\n");
    folder.put("own.jsonl", &trace(10));
    folder.put("format.toml", table);
    let report = json(&run(&folder, &["--config", "one.toml", "--strict", "--json", "foreign.jsonl", "own.jsonl"]));
    assert_eq!((&report["trace"]["requests"], &report["trace"]["accounts"]), (&11.into(), &8.into()));
    let forced = run(&folder, &["--config", "one.toml", "--format", "format.toml", "--strict", "own.jsonl"]);
    assert_eq!(forced.status.code(), Some(2));
}

/// What stands on it is for `tests/clients/test_report.py` to see.
#[test]
fn the_page_is_written_whole_or_not_at_all() {
    let folder = folder();
    folder.put("t.jsonl", &trace(100));
    let written = run(&folder, &["--config", "one.toml", "--html", "page.html", "--json", "t.jsonl"]);
    let page = std::fs::read_to_string(folder.path("page.html")).unwrap();
    let (_, rest) = page.split_once("id=\"report\">").unwrap();
    let data: serde_json::Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data, json(&written));
    let again = run(&folder, &["--config", "one.toml", "--html", "page.html", "t.jsonl"]);
    assert!(again.status.success() && std::fs::read_to_string(folder.path("page.html")).unwrap() == page);
    for (out, trace) in [("no/folder/page.html", "t.jsonl"), (".", "t.jsonl"), ("other.html", "missing.jsonl")] {
        let output = run(&folder, &["--config", "one.toml", "--html", out, trace]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{out}: {told}");
        assert!(!told.contains(".tollgate-replay"), "{told}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().contains("tollgate-replay") || name == "other.html"),
        "{names:?}"
    );
}
