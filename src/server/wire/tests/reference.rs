//! Heads read once more, one byte after the other and one rule after the other, as plainly as can be: the scanner, which looks at eight
//! bytes at a time and takes what is usual first, must say the same of all heads.

use super::properties::{good_request, scraps};
use super::*;
use crate::server::wire::field::Lines;
use crate::server::wire::places::Places;
use proptest::prelude::*;
use std::ops::Range;

/// What there is to say of a head: how long it is, its method, its target, and the names and values of its fields.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    length: usize,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

/// The line from `start` on without its CR LF, and where the next one begins.
fn line(bytes: &[u8], start: usize, max: usize, fault: WireFault) -> Result<Option<(Range<usize>, usize)>, WireFault> {
    for place in start..bytes.len() {
        if bytes[place] == b'\n' {
            return match place {
                place if place >= max => Err(fault),
                place if place == start || bytes[place - 1] != b'\r' => Err(WireFault::BareLineFeed),
                place => Ok(Some((start..place - 1, place + 1))),
            };
        }
    }
    if bytes.len() > max { Err(fault) } else { Ok(None) }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn request_line(bytes: &[u8], line: Range<usize>, limits: &WireLimits, read: &mut Read) -> Result<(), WireFault> {
    let blanks: Vec<usize> = line.clone().filter(|&place| bytes[place] == b' ').collect();
    let [first, .., last] = blanks[..] else { return Err(WireFault::RequestLine) };
    (read.method, read.target) = (line.start..first, first + 1..last);
    let (method, target) = (&bytes[read.method.clone()], &bytes[read.target.clone()]);
    match &bytes[last + 1..line.end] {
        _ if !is_token(method) => return Err(WireFault::MethodByte),
        _ if method.len() > 32 => return Err(WireFault::MethodTooLong),
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(WireFault::Version),
        _ => return Err(WireFault::RequestLine),
    }
    match target {
        _ if [&b"CONNECT"[..], b"TRACE"].contains(&method) => Err(WireFault::MethodRefused),
        _ if target.len() > limits.max_target_bytes => Err(WireFault::TargetTooLong),
        _ if target.contains(&b'#') => Err(WireFault::TargetFragment),
        _ => target_bytes(target),
    }
}

fn target_bytes(target: &[u8]) -> Result<(), WireFault> {
    let query = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    for (place, byte) in target.iter().enumerate() {
        let is_good = match byte {
            0..=b' ' | 0x7f | b'<' | b'>' => false,
            b'`' | 0x80.. => place > query,
            b'"' => place < query,
            _ => true,
        };
        if !is_good {
            return Err(WireFault::TargetByte);
        }
    }
    std::str::from_utf8(target).map(|_| ()).map_err(|_| WireFault::TargetByte)
}

fn field(bytes: &[u8], line: Range<usize>, read: &mut Read) -> Result<(), WireFault> {
    if b" \t".contains(&bytes[line.start]) {
        return Err(WireFault::Folded);
    }
    let colon = line.clone().find(|place| bytes[*place] == b':').ok_or(WireFault::HeaderName)?;
    if !is_token(&bytes[line.start..colon]) {
        return Err(WireFault::HeaderName);
    }
    let (mut start, mut end) = (colon + 1, line.end);
    while start < end && b" \t".contains(&bytes[start]) {
        start += 1;
    }
    while start < end && b" \t".contains(&bytes[end - 1]) {
        end -= 1;
    }
    if bytes[start..end].iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(WireFault::HeaderValue);
    }
    read.fields.push((line.start..colon, start..end));
    Ok(())
}

/// What the syntax of a head says. What its fields mean is not looked at.
fn head(bytes: &[u8], limits: &WireLimits) -> Result<Option<Read>, WireFault> {
    let (mut read, mut start, mut leading) = (Read::default(), 0, 0);
    loop {
        match bytes.get(start) {
            Some(b'\n') => return Err(WireFault::BareLineFeed),
            Some(b'\r') | None => {}
            Some(byte) if is_token(&[*byte]) => {}
            Some(_) => return Err(WireFault::NotHttp),
        }
        let Some((here, next)) = line(bytes, start, limits.max_head_bytes, WireFault::TargetTooLong)? else {
            return Ok(None);
        };
        start = next;
        if !here.is_empty() {
            request_line(bytes, here, limits, &mut read)?;
            break;
        }
        leading += 1;
        if leading > 2 {
            return Err(WireFault::LeadingLines);
        }
    }
    loop {
        let Some((here, next)) = line(bytes, start, limits.max_head_bytes, WireFault::HeadTooLarge)? else {
            return Ok(None);
        };
        start = next;
        if here.is_empty() {
            read.length = start;
            return Ok(Some(read));
        }
        if read.fields.len() >= limits.max_headers {
            return Err(WireFault::TooManyHeaders);
        }
        field(bytes, here, &mut read)?;
    }
}

