//! Random answers in random pieces are read as they were meant, and random bytes never as an answer that they are not.

use super::script::{After, Script, answered};
use proptest::collection::vec;
use proptest::prelude::*;

/// Cuts bytes at places that are spread over them.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// A body's pieces, and how they are framed.
fn message() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, usize)> {
    let chunks = vec(vec(any::<u8>(), 1..6_000), 0..5);
    (chunks, 0..3_usize, 0..4_usize, "[ -~]{0,40}").prop_map(|(chunks, framing, interim, value)| {
        let body = chunks.concat();
        let mut wire = "HTTP/1.1 102 Processing\r\nx: y\r\n\r\n".repeat(interim).into_bytes();
        wire.extend(format!("HTTP/1.1 200 OK\r\nx-value: {value}\r\n").as_bytes());
        match framing {
            0 => {
                wire.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                wire.extend(&body);
            }
            1 => {
                wire.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    wire.extend(format!("{:x};e={value}\r\n", chunk.len()).replace('\u{7f}', "").as_bytes());
                    wire.extend(chunk);
                    wire.extend(b"\r\n");
                }
                wire.extend(b"0\r\nx-sum: 1\r\n\r\n");
            }
            _ => {
                wire.extend(b"\r\n");
                wire.extend(&body);
            }
        }
        (wire, body, framing)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_cut_gives_the_same_answer((wire, body, framing) in message(), places in vec(any::<prop::sample::Index>(), 0..9)) {
        let after = if framing == 2 { After::End } else { After::Silence };
        let whole = answered(|| Script::new(cut(&wire, &places), after), "GET").unwrap();
        prop_assert_eq!(whole.status, 200);
        prop_assert!(whole.body == body);
        prop_assert_eq!(whole.broke, None);
        prop_assert_eq!(whole.is_ready, framing != 2);
        prop_assert_eq!(whole.trailers.len(), usize::from(framing == 1));
    }

    #[test]
    fn what_is_missing_is_missed((wire, _, framing) in message(), places in vec(any::<prop::sample::Index>(), 1..4)) {
        prop_assume!(framing != 2);
        let end = places[0].index(wire.len());
        match answered(|| Script::new(cut(&wire[..end], &places[1..]), After::End), "GET") {
            Ok(whole) => prop_assert!(whole.broke.is_some() && !whole.is_ready),
            Err(why) => prop_assert_eq!(why, "Closed"),
        }
    }

    #[test]
    fn a_changed_byte_never_makes_the_connection_serve_on_with_bytes_left(
        (mut wire, _, framing) in message(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
        places in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        prop_assume!(framing != 2);
        let place = place.index(wire.len());
        wire[place] = byte;
        let in_one = answered(|| Script::new([&wire], After::End), "GET");
        let in_pieces =
            answered(|| Script::new(cut(&wire, &places), After::End), "GET");
        match (&in_one, &in_pieces) {
            (Ok(one), Ok(other)) => prop_assert_eq!((one.status, &one.body, &one.broke), (other.status, &other.body, &other.broke)),
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            _ => prop_assert!(false, "{:?} but {:?} in pieces", in_one, in_pieces),
        }
    }
}
