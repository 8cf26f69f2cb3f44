//! Requests of one path, classified once and remembered: what tells them apart all the same.

use super::{Trace, config, line, verdicts};
use tollgate::engine::Nanos;

/// Which of these requests of the same account and moment a limit of one a day refuses that counts by `per`. The changes are to
/// a line for `GET /v1/payouts/po_1`.
fn refused(per: &str, changes: &[(&str, &str)]) -> Vec<bool> {
    let policy = format!(
        "[[endpoints]]\nmatch = 'GET /v1/payouts/{{id}}'\nname = 'payouts.retrieve'\n\
         [[limits]]\nname = 'one'\nstage = 'global'\nrate = '1/h'\nburst = 1\nper = [{per}]\n"
    );
    let lines = changes.iter().map(|(what, by)| {
        let line = line(Nanos::ZERO, 1.0, "acct_1", "GET /v1/payouts/po_1", 200, "");
        assert!(line.contains(what), "{what}");
        line.replacen(what, by, 1)
    });
    let trace = Trace::new(lines.collect::<String>());
    verdicts(&[(&trace, &config(&policy))]).iter().map(Option::is_some).collect()
}

#[test]
fn addresses_keys_and_values_count_also_where_a_path_comes_again() {
    let (same, none) = (("", ""), vec![false, false, true]);
    let address = ("192.0.2.1", "192.0.2.2");
    assert_eq!(refused("'ip'", &[same, address, same]), none);
    assert_eq!(refused("'account'", &[same, address]), [false, true]);
    let key = ("key_1", "key_2");
    assert_eq!(refused("'key'", &[same, key, same]), none);
    assert_eq!(refused("'account'", &[same, key]), [false, true]);
    let path = ("po_1", "po_2");
    assert_eq!(refused("'path.id'", &[same, path, same]), none);
    assert_eq!(refused("'endpoint'", &[same, path]), [false, true]);
    let connected = ("\"key_id\"", "\"connected_account\":\"acct_2\",\"key_id\"");
    assert_eq!(refused("'account', 'connected_account'", &[same, connected, same]), none);
    let account = ("acct_1", "acct_2");
    assert_eq!(refused("'account'", &[same, account, same]), none);
    let mode = ("\"live\"", "\"test\"");
    assert_eq!(refused("'account'", &[same, mode, same]), none);
}
