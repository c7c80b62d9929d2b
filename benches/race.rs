//! One thing measured side by side: every contestant once a round, in turns, so that whatever else the machine does meanwhile happens to
//! all of them. Only ratios within a round mean anything.

use std::fs;

use crate::Scale;
use crate::report::Report;

/// What is better of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// What one contestant came to in one round.
pub struct Lap {
    /// In the unit of the race.
    pub value: f64,
    /// How much was done in it: CPU time is told per one of these. 0: nothing to tell.
    pub operations: f64,
}

/// One way from the client to the server.
pub struct Contestant<'a> {
    pub name: &'static str,
    /// The processes between the two, whose CPU time counts.
    pub between: Vec<u32>,
    pub lap: Box<dyn FnMut() -> Lap + 'a>,
}

impl<'a> Contestant<'a> {
    pub fn new(name: &'static str, between: &[u32], lap: impl FnMut() -> Lap + 'a) -> Self {
        Self { name, between: between.to_vec(), lap: Box::new(lap) }
    }
}

/// Contestants, and what they contend for. The first is what the others are compared with.
pub struct Race<'a> {
    pub title: String,
    /// Of the values.
    pub unit: &'static str,
    /// What one operation is called (`query`).
    pub operation: &'static str,
    pub better: Better,
    pub contestants: Vec<Contestant<'a>>,
}

/// All values of a race.
pub struct Standing {
    pub title: String,
    pub unit: &'static str,
    pub operation: &'static str,
    pub better: Better,
    pub entries: Vec<Entry>,
}

/// Those of one contestant, one a round.
pub struct Entry {
    pub name: &'static str,
    pub values: Vec<f64>,
    /// CPU time of what stands between, in microseconds an operation.
    pub cpu: Vec<f64>,
}

/// A median and the quartiles around it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Race<'_> {
    /// Runs it if it is wanted, and reports it; what it was to reach is judged unless it is only tried.
    pub fn contend(self, scale: &Scale, report: &mut Report, goals: impl FnOnce(&Standing, &mut Report)) {
        if !scale.wants(&self.title) {
            return;
        }
        let standing = self.run(scale.rounds);
        report.standing(&standing);
        if !scale.smoke {
            goals(&standing, report);
        }
    }

    /// Runs one round that does not count (caches fill, pools open) and `rounds` that do.
    pub fn run(mut self, rounds: usize) -> Standing {
        let mut entries: Vec<Entry> =
            self.contestants.iter().map(|one| Entry { name: one.name, values: Vec::new(), cpu: Vec::new() }).collect();
        for round in 0..=rounds {
            // There and back again: nobody runs always behind the same one.
            let last = self.contestants.len().saturating_sub(1);
            for place in 0..=last {
                let number = if round % 2 == 0 { place } else { last - place };
                let (contestant, entry) = (&mut self.contestants[number], &mut entries[number]);
                let before = cpu_seconds(&contestant.between);
                let lap = (contestant.lap)();
                let spent = cpu_seconds(&contestant.between) - before;
                assert!(lap.value.is_finite() && lap.value > 0.0, "{}: {} measured {}", self.title, contestant.name, lap.value);
                if round == 0 {
                    continue;
                }
                entry.values.push(lap.value);
                if !contestant.between.is_empty() && lap.operations > 0.0 {
                    entry.cpu.push(spent * 1e6 / lap.operations);
                }
            }
        }
        let Self { title, unit, operation, better, .. } = self;
        Standing { title, unit, operation, better, entries }
    }
}

impl Standing {
    /// The ratio of two contestants, round by round.
    pub fn ratio(&self, of: &str, to: &str) -> Spread {
        Spread::of(self.values(of).iter().zip(self.values(to)).map(|(of, to)| of / to))
    }

    /// What `of` adds to `base`, as a ratio to what `to` adds to it, round by round. Where `to` adds nothing, `of` had better not either.
    pub fn added(&self, of: &str, to: &str, base: &str) -> Spread {
        let rounds = self.values(of).iter().zip(self.values(to)).zip(self.values(base));
        Spread::of(rounds.map(|((of, to), base)| (of - base).max(0.0) / (to - base).max(f64::EPSILON)))
    }

    fn values(&self, name: &str) -> &[f64] {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        &entry.unwrap_or_else(|| panic!("{}: no contestant {name}", self.title)).values
    }
}

impl Spread {
    /// Of any number of values but none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { low: quantile(&values, 0.25), median: quantile(&values, 0.5), high: quantile(&values, 0.75) }
    }
}

/// Between the two values that are next to it, in the share of its distance to them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// User and system time of these processes, with that of their threads (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
pub fn cpu_seconds(processes: &[u32]) -> f64 {
    let ticks = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_else(|error| panic!("process {process}: {error}"));
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        [11, 12].iter().map(|field| fields[*field].parse::<f64>().unwrap()).sum::<f64>()
    };
    processes.iter().map(ticks).sum::<f64>() / 100.0
}
