//! `Forwarded` (RFC 7239): who asked, by which name and protocol, hop by hop.

use super::exchange::Exchange;
use http::{HeaderMap, HeaderValue, header};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The whole field for a request whose head still is as it came: the chain that a trusted proxy (`is_believed`) wrote, with
/// this hop after it. Where the proxy wrote `X-Forwarded-For` only, that becomes the chain (§7.4). Nobody else's is believed.
pub(super) fn value(headers: &HeaderMap, exchange: &Exchange, is_believed: bool) -> Option<HeaderValue> {
    let mut chain = String::new();
    if is_believed {
        lines(headers, "forwarded").for_each(|line| append(&mut chain, line.trim()));
        if chain.is_empty() {
            for item in lines(headers, "x-forwarded-for").flat_map(|line| line.split(',')) {
                append(&mut chain, &format!("for={}", node(item.trim())));
            }
        }
    }
    let mut hop = format!("for={}", node_of(exchange.peer.address));
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        // Writing to a string does not fail.
        let _ = write!(hop, ";host={}", quoted_if_needed(host));
    }
    hop.push_str(if exchange.peer.secure { ";proto=https" } else { ";proto=http" });
    append(&mut chain, &hop);
    HeaderValue::try_from(chain).ok()
}

fn lines<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).filter(|line| !line.trim().is_empty())
}

fn append(chain: &mut String, element: &str) {
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(element);
}

/// An item of `X-Forwarded-For` as a node.
fn node(item: &str) -> String {
    let address = item.parse().or_else(|_| item.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.map_or_else(|_| "unknown".to_owned(), node_of)
}

fn node_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        // Colons and brackets are not for a token.
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

fn quoted_if_needed(text: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_hosts() {
        assert_eq!(node("192.0.2.1"), "192.0.2.1");
        assert_eq!(node("192.0.2.1:80"), "192.0.2.1");
        assert_eq!(node("2001:db8::1"), "\"[2001:db8::1]\"");
        assert_eq!(node("[2001:db8::1]:80"), "\"[2001:db8::1]\"");
        assert_eq!(node("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(node("evil;proto=https"), "unknown");
        assert_eq!(quoted_if_needed("api.test"), "api.test");
        assert_eq!(quoted_if_needed("api.test:80"), "\"api.test:80\"");
        assert_eq!(quoted_if_needed("a\"b\\,"), "\"a\\\"b\\\\,\"");
    }
}
