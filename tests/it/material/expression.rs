//! Expressions of PromQL, as far as to tell which metrics, labels and label values they speak of.

/// A label that a selector asks for, and its value where that is written out.
type Label = (String, Option<String>);

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Each metric with the labels its selector asks for: name, and the values written out (none for a pattern).
    pub(super) selected: Vec<(String, Vec<Label>)>,
    /// Labels of `by (…)`, `on (…)` and the like.
    pub(super) grouped: Vec<String>,
}

/// Words before a parenthesis of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Reads an expression. Which of its words are metrics is told by their prefixes.
pub(super) fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut rest = expression;
    while let Some(start) = rest.find(|sign: char| sign.is_ascii_alphabetic() || sign == '_' || sign == '"') {
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = text.split_once('"').map_or("", |(_, rest)| rest);
            continue;
        }
        let end =
            rest.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_' && sign != ':').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if GROUPING.contains(&word) {
            let Some((labels, after)) = after.trim_start().strip_prefix('(').and_then(|list| list.split_once(')'))
            else {
                continue;
            };
            names
                .grouped
                .extend(labels.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
            rest = after;
        } else if ["tollgate_", "process_"].iter().any(|prefix| word.starts_with(prefix)) || word == "up" {
            let (labels, after) = selector(after);
            names.selected.push((word.to_owned(), labels));
            rest = after;
        }
    }
    names
}

/// The labels in the braces that follow a metric, and what follows them. Values here hold no brace but those of variables.
fn selector(text: &str) -> (Vec<Label>, &str) {
    let Some((labels, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return (Vec::new(), text);
    };
    let label = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, "~"));
        let is_text = !name.ends_with('!') && !value.starts_with('~') && !value.contains('$');
        let value = is_text.then(|| value.trim().trim_matches('"').to_owned());
        (name.trim().trim_end_matches('!').to_owned(), value)
    };
    (labels.split(',').filter(|part| !part.trim().is_empty()).map(label).collect(), rest)
}

#[test]
fn metrics_and_labels_are_found() {
    let found = names(
        r#"sum by (job, limit) (rate(tollgate_a_total{verdict="reject",status=~"50[0-4]", instance=~"$i"}[5m])) / on (job) group_left () up > 0.05
           unless "tollgate_no" or histogram_quantile(0.99, sum by(le)(rate(tollgate_b_bucket[5m]))) and process_c"#,
    );
    let of = |name: &str, labels: &[(&str, Option<&str>)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        (name.to_owned(), labels)
    };
    let a = [("verdict", Some("reject")), ("status", None), ("instance", None)];
    assert_eq!(
        found.selected,
        [of("tollgate_a_total", &a), of("up", &[]), of("tollgate_b_bucket", &[]), of("process_c", &[])]
    );
    assert_eq!(found.grouped, ["job", "limit", "job", "le"]);
}
