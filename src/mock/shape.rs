//! What objects of the best known kinds have beside their id: the fields that Stripe always sends, so that clients with strict types can
//! read them. What a request said of a field goes before.

use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// By `object`: fields as JSON. Those that every object has are added elsewhere.
const SHAPES: [(&str, &str); 15] = [
    (
        "balance_transaction",
        r#"{"amount":2000,"available_on":1767225600,"balance_type":"payments","currency":"usd","fee":88,"fee_details":[],
            "net":1912,"reporting_category":"charge","status":"available","type":"charge"}"#,
    ),
    (
        "charge",
        r#"{"amount":2000,"amount_captured":2000,"amount_refunded":0,"billing_details":{"address":null,"email":null,
            "name":null,"phone":null,"tax_id":null},"captured":true,"currency":"usd","disputed":false,"paid":true,
            "refunded":false}"#,
    ),
    ("coupon", r#"{"duration":"once","percent_off":25,"times_redeemed":0,"valid":true}"#),
    ("event", r#"{"data":{"object":{}},"pending_webhooks":0,"type":"charge.succeeded"}"#),
    (
        "invoice",
        r#"{"amount_due":2000,"amount_overpaid":0,"amount_paid":0,"amount_remaining":2000,"amount_shipping":0,
            "attempt_count":0,"attempted":false,"automatic_tax":{"enabled":false,"liability":null,"status":null},
            "collection_method":"charge_automatically","currency":"usd","default_tax_rates":[],"discounts":[],
            "issuer":{"type":"self"},"lines":{"object":"list","data":[],"has_more":false,"url":"/v1/invoices/lines"},
            "payment_settings":{"default_mandate":null,"payment_method_options":null,"payment_method_types":null},
            "period_end":1767225600,"period_start":1767225600,"post_payment_credit_notes_amount":0,
            "pre_payment_credit_notes_amount":0,"starting_balance":0,"status_transitions":{"finalized_at":null,
            "marked_uncollectible_at":null,"paid_at":null,"voided_at":null},"subtotal":2000,"total":2000}"#,
    ),
    (
        "payment_intent",
        r#"{"amount":2000,"amount_capturable":0,"amount_received":0,"capture_method":"automatic",
            "confirmation_method":"automatic","currency":"usd","payment_method_types":["card"]}"#,
    ),
    (
        "payment_method",
        r#"{"billing_details":{"address":null,"email":null,"name":null,"phone":null,"tax_id":null},"type":"card"}"#,
    ),
    (
        "payout",
        r#"{"amount":2000,"arrival_date":1767225600,"automatic":false,"currency":"usd","method":"standard",
            "reconciliation_status":"not_applicable","source_type":"card","type":"bank_account"}"#,
    ),
    (
        "price",
        r#"{"active":true,"billing_scheme":"per_unit","currency":"usd","product":"prod_1Mock","type":"one_time",
            "unit_amount":2000}"#,
    ),
    (
        "product",
        r#"{"active":true,"images":[],"marketing_features":[],"name":"Product","type":"service","updated":1767225600}"#,
    ),
    ("refund", r#"{"amount":2000,"currency":"usd"}"#),
    ("setup_intent", r#"{"payment_method_types":["card"],"usage":"off_session"}"#),
    ("token", r#"{"type":"card","used":false}"#),
    ("topup", r#"{"amount":2000,"currency":"usd"}"#),
    (
        "transfer",
        r#"{"amount":2000,"amount_reversed":0,"currency":"usd","reversals":{"object":"list","data":[],"has_more":false,
            "url":"/v1/transfers/reversals"},"reversed":false}"#,
    ),
];

static FIELDS: LazyLock<HashMap<&str, Map<String, Value>>> = LazyLock::new(|| {
    // All of them are read by a test.
    SHAPES.into_iter().filter_map(|(object, fields)| Some((object, serde_json::from_str(fields).ok()?))).collect()
});

/// The fields of a kind of object; none where it is not known.
pub(super) fn of(object: &str) -> impl Iterator<Item = (&'static String, &'static Value)> {
    FIELDS.get(object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_json() {
        assert_eq!(FIELDS.len(), SHAPES.len());
        assert!(SHAPES.is_sorted_by_key(|(object, _)| *object));
        for (object, _) in SHAPES {
            assert!(of(object).count() > 0, "{object}");
            let common = ["id", "object", "created", "livemode", "metadata", "status"];
            let twice: Vec<_> = of(object).filter(|(name, _)| common.contains(&name.as_str())).collect();
            assert!(twice.is_empty() || object == "balance_transaction", "{object}: {twice:?}");
        }
    }
}
