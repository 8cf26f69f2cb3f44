//! Traces for `replay`: any bytes are lines, any line is a record or a fault, and a record of the gateway's own log says what
//! the JSON of its line says.

use tollgate::replay::format::{Kind, Mapping, Reader};
use tollgate::replay::lines::{Lines, Next};

/// A letter that says what the lines are taken for, then lines.
pub(super) fn run(data: &[u8]) {
    let Some((&letter, data)) = data.split_first() else { return };
    let lines = cut(data);
    let plain: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    // The last piece is a line only if there is something in it.
    let plain = plain.strip_suffix(&[&b""[..]]).unwrap_or(&plain);
    assert_eq!(lines, plain, "lines are what stands between line feeds");
    let mapping = match letter % 5 {
        0 => None,
        1 => Some(Mapping::of(Kind::Tollgate)),
        2 => Some(Mapping::of(Kind::Combined)),
        3 => Some(Mapping::of(Kind::Caddy)),
        _ => Some(Mapping::of(Kind::Envoy)),
    };
    let (mut reader, mut again) = (Reader::new(mapping.as_ref(), false), Reader::new(mapping.as_ref(), false));
    for line in lines.iter().filter_map(|line| std::str::from_utf8(line).ok()) {
        let record = reader.read(line);
        assert_eq!(format!("{record:?}"), format!("{:?}", again.read(line)), "the same line, the same record");
        if let (Ok(record), true) = (&record, letter % 5 == 1) {
            let said: serde_json::Value = serde_json::from_str(line).expect("a record of a line that is no JSON");
            assert_eq!(said["path"].as_str(), Some(&*record.path), "{line}");
            assert_eq!(said["method"].as_str(), Some(&*record.method), "{line}");
        }
    }
}

fn cut(data: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Lines::new(data);
    let mut all = Vec::new();
    loop {
        match lines.advance().expect("a slice can be read") {
            Next::Line { at, .. } => all.push(lines.bytes(&at).to_vec()),
            Next::Long => panic!("no input is that long"),
            Next::End => return all,
        }
        assert_eq!(lines.number(), all.len() as u64);
    }
}
