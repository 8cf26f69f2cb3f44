//! The PROXY protocol: a header or none however it comes in, and the client that a plainer reader finds in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tollgate::server::proxy_protocol::{Header, parse};

/// The beginning of a connection.
pub(super) fn run(data: &[u8]) {
    let mut verdict = None;
    for length in 0..=data.len().min(600) {
        let now = parse(&data[..length]).map(|header| header.map(|Header { length, client }| (length, client)));
        match verdict {
            // What is decided stays decided, whatever comes behind it.
            Some(earlier) => assert_eq!(now, earlier, "at {length} bytes"),
            None if now == Ok(None) => {}
            None => verdict = Some(now),
        }
        if let Ok(Some((taken, client))) = now {
            assert!((1..=length).contains(&taken));
            assert_eq!(client, plain(&data[..taken]), "{:?}", &data[..taken]);
        }
    }
}

/// The client of a whole header.
fn plain(header: &[u8]) -> Option<IpAddr> {
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = std::str::from_utf8(line).expect("ASCII").strip_suffix("\r\n").expect("a line end");
        let words: Vec<&str> = line.split(' ').collect();
        return match words[..] {
            ["TCP4", source, _, _, _] => Some(IpAddr::V4(source.parse().expect("an IPv4 address"))),
            ["TCP6", source, _, _, _] => Some(IpAddr::V6(source.parse().expect("an IPv6 address"))),
            ["UNKNOWN", ..] => None,
            _ => panic!("neither of the three"),
        };
    }
    assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    assert_eq!(header.len(), 16 + usize::from(u16::from_be_bytes([header[14], header[15]])), "its own length");
    let source = &header[16..];
    match (header[12], header[13] >> 4) {
        (0x20, _) => None,
        (0x21, 1) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&source[..4]).expect("four bytes")).into()),
        (0x21, 2) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&source[..16]).expect("sixteen bytes")).into()),
        (0x21, _) => None,
        _ => panic!("another version or command"),
    }
}
