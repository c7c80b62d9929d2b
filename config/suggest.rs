//! Names in the text of a problem: bounded and escaped, and the known word that someone may have meant.

/// A name in quotes, escaped, at most 64 characters of it.
pub(crate) fn quoted(name: &str) -> String {
    match name.char_indices().nth(64) {
        Some((end, _)) => format!("\"{}…\"", name.get(..end).unwrap_or_default().escape_debug()),
        None => format!("\"{}\"", name.escape_debug()),
    }
}

/// A key as a step of a path: as it is if it is a plain word, else in quotes.
pub(crate) fn segment(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-' | '*');
    if !key.is_empty() && key.len() <= 128 && key.chars().all(plain) { key.to_owned() } else { quoted(key) }
}

/// `; did you mean "address"?`, or nothing where no known word is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // A longer text is no misspelt word, and the distance costs the product of both lengths.
    if word.len() > 64 {
        return String::new();
    }
    let limit = match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    let near = |candidate: &&str| candidate.len().abs_diff(word.len()) <= limit;
    let nearest = known.into_iter().filter(near).map(|candidate| (distance(word, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= limit => format!("; did you mean {}?", quoted(candidate)),
        _ => String::new(),
    }
}

/// Edits from one word to the other, of which swapping two neighbours is one (optimal string alignment). Case does not count, nor does
/// `-` for `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |word: &str| word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
    let (mut above, mut row): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, to) in b.iter().enumerate() {
            let edited = at(&row, j).saturating_add(usize::from(from != to));
            let longer = at(&row, j.saturating_add(1)).min(at(&next, j)).saturating_add(1);
            let before = (i.checked_sub(1).and_then(|i| a.get(i)), j.checked_sub(1).and_then(|j| b.get(j)));
            let swapped = before == (Some(to), Some(from));
            let swap = if swapped { at(&above, j.saturating_sub(1)).saturating_add(1) } else { usize::MAX };
            next.push(edited.min(longer).min(swap));
        }
        above = std::mem::replace(&mut row, next);
    }
    at(&row, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["address", "accounts", "username"];
        assert_eq!(did_you_mean("adress", known), "; did you mean \"address\"?");
        assert_eq!(did_you_mean("User-Name", ["user_name"]), "; did you mean \"user_name\"?");
        assert_eq!(did_you_mean("colour", known), "");
        assert_eq!(did_you_mean("ab", ["abc"]), "");
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), known), "");
        assert_eq!(did_you_mean("x", []), "");
    }

    #[test]
    fn the_distance_is_the_number_of_edits() {
        for (a, b, edits) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("same", "same", 0),
            ("ab", "ba", 1),
            ("crop", "corp", 1),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn names_are_escaped_and_bounded() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert!(quoted(&"ä".repeat(1000)).chars().count() < 70);
        assert_eq!(segment("pg-1.internal"), "pg-1.internal");
        assert_eq!(segment("a b"), "\"a b\"");
    }
}
