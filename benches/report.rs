//! What was measured, as Markdown: a table a race, and at the end what was to be reached.

use std::fmt::Write;

use crate::race::{Better, Spread, Standing};

/// A goal, as a ratio.
#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Tables and goals so far. Each is printed when it is known: a run takes its time.
#[derive(Default)]
pub struct Report {
    text: String,
    goals: Vec<String>,
}

impl Report {
    /// A race: the median of each contestant, and its ratio to the first one.
    pub fn standing(&mut self, standing: &Standing) {
        let first = standing.entries.first().expect("a contestant").name;
        let direction = if standing.better == Better::More { "more" } else { "less" };
        let with_cpu = standing.entries.iter().any(|entry| !entry.cpu.is_empty());
        let mut table = format!("\n### {}\n\n| {direction} is better | {} | × {first} |", standing.title, standing.unit);
        table += &if with_cpu { format!(" CPU µs per {} |\n|---|--:|--:|--:|\n", standing.operation) } else { "\n|---|--:|--:|\n".into() };
        for entry in &standing.entries {
            let (median, ratio) = (Spread::of(entry.values.iter().copied()).median, standing.ratio(entry.name, first));
            write!(table, "| {} | {} | {} |", entry.name, number(median), spread(ratio)).unwrap();
            if with_cpu {
                let cpu = (!entry.cpu.is_empty()).then(|| number(Spread::of(entry.cpu.iter().copied()).median));
                write!(table, " {} |", cpu.unwrap_or_default()).unwrap();
            }
            table.push('\n');
        }
        self.section(&table);
    }

    /// Anything else, with its own headline.
    pub fn section(&mut self, text: &str) {
        println!("{text}");
        self.text += text;
    }

    /// What was to be reached; it is when the quartiles reach it.
    pub fn goal(&mut self, what: &str, bound: Bound, reached: Spread) {
        let (wanted, met) = match bound {
            Bound::AtLeast(least) => (format!("≥ {least}"), reached.high >= least),
            Bound::AtMost(most) => (format!("≤ {most}"), reached.low <= most),
        };
        let met = if met { "met" } else { "**missed**" };
        let line = format!("| {what} | {wanted} | {} | {met} |", spread(reached));
        println!("\n{line}");
        self.goals.push(line);
    }

    /// All of it: the goals first.
    pub fn markdown(&self) -> String {
        if self.goals.is_empty() {
            return self.text.clone();
        }
        let goals: String = self.goals.iter().map(|goal| format!("{goal}\n")).collect();
        format!("\n### Goals\n\n| | goal | reached | |\n|---|--:|--:|---|\n{goals}{}", self.text)
    }
}

/// A median with its quartiles.
pub fn spread(Spread { low, median, high }: Spread) -> String {
    format!("{} ({} – {})", ratio(median), ratio(low), ratio(high))
}

fn ratio(value: f64) -> String {
    format!("{value:.3}")
}

/// Four digits are more than the machine can repeat.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
