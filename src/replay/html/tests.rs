//! The page's words, scales and escapes; what a browser makes of it is `tests/clients/test_report.py`.

use super::embedded;
use super::scale::{Counts, brief, moments};
use super::words::{Count, Name, Safe, cut, percent, span};

#[test]
fn nothing_becomes_markup() {
    let hostile = "</script><b a='1' c=\"2\">&\u{0}\u{1b}\u{202e}\u{2028}";
    let safe = Safe(hostile).to_string();
    assert_eq!(safe, "&lt;/script&gt;&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
    let json = serde_json::to_string(hostile).unwrap();
    let data = embedded(&json);
    assert!(!data.contains(['<', '>', '&', '\u{2028}']), "{data}");
    assert_eq!(serde_json::from_str::<String>(&data).unwrap(), hostile, "it is the same JSON");
}

#[test]
fn long_names_are_cut_in_their_middle() {
    assert_eq!(cut("short", 5), "short");
    assert_eq!(cut("0123456789", 7), "0123…89");
    assert_eq!(cut("äöüäöüäöüä", 10), "äöüäöüäöüä", "letters count, not bytes");
    assert!(Name(&"x".repeat(1_000_000)).to_string().len() < 600);
}

#[test]
fn numbers_in_few_letters() {
    let counts = [0, 999, 1_000, 1_234_567].map(|count| Count(count).to_string());
    assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    let briefs = [0, 950, 1_000, 1_500, 2_000_000, 12_500_000].map(brief);
    assert_eq!(briefs, ["0", "950", "1k", "1.5k", "2M", "12.5M"]);
    let shares =
        [(0, 5), (5, 5), (1, 1_000_000), (1, 3), (999_999, 1_000_000)].map(|(part, whole)| percent(part, whole));
    assert_eq!(shares, ["0 %", "100 %", "below 0.001 %", "33.3 %", "99.9 %"]);
    assert_eq!(
        [1, 10, 60, 900, 7_200, 86_400, 604_800].map(span).join(", "),
        "1 s, 10 s, 1 min, 15 min, 2 h, 1 day, 1 week"
    );
}

#[test]
fn a_scale_has_room_for_all_and_few_lines() {
    for most in (0..5_000).chain([u64::from(u32::MAX), u64::MAX / 16]) {
        let scale = Counts::up_to(most);
        let lines: Vec<u64> = scale.lines().collect();
        assert!(scale.top >= most && (1..=5).contains(&lines.len()), "{most}: {lines:?}");
        assert_eq!(lines.last(), Some(&scale.top));
    }
}

#[test]
fn moments_are_round_few_and_in_order() {
    let from = "2026-11-22T23:47:13Z".parse().unwrap();
    for seconds in (1..4_000).chain([86_400, 1_000_000, 400_000_000]) {
        let marks = moments(from, seconds);
        assert!(marks.len() <= 8 && marks.is_sorted_by(|one, other| one.at < other.at), "{seconds}");
        assert!(marks.iter().all(|mark| (0.0..=1.0).contains(&mark.at)), "{seconds}");
    }
    let words: Vec<String> = moments(from, 2_400)
        .into_iter()
        .map(|mark| format!("{} {}", mark.text, mark.day.unwrap_or_default()))
        .collect();
    assert_eq!(words, ["23:50 22 Nov", "00:00 23 Nov", "00:10 23 Nov", "00:20 23 Nov"]);
}
