//! The language of policies: blocks of a path and what may be done there, and comments.

use std::collections::BTreeSet;

/// The longest line of a comment, in characters.
const WIDTH: usize = 120;

/// A `path` of a policy.
#[derive(Default)]
pub(super) struct Block {
    /// Why it is there, a comment each.
    pub(super) says: BTreeSet<String>,
    pub(super) capabilities: BTreeSet<&'static str>,
    /// Further lines, each with its end.
    pub(super) keys: String,
}

impl Block {
    pub(super) fn add(&mut self, capability: &'static str, says: String) {
        self.capabilities.insert(capability);
        self.says.insert(says);
    }

    pub(super) fn text(&self, path: &str) -> String {
        let says: String = self.says.iter().map(|says| comment(says)).collect();
        format!("{says}path {} {{\n  capabilities = [{}]\n{}}}\n", quoted(path), list(&self.capabilities), self.keys)
    }
}

/// A block in one line, as a comment: for those who need it.
pub(super) fn in_reserve(path: &str, capability: &str) -> String {
    format!("# path {} {{ capabilities = [{}] }}\n", quoted(path), quoted(capability))
}

/// A comment in lines that can be read.
pub(super) fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count().saturating_add(word.chars().count()) >= WIDTH {
            lines.push_str(&std::mem::replace(&mut line, String::from("#")));
            lines.push('\n');
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

/// A text: nothing in it ends it, or stands for something else.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\u0024"))
}

fn list(words: &BTreeSet<&str>) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_ends_its_quotes_and_no_comment_its_line() {
        let mut block = Block::default();
        block.add("read", "a\npath \"x\" { capabilities = [\"sudo\"] }".to_owned());
        assert_eq!(
            block.text("m/data/a\"b${c}"),
            "# a path \"x\" { capabilities = [\"sudo\"] }\npath \"m/data/a\\\"b\\u0024{c}\" {\n  capabilities = [\"read\"]\n}\n"
        );
        let long = comment(&"connection, ".repeat(30));
        assert!(long.lines().count() == 4 && long.lines().all(|line| line.starts_with("# connection,") && line.len() <= WIDTH), "{long}");
    }
}
