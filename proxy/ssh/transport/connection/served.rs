//! Channels that end with us: what `ssh -J` opens (rule 29).
