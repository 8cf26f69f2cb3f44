//! The Dockerfile, the compose file and the units name files, commands, ports and figures that there are.

use super::{files_below, read, root};
use std::time::Duration;

/// The arguments of every line of the Dockerfile that begins with `word`, with continued lines joined.
fn instructions(word: &str) -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::trim));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_image_is_built_from_what_there_is() {
    let kept: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    for name in &kept {
        assert!(root().join(name).exists(), ".dockerignore keeps {name}, which is not there");
    }
    // All that the package needs to be built, in the one context that is copied.
    for needed in ["Cargo.toml", "Cargo.lock", "src", "config", "README.md"] {
        assert!(kept.iter().any(|name| name == needed), ".dockerignore leaves out {needed}");
    }
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    for kind in ["bench", "test", "example"] {
        for target in manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten() {
            let folder = target.get("path").and_then(toml::Value::as_str).map_or_else(
                || match kind {
                    "bench" => "benches",
                    other => {
                        if other == "test" {
                            "tests"
                        } else {
                            "examples"
                        }
                    }
                },
                |path| path.split('/').next().unwrap(),
            );
            assert!(
                kept.iter().any(|name| name == folder),
                "Cargo.toml names a {kind} in {folder}, which .dockerignore leaves out"
            );
        }
    }
    assert_eq!(instructions("COPY"), [". .", "--from=builder /image/ /"]);
    assert!(instructions("RUN")[0].contains("--bin tollgate"), "{:?}", instructions("RUN"));
}

#[test]
fn the_image_runs_commands_that_there_are() {
    use clap::Parser;
    let entry = list(&instructions("ENTRYPOINT")[0]);
    let binary = "/usr/local/bin/tollgate";
    assert_eq!(entry, [binary]);
    assert!(instructions("RUN")[0].contains(&format!("/image{binary}")));
    let health = instructions("HEALTHCHECK")[0].split_once("CMD ").unwrap().1.to_owned();
    for command in [list(&instructions("CMD")[0]), list(&health)[1..].to_vec()] {
        let parsed = tollgate::cli::Cli::try_parse_from(["tollgate".to_owned()].into_iter().chain(command.clone()));
        assert!(parsed.is_ok(), "{command:?}: {}", parsed.unwrap_err());
    }
    assert_eq!(instructions("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(instructions("EXPOSE"), ["8080 9090"]);
    assert_eq!(instructions("USER"), ["65532:65532"]);
}

/// A JSON list of texts.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_compose_file_mounts_what_there_is_and_runs_commands_that_there_are() {
    use clap::Parser;
    let text = read("examples/compose.yaml");
    let mounts: Vec<&str> = text
        .split(['"', '\n', ' '])
        .filter_map(|word| word.strip_prefix("./"))
        .map(|word| word.split(':').next().unwrap())
        .collect();
    assert_eq!(mounts.len(), 4, "{mounts:?}");
    for mount in mounts {
        assert!(root().join("examples").join(mount).exists(), "examples/{mount}");
    }
    let commands: Vec<Vec<String>> =
        text.lines().filter_map(|line| line.trim().strip_prefix("command: ")).map(list).collect();
    assert_eq!(commands.len(), 1);
    for command in commands {
        let parsed = tollgate::cli::Cli::try_parse_from(["tollgate".to_owned()].into_iter().chain(command.clone()));
        assert!(parsed.is_ok(), "{command:?}: {}", parsed.unwrap_err());
    }
    let prometheus = read("examples/prometheus/prometheus.yml");
    assert!(prometheus.contains("rule_files: [alerts.yml]") && prometheus.contains("\"gateway:9090\""));
    assert!(read("examples/grafana/provisioning/datasources/prometheus.yaml").contains("uid: prometheus\n"));
    let shown = "/etc/grafana/dashboards";
    assert!(text.contains(&format!("./grafana/tollgate.json:{shown}/tollgate.json:ro")));
    assert!(read("examples/grafana/provisioning/dashboards/tollgate.yaml").contains(&format!("path: {shown} ")));
}

/// What stands behind `key` in a file of units or of YAML, in seconds.
fn seconds(text: &str, key: &str) -> Vec<u64> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    values.map(|value| value.trim_start_matches(['=', ':', ' ']).trim_end_matches('s').parse().unwrap()).collect()
}

#[test]
fn everybody_waits_for_the_drain_to_end() {
    let drain = |text: &str| {
        let config: toml::Table = text.parse().unwrap();
        let server = config["server"].as_table().unwrap();
        let of = |key: &str, default: &str| {
            humantime::parse_duration(server.get(key).and_then(toml::Value::as_str).unwrap_or(default)).unwrap()
        };
        of("drain_delay", "0s") + of("drain_timeout", "30s")
    };
    let compose = drain(&read("examples/compose/tollgate.toml"));
    let waits = |file: &str, key: &str, drain: Duration| {
        let given = seconds(&read(file), key);
        assert!(
            !given.is_empty() && given.iter().all(|wait| Duration::from_secs(*wait) > drain),
            "{file}: {key} {given:?}"
        );
    };
    waits("examples/compose.yaml", "stop_grace_period", compose);
    waits("examples/systemd/tollgate.service", "TimeoutStopSec", Duration::from_secs(40));
    for file in ["examples/kubernetes/deployment.yaml", "examples/kubernetes/sidecar.yaml"] {
        let text = read(file);
        let config = text.split_once("tollgate.toml: |\n").unwrap().1.split_once("\n---").unwrap().0;
        waits(file, "terminationGracePeriodSeconds", drain(config));
    }
}

#[test]
fn every_example_names_its_schema() {
    let names = files_below("examples").into_iter().chain(files_below("config"));
    let files: Vec<String> = names.filter(|name| name.ends_with(".toml") && !name.ends_with("keys.toml")).collect();
    assert!(files.len() >= 7, "{files:?}");
    for name in files {
        let text = read(&name);
        let line = text.lines().next().unwrap();
        let schema = line.strip_prefix("#:schema ").unwrap_or_else(|| panic!("{name} begins with {line:?}"));
        let folder = root().join(&name);
        assert_eq!(
            folder.parent().unwrap().join(schema).canonicalize().ok(),
            root().join("config/tollgate.schema.json").canonicalize().ok(),
            "{name}"
        );
    }
}
