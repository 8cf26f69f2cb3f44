//! `credentials` of routes and upstreams.

use super::super::error::Finding;
use super::super::model::{CredentialForm, Credentials, Replacement, SecretSource};
use super::super::raw::{Item, RawCredentials, RawCredentialsTable};
use super::super::values::Located;
use super::Context;
use super::heads::field_name;
use crate::fields::Change;
use http::HeaderName;
use http::header::AUTHORIZATION;

const EXPECTED: &str = r#""keep", "drop", { bearer_file = "token" }, { basic_file = "user" } or { header = "X-Api-Key", value_file = "key" }"#;

/// What is said here, if anything is.
pub(super) fn compile<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    raw: Option<&Located<RawCredentials>>,
) -> Option<Credentials> {
    let raw = raw?;
    Some(match &raw.value {
        RawCredentials::Word(word) if word == "keep" => Credentials::Keep,
        RawCredentials::Word(_) => Credentials::Drop,
        // A mistake refuses the whole file, so what stands in its place is never used.
        RawCredentials::Table(table) => {
            replacement(context, item, raw, table).map_or(Credentials::Drop, Credentials::Replace)
        }
    })
}

fn replacement<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    raw: &Located<RawCredentials>,
    table: &RawCredentialsTable,
) -> Option<Replacement> {
    use CredentialForm::{Basic, Bearer, Plain};
    let all = [
        (Bearer, false, &table.bearer_file),
        (Bearer, true, &table.bearer_env),
        (Basic, false, &table.basic_file),
        (Basic, true, &table.basic_env),
        (Plain, false, &table.value_file),
        (Plain, true, &table.value_env),
    ];
    let given: Vec<_> =
        all.into_iter().filter_map(|(form, in_env, field)| Some((form, in_env, field.as_ref()?))).collect();
    let &[(form, in_env, place)] = &given[..] else {
        if !item.damaged {
            let what = if given.is_empty() { "no credential" } else { "more than one credential" };
            context.tell(Finding::error(item.at(&raw.span), what).expected(EXPECTED));
        }
        return None;
    };
    if (form == Plain) != table.header.is_some() {
        let finding = Finding::error(item.at(&raw.span), "`header` and `value_file` or `value_env` belong together");
        context.tell(finding.expected(EXPECTED));
        return None;
    }
    let header = table.header.as_ref().map_or(Some(AUTHORIZATION), |written| header(context, item, written));
    let source = if in_env { variable(context, item, place)? } else { SecretSource::File(context.file(&place.value)) };
    Some(Replacement { header: header?, form, source })
}

fn header<T>(context: &mut Context<'_>, item: &Item<T>, written: &Located<String>) -> Option<HeaderName> {
    if written.value.eq_ignore_ascii_case(AUTHORIZATION.as_str()) {
        return Some(AUTHORIZATION);
    }
    field_name(context, item, written, Change::GiveRequest)
}

pub(super) fn variable<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    written: &Located<String>,
) -> Option<SecretSource> {
    let name = &*written.value;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fit =
        (1..=128).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !fit {
        // It may be a secret in the wrong place: it is not shown.
        let finding = Finding::error(item.at(&written.span), "not the name of an environment variable");
        context.tell(finding.expected(r#"letters, digits and underscores, such as "UPSTREAM_TOKEN""#));
        return None;
    }
    Some(SecretSource::Env(name.into()))
}
