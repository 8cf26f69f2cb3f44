//! A reader of HTTP/1 requests that knows nothing but RFC 9112 and takes nothing that it does not allow: the second opinion on
//! what the wire guard lets through. It has the whole stream at once, so it has no states to get wrong.

/// One request, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// How a stream ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Between two requests.
    Clean,
    /// Within a head.
    InHead,
    /// Within a body, of the last request.
    InBody,
    /// At something that no request may have.
    Bad(&'static str),
}

/// Reads a stream: the requests whose heads are whole, and how it ends.
pub(super) fn read(stream: &[u8]) -> (Vec<Request>, End) {
    let mut rest = stream;
    let mut requests = Vec::new();
    loop {
        // Blank lines before a request are forgiven (§2.2).
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        if rest.is_empty() || rest == b"\r" {
            return (requests, End::Clean);
        }
        let Some((head, after)) = cut(rest, b"\r\n\r\n") else { return (requests, End::InHead) };
        rest = after;
        let mut request = match read_head(head) {
            Ok(request) => request,
            Err(why) => return (requests, End::Bad(why)),
        };
        let outcome = match framing(&request) {
            Ok(Framing::Length(length)) if (rest.len() as u64) < length => {
                request.body = rest.to_vec();
                Err(End::InBody)
            }
            Ok(Framing::Length(length)) => {
                let (body, after) = rest.split_at(length as usize);
                request.body = body.to_vec();
                Ok(after)
            }
            Ok(Framing::Chunked) => read_chunks(rest, &mut request.body),
            Err(why) => return (requests, End::Bad(why)),
        };
        requests.push(request);
        match outcome {
            Ok(after) => rest = after,
            Err(end) => return (requests, end),
        }
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

fn read_head(head: &[u8]) -> Result<Request, &'static str> {
    let text: Vec<&[u8]> = split_lines(head)?;
    let (line, fields) = text.split_first().ok_or("no request line")?;
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err("not three words") };
    if !is_token(method) || target.is_empty() || !target.iter().all(|&byte| byte > b' ' && byte != 0x7f) {
        return Err("method or target");
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("version");
    }
    let fields: Vec<(Vec<u8>, Vec<u8>)> = fields.iter().map(|line| read_field(line)).collect::<Result<_, _>>()?;
    let hosts = fields.iter().filter(|(name, _)| name == b"host").count();
    if hosts > 1 || (hosts == 0 && version == b"HTTP/1.1") {
        return Err("host");
    }
    if version == b"HTTP/1.0" && fields.iter().any(|(name, _)| name == b"transfer-encoding") {
        return Err("Transfer-Encoding in HTTP/1.0");
    }
    Ok(Request { method: method.to_vec(), target: target.to_vec(), fields, body: Vec::new() })
}

/// Lines at CR LF; a CR or an LF anywhere else is bad.
fn split_lines(mut head: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = Vec::new();
    while let Some((line, after)) = cut(head, b"\r\n") {
        lines.push(line);
        head = after;
    }
    lines.push(head);
    if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
        return Err("a bare CR or LF");
    }
    Ok(lines)
}

fn read_field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let (name, value) = cut(line, b":").ok_or("no colon")?;
    if !is_token(name) {
        return Err("a field's name");
    }
    let is_bad = |&byte: &u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    if value.iter().any(is_bad) {
        return Err("a field's value");
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    Ok((name.to_ascii_lowercase(), value[start..end].to_vec()))
}

fn framing(request: &Request) -> Result<Framing, &'static str> {
    let all = |wanted: &[u8]| {
        let fitting = request.fields.iter().filter(|(name, _)| name == wanted);
        fitting.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    match (&all(b"content-length")[..], &all(b"transfer-encoding")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            length.map(Framing::Length).ok_or("a length beyond all")
        }
        _ => Err("the framing"),
    }
}

/// The chunks of a body, and what follows them.
fn read_chunks<'s>(mut rest: &'s [u8], body: &mut Vec<u8>) -> Result<&'s [u8], End> {
    loop {
        let Some((line, after)) = cut(rest, b"\r\n") else { return Err(End::InBody) };
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, extension) = line.split_at(digits);
        let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some(size) = size else { return Err(End::Bad("a chunk's size")) };
        let is_bad = |&byte: &u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
        if !(extension.is_empty() || extension.starts_with(b";")) || extension.iter().any(is_bad) {
            return Err(End::Bad("a chunk's extension"));
        }
        if size == 0 {
            return read_trailers(after);
        }
        // The data and its line end.
        if after.len() as u64 <= size.saturating_add(1) {
            body.extend_from_slice(after.get(..size as usize).unwrap_or(after));
            return Err(End::InBody);
        }
        let (data, after) = after.split_at(size as usize);
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or(End::Bad("a chunk's end"))?;
    }
}

fn read_trailers(mut rest: &[u8]) -> Result<&[u8], End> {
    loop {
        let Some((line, after)) = cut(rest, b"\r\n") else { return Err(End::InBody) };
        rest = after;
        if line.is_empty() {
            return Ok(rest);
        }
        read_field(line).map_err(End::Bad)?;
    }
}

fn is_token(word: &[u8]) -> bool {
    let is_mark = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// What stands before and after the first `mark`.
fn cut<'b>(bytes: &'b [u8], mark: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}