/// Faults by what the head means rather than by how it is spelled.
fn is_by_meaning(fault: WireFault) -> bool {
    !matches!(
        fault,
        WireFault::BareLineFeed
            | WireFault::NotHttp
            | WireFault::LeadingLines
            | WireFault::RequestLine
            | WireFault::MethodByte
            | WireFault::MethodTooLong
            | WireFault::Version
            | WireFault::MethodRefused
            | WireFault::TargetTooLong
            | WireFault::TargetFragment
            | WireFault::TargetByte
            | WireFault::Folded
            | WireFault::HeaderName
            | WireFault::HeaderValue
            | WireFault::HeadTooLarge
            | WireFault::TooManyHeaders
    )
}

/// Holds scanner and reference against each other, the bytes in one piece and cut in two at `cut`.
fn same(bytes: &[u8], cut: usize, limits: WireLimits) -> Result<(), TestCaseError> {
    let expected = head(bytes, &limits);
    let mut whole = Scanner::new(limits);
    let found = whole.step(bytes, &mut |_| {});
    let mut in_two = Scanner::new(limits);
    let early = in_two.step(&bytes[..cut.min(bytes.len())], &mut |_| {});
    if matches!(early, Ok(None)) {
        prop_assert_eq!(in_two.step(bytes, &mut |_| {}), found);
    } else {
        prop_assert_eq!(early, found);
    }
    match (found, expected) {
        (Ok(Some(step)), Ok(Some(read))) => {
            prop_assert_eq!(step.length, read.length);
            prop_assert_eq!(&noted(whole.places()), &(read.method, read.target, read.fields));
            prop_assert_eq!(noted(whole.places()), noted(in_two.places()));
        }
        (Ok(None), Ok(None)) => {}
        // Found before anything that is wrong with the spelling behind it, or after all of it.
        (Err(bad), _) if is_by_meaning(bad.fault) => {}
        (Err(bad), Err(fault)) => prop_assert_eq!(bad.fault, fault),
        (found, expected) => prop_assert!(false, "{:?} and {:?}", found, expected),
    }
    Ok(())
}

type Noted = (Range<usize>, Range<usize>, Vec<(Range<usize>, Range<usize>)>);

fn noted(places: &Places) -> Noted {
    let fields = places.fields().iter().map(|field| (field.name(), field.value()));
    (places.method.clone(), places.target.clone(), fields.collect())
}

/// Heads of known and unknown names, with blanks, tabs and obsolete letters in their values.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let names =
        ["Accept", "user-agent", "X-Stripe-Client-User-Agent", "X-Own", "x", "CONNECTION", "X_own", "Stripe-Version"];
    let field = (proptest::sample::select(names.to_vec()), "[ \t]{0,3}", "[!-~\u{e0}][ -~\t]{0,30}|", "[ \t]{0,2}");
    let field = field.prop_map(|(name, before, value, after)| format!("{name}:{before}{value}{after}\r\n"));
    ("(\r\n){0,3}", "(GET|POST) /[a-z?\"`%]{0,12}", proptest::collection::vec(field, 0..6)).prop_map(
        |(blank, line, fields)| {
            format!("{blank}{line} HTTP/1.1\r\n{}Host: a.example:80\r\n\r\n", fields.concat()).into_bytes()
        },
    )
}

const FEW: WireLimits = WireLimits {
    max_head_bytes: 150,
    max_headers: 6,
    max_target_bytes: 30,
    max_chunk_extension: 8,
    max_trailer_bytes: 40,
    head_timeout: std::time::Duration::from_secs(30),
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_scanner_says_what_the_reference_says(bytes in prop_oneof![scraps(), heads(), good_request()], cut in 0usize..200) {
        same(&bytes, cut, WireLimits::default())?;
        same(&bytes, cut, FEW)?;
    }

    #[test]
    fn one_changed_byte_is_judged_alike(head in heads(), place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0usize..200) {
        let mut bytes = head;
        let place = place.index(bytes.len());
        bytes[place] = byte;
        same(&bytes, cut, WireLimits::default())?;
        same(&bytes, cut, FEW)?;
        bytes.remove(place);
        same(&bytes, cut, WireLimits::default())?;
    }
}

/// Each byte at each place of a usual head: every place of a word of eight, in every part.
#[test]
fn every_byte_at_every_place_is_judged_alike() {
    let good =
        b"GET /v1/charges?limit=3 HTTP/1.1\r\nHost: 127.0.0.1:7821\r\nAuthorization: Bearer sk_1\r\nX-O: v\r\n\r\n";
    for place in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut bytes = good.to_vec();
            bytes[place] = byte;
            same(&bytes, place, WireLimits::default()).unwrap();
            same(&bytes, place + 1, WireLimits::default()).unwrap();
        }
    }
}

