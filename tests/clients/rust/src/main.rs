//! Sends one POST through async-stripe on behalf of the Python tests.
//!
//! Reads one call as JSON from standard input, `{"port", "key", "attempts", "path", "form", "type"}`, and prints the outcome as
//! one line: `{"value": {"id"}}` or `{"error": {"status", "code", "kind", "message"}}`. Which call is made is data, so the
//! crates of the single resources are not needed; encoding, strategy, connection and errors are the library's. With a `type`
//! the answer is read as the library's strict type of that name, and `id` is null.

use miniserde::json as mini;
use serde_json::{Value, json};
use std::error::Error;
use std::io::Read;
use stripe::{Client, ClientBuilder, RequestStrategy, StripeError};
use stripe_client_core::{RequestBuilder, StripeMethod};
use stripe_shared as shared;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let call: Value = serde_json::from_str(&text)?;
    let outcome = match send(&call).await {
        Ok(id) => json!({ "value": { "id": id } }),
        Err(error) => json!({ "error": describe(&error) }),
    };
    println!("{outcome}");
    Ok(())
}

/// The client as a program would set it up: a total number of attempts, all with one key of its own making.
fn client(call: &Value) -> Result<Client, StripeError> {
    let port = call["port"].as_u64().unwrap_or_default();
    let attempts = u32::try_from(call["attempts"].as_u64().unwrap_or(1)).unwrap_or(1);
    let strategy = match attempts {
        1 => RequestStrategy::Once,
        _ => RequestStrategy::Retry(attempts),
    };
    ClientBuilder::new(call["key"].as_str().unwrap_or_default())
        .url(format!("http://127.0.0.1:{port}/"))
        .request_strategy(strategy)
        .build()
}

async fn send(call: &Value) -> Result<Option<String>, StripeError> {
    macro_rules! send_typed {
        ($($kind:ident),*) => {
            match call["type"].as_str() {
                None => Ok(id_of(&answer::<mini::Value>(call).await?)),
                $(Some(stringify!($kind)) => answer::<shared::$kind>(call).await.map(|_| None),)*
                Some(other) => Err(StripeError::ClientError(format!("no type {other}"))),
            }
        };
    }
    send_typed!(
        Account,
        BalanceTransaction,
        Charge,
        Coupon,
        Customer,
        Event,
        Invoice,
        PaymentIntent,
        PaymentMethod,
        Payout,
        Price,
        Product,
        Refund,
        SetupIntent,
        Token,
        Topup,
        Transfer
    )
}

async fn answer<T: miniserde::Deserialize + 'static>(call: &Value) -> Result<T, StripeError> {
    let path = call["path"].as_str().unwrap_or_default();
    let request = RequestBuilder::new(StripeMethod::Post, path).form(&call["form"]);
    request.customize::<T>().send(&client(call)?).await
}

fn id_of(value: &mini::Value) -> Option<String> {
    match value {
        mini::Value::Object(fields) => match fields.get("id") {
            Some(mini::Value::String(id)) => Some(id.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// What the library lets a program know; the answer's headers are not among it.
fn describe(error: &StripeError) -> Value {
    match error {
        StripeError::Stripe(error, status) => {
            let code = error.code.as_ref().map(ToString::to_string);
            json!({ "status": status, "code": code, "kind": "Stripe", "message": error.message })
        }
        other => json!({ "status": null, "code": null, "kind": "Client", "message": other.to_string() }),
    }
}
