//! A trace as the gateway writes it: 5,000 requests a second, written when they end, a twentieth of them by fifty accounts.

use std::fs::File;
use std::io::{BufWriter, Error, Result, Write};
use std::path::Path;
use std::time::Duration;

const ACCOUNTS: u64 = 100_000;

pub(crate) fn write(path: &Path, requests: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let start = jiff::Timestamp::from_second(1_795_341_600).map_err(Error::other)?;
    let mut state = 1_u64;
    for number in 0..requests {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let account = if random.is_multiple_of(20) { random % 50 } else { random * 7_919 % ACCOUNTS };
        let took_us = 20_000 + random % 200_000;
        let at = start + Duration::from_micros(number * 200 + 300_000 - took_us);
        let (endpoint, method, path) = match random % 3 {
            0 => ("charges.list", "GET", "/v1/charges".to_owned()),
            1 => ("charges.create", "POST", "/v1/charges".to_owned()),
            _ => ("payment_intents.confirm", "POST", format!("/v1/payment_intents/pi_{random:024x}/confirm")),
        };
        let access = if method == "GET" { "read" } else { "write" };
        writeln!(
            file,
            "{{\"ts\":\"{at:.9}\",\"duration_ms\":{}.{:03},\"request_id\":\"req_{number:016x}\",\"client\":\"192.0.2.1\",\
             \"account\":\"acct_{account:016x}\",\"key_id\":\"key_{account:016x}\",\"mode\":\"live\",\"access\":\"{access}\",\
             \"route\":\"default\",\"endpoint\":\"{endpoint}\",\"method\":\"{method}\",\"path\":\"{path}\",\"status\":200}}",
            took_us / 1_000,
            took_us % 1_000,
        )?;
    }
    file.into_inner()?.sync_all()
}
