use super::*;
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const LONGEST: &str =
    "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE_V2.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    header.extend(block);
    header
}

/// Addresses 10.1.2.3 and 10.4.5.6, and then `fields`.
fn ipv4_block(fields: &[u8]) -> Vec<u8> {
    [&[10, 1, 2, 3, 10, 4, 5, 6, 0x30, 0x39, 1, 0xbb], fields].concat()
}

fn client(bytes: &[u8]) -> Option<IpAddr> {
    let header = parse(bytes).unwrap().unwrap();
    assert_eq!(header.length, bytes.len());
    header.client
}

#[test]
fn lines_name_their_client() {
    assert_eq!(client(b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n"), Some([192, 0, 2, 1].into()));
    assert_eq!(client(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), "2001:db8::1".parse().ok());
    assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(client(b"PROXY UNKNOWN ffff:: whatever it is\r\n"), None);
    assert_eq!(client(LONGEST.as_bytes()), Some(Ipv6Addr::from([0xff; 16]).into()));
}

#[test]
fn lines_that_are_not_quite_right_are_refused() {
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(longer.len(), 108);
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 nowhere 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        &longer,
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
}

#[test]
fn binary_headers_name_their_client() {
    assert_eq!(client(&v2(0x21, 0x11, &ipv4_block(b""))), Some([10, 1, 2, 3].into()));
    assert_eq!(client(&v2(0x21, 0x11, &ipv4_block(b"\x01\x00\x02h2\x04\x00\x00"))), Some([10, 1, 2, 3].into()));
    let ipv6 = [[0xfd; 16], [0; 16]].concat();
    assert_eq!(client(&v2(0x21, 0x21, &[&ipv6[..], &[0; 4]].concat())), Some(Ipv6Addr::from([0xfd; 16]).into()));
    assert_eq!(client(&v2(0x21, 0x00, b"")), None);
    assert_eq!(client(&v2(0x21, 0x31, &[0; 216])), None);
    assert_eq!(client(&v2(0x20, 0x00, b"")), None, "a health check");
    assert_eq!(client(&v2(0x20, 0x77, b"anything")), None);
    assert_eq!(client(&v2(0x20, 0x00, &[0; MAX_V2_BYTES])), None);
}

#[test]
fn binary_headers_that_are_not_quite_right_are_refused() {
    for (header, why) in [
        (v2(0x11, 0x11, &ipv4_block(b"")), "version 1"),
        (v2(0x22, 0x11, &ipv4_block(b"")), "an unknown command"),
        (v2(0x21, 0x12, &ipv4_block(b"")), "datagrams"),
        (v2(0x21, 0x41, &ipv4_block(b"")), "an unknown family"),
        (v2(0x21, 0x11, &ipv4_block(b"")[..11]), "no room for two addresses"),
        (v2(0x21, 0x21, &[0; 35]), "no room for two addresses"),
        (v2(0x21, 0x11, &ipv4_block(b"\x01")), "half a field"),
        (v2(0x21, 0x11, &ipv4_block(b"\x01\x00\x03h2")), "a field that ends too late"),
        (v2(0x20, 0x00, &vec![0; MAX_V2_BYTES + 1]), "too long"),
        (b"\r\n\r\n\0\r\nQUIX\n!\x11\0\0".to_vec(), "another signature"),
    ] {
        assert!(parse(&header).is_err(), "{why}");
    }
}

fn headers() -> impl Strategy<Value = Vec<u8>> {
    let line = "PROXY (TCP4|TCP6|UNKNOWN|TCP5)( [0-9a-f.:]{1,15}){2}( [0-9]{1,6}){2}(\r\n|\n)";
    prop_oneof![
        Just(b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n".to_vec()),
        Just(LONGEST.as_bytes().to_vec()),
        line.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|fields| v2(0x21, 0x11, &ipv4_block(&fields))),
        (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(a, b, c)| v2(a, b, &c)),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    /// In any pieces the verdict is the same, and what follows is no part of it.
    #[test]
    fn every_split_gives_the_same(header in headers(), more in proptest::collection::vec(any::<u8>(), 0..50)) {
        let all = [header, more].concat();
        let at_once = parse(&all);
        // The first prefix with a verdict gives the verdict of all.
        let first = (0..=all.len()).map(|length| parse(&all[..length])).find(|parsed| !matches!(parsed, Ok(None)));
        match (first, at_once) {
            (None, all) => prop_assert_eq!(all, Ok(None)),
            (Some(Err(_)), all) => prop_assert!(all.is_err()),
            (Some(Ok(header)), all) => prop_assert_eq!(Ok(header), all),
        }
        if let Ok(Some(header)) = at_once {
            prop_assert!(header.length <= all.len());
            prop_assert_eq!(parse(&all[..header.length]), Ok(Some(header)));
        }
    }
}

#[tokio::test]
async fn nothing_behind_the_header_is_taken() {
    let tlv = [&[4, 2, 88][..], &[7; 600]].concat();
    for header in [LONGEST.as_bytes().to_vec(), v2(0x21, 0x11, &ipv4_block(&tlv))] {
        for at_once in [1, 7, 255, 256, 257, usize::MAX] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            near.set_nodelay(true).unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            let sent = [&header[..], b"GET /"].concat();
            let write = async {
                for piece in sent.chunks(at_once.min(sent.len())) {
                    near.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (client, ()) = tokio::join!(read(&mut far), write);
            assert!(client.unwrap().is_some());
            let mut rest = [0; 5];
            tokio::time::timeout(Duration::from_secs(20), far.read_exact(&mut rest)).await.unwrap().unwrap();
            assert_eq!(&rest, b"GET /");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_has_no_header() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    near.write_all(b"PROXY TCP4 ").await.unwrap();
    drop(near);
    assert!(matches!(read(&mut far).await, Err(ProxyFault::Gone(_))));
}
