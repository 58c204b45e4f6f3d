//! "Did you mean": the nearest word of a finite list.

/// The word of `words` nearest to `typed`, when it is near enough to be a slip.
///
/// Distance is optimal string alignment (Damerau–Levenshtein without overlapping swaps); a slip is
/// at most a third of the length, and at least one edit.
pub fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| (distance(typed, word), word))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, word)| word)
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut d = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let cost = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (d[(i - 1) * width + j] + 1)
                    .min(d[i * width + j - 1] + 1)
                    .min(d[(i - 1) * width + j - 1] + cost);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(d[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let words = ["primary", "replica", "offline", "delayed"];
        assert_eq!(nearest("replicaa", words), Some("replica"));
        assert_eq!(nearest("pirmary", words), Some("primary"));
        assert_eq!(nearest("banana", words), None);
    }
}