#[test]
fn more_fields_than_are_noted_are_behind_the_rest() {
    for count in [0, 1, 14, 15, 16, 17, 40] {
        let fields: String = (0..count).map(|nth| format!("X-{nth}: {nth}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let mut scanner = Scanner::new(WireLimits::default());
        assert_eq!(scanner.step(&bytes, &mut |_| {}).unwrap().unwrap().length, bytes.len());
        let places = scanner.places();
        assert_eq!(places.fields().len(), (count + 1).min(16));
        assert_eq!(places.rest() == bytes.len() - 2, count < 16, "{count}");
    }
    // Of a head that two bytes cannot count, what lies too far behind is not noted.
    let long = "a".repeat(65_000);
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\nX: {long}\r\nX: b\r\n\r\n").into_bytes();
    let mut scanner = Scanner::new(WireLimits { max_head_bytes: 1 << 20, ..WireLimits::default() });
    assert!(scanner.step(&bytes, &mut |_| {}).unwrap().is_some());
    assert_eq!(scanner.places().fields().len(), 2);
    assert!(bytes[scanner.places().rest()..].starts_with(b"X: aa"));
}

/// The bounds are met before a line is judged, odd or not.
#[test]
fn the_bounds_come_before_what_a_line_says() {
    let limits = |max_head_bytes, max_headers| WireLimits { max_head_bytes, max_headers, ..WireLimits::default() };
    let bytes = b"GET / HTTP/1.1\r\nHost: [\r\n\r\n";
    let found = |limits| Scanner::new(limits).step(bytes, &mut |_| {}).unwrap_err().fault;
    assert_eq!(found(limits(24, 100)), WireFault::HeadTooLarge);
    assert_eq!(found(limits(25, 100)), WireFault::HostInvalid);
    let odd = b"GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n";
    assert_eq!(Scanner::new(limits(1 << 15, 1)).step(odd, &mut |_| {}).unwrap_err().fault, WireFault::TooManyHeaders);
}

#[test]
fn the_places_of_a_second_head_are_its_own() {
    let first = b"POST /first HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nhi";
    let second = b"\r\nGET /2 HTTP/1.0\r\nHost: bb\r\n\r\n";
    let mut scanner = Scanner::new(WireLimits::default());
    let head = first.len() - 2;
    assert_eq!(scanner.step(first, &mut |_| {}).unwrap().unwrap().length, head);
    assert_eq!(scanner.places().fields().len(), 4);
    scanner.step(&first[head..], &mut |_| {}).unwrap().unwrap();
    assert!(scanner.step(&second[..9], &mut |_| {}).unwrap().is_none());
    scanner.step(second, &mut |_| {}).unwrap().unwrap();
    let places = scanner.places();
    assert!(!places.is_http11);
    assert_eq!((&second[places.method.clone()], &second[places.target.clone()]), (&b"GET"[..], &b"/2"[..]));
    let fields: Vec<_> = places.fields().iter().map(|field| (&second[field.name()], &second[field.value()])).collect();
    assert_eq!(fields, [(&b"Host"[..], &b"bb"[..])]);
}

/// Whether a byte is marked is said twice, by the table and for vector code.
#[test]
fn long_targets_are_judged_as_short_ones() {
    for byte in 0..=u8::MAX {
        for (start, place) in [("/", 1), ("/", 31), ("/", 40), ("/?", 2), ("/?", 33), ("/?", 95)] {
            let mut long = [start.as_bytes(), &[b'a'; 96]].concat();
            long.insert(place, byte);
            let mut short = start.as_bytes().to_vec();
            short.push(byte);
            let judged = |target: &[u8]| {
                let bytes = [&b"GET "[..], target, &b" HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat();
                Scanner::new(WireLimits::default())
                    .step(&bytes, &mut |_| {})
                    .map(|step| step.is_some())
                    .map_err(|bad| bad.fault)
            };
            assert_eq!(judged(&long), judged(&short), "{byte} at {place} of {start}");
        }
    }
}

/// A long line that comes byte by byte would be searched from its start with every byte otherwise.
#[test]
fn a_line_that_came_in_pieces_is_not_searched_from_its_start() {
    let mut lines = Lines::default();
    let bytes = b"X-A: b\r\n";
    assert!(lines.next_plain(&bytes[..7], 99).is_none() && matches!(lines.next(&bytes[..7], 99), Ok(None)));
    assert!(lines.next_plain(bytes, 99).is_none());
    assert!(matches!(lines.next(bytes, 99), Ok(Some(b"X-A: b"))));
    assert!(Lines::default().next_plain(bytes, 99).is_some());
}
