//! What keyboard-interactive asks (RFC 4256 section 3.2).

use std::fmt;

/// Prompts of one request, ours and an upstream's.
pub const PROMPTS_MAX: usize = 8;
/// Bytes of each text of ours. The longest request still fits into a message.
const TEXT_MAX: usize = 2048;

/// Is what the user types shown?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// On the screen, as for a name.
    Shown,
    /// Not at all, as for a password.
    Hidden,
}

/// One thing to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub(super) text: String,
    pub(super) echo: Echo,
}

/// All that is asked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    pub(super) instruction: String,
    pub(super) prompts: Vec<Prompt>,
}

/// A question of ours that no client would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Prompt {
    /// For something that nobody else may read.
    #[must_use]
    pub fn hidden(text: &str) -> Self {
        Self { text: text.to_owned(), echo: Echo::Hidden }
    }

    /// For something that may be seen.
    #[must_use]
    pub fn shown(text: &str) -> Self {
        Self { text: text.to_owned(), echo: Echo::Shown }
    }
}

impl Prompts {
    /// The password. For every user alike, whoever it is and whether there is one.
    #[must_use]
    pub fn password() -> Self {
        Self { instruction: String::new(), prompts: vec![Prompt::hidden("Password: ")] }
    }

    /// What we ask, with an explanation before it. Without prompts it only explains.
    ///
    /// # Errors
    /// More than `PROMPTS_MAX` prompts, or a text of more than 2,048 bytes.
    pub fn new(instruction: &str, prompts: Vec<Prompt>) -> Result<Self, TooLong> {
        let short = |text: &str| text.len() <= TEXT_MAX;
        if prompts.len() > PROMPTS_MAX || !short(instruction) || !prompts.iter().all(|prompt| short(&prompt.text)) {
            return Err(TooLong);
        }
        Ok(Self { instruction: instruction.to_owned(), prompts })
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more is asked than a message holds")
    }
}

impl std::error::Error for TooLong {}
