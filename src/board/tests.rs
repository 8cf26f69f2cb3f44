use super::*;

#[test]
fn lines_are_taken_apart() {
    let (position, field) = line("12:ab:a:b").unwrap();
    assert_eq!((position.number, &*position.nonce, field), (12, "ab", "a:b"));
    assert!(["", "12", "12:ab", "x:ab:f", "-1:ab:f"].into_iter().all(|text| line(text).is_none()));
}

#[test]
fn a_boards_keys_share_a_slot_and_nothing_with_other_prefixes() {
    let board = Board::new("tollgate", "keys", 1);
    assert_eq!(board.entries, "{tollgate:board:keys}:entries");
    assert_eq!(board.log, "{tollgate:board:keys}:log");
}

#[test]
fn changes_are_told_apart_by_their_nonces() {
    assert_ne!(nonce(), nonce());
    let [a, b] = ["1:a:f", "1:b:f"].map(|text| line(text).unwrap().0);
    assert_ne!(a, b);
}
