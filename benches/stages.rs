//! What the stages of logins took, as Keyward itself counts it (`keyward_stage_seconds` of its metrics).

use std::fmt::Write;

use crate::bed::{Keyward, eventually};
use crate::report::number;

/// Its words, in the order of a login.
const STAGES: [&str; 7] = ["open", "login", "authorise", "lease", "connect", "inject", "audit"];
/// These two run side by side: a login waits for the slower one only.
const BESIDE: [usize; 2] = [3, 4];

/// Seconds in each stage, and how many logins came through all of them.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    seconds: [f64; STAGES.len()],
    logins: f64,
}

impl Tally {
    /// All logins of this protocol so far whose sessions have ended: it counts them then.
    pub fn of(keyward: &Keyward, protocol: &str) -> Self {
        let metrics = keyward.http("/metrics").body;
        let value = |what: &str, stage: &str| {
            let name = format!("keyward_stage_seconds_{what}{{protocol=\"{protocol}\",stage=\"{stage}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |value| value.parse().unwrap())
        };
        Self { seconds: STAGES.map(|stage| value("sum", stage)), logins: value("count", "audit") }
    }

    /// What came since then, once it is this many logins at least and their leases are given back.
    pub fn since(self, keyward: &Keyward, protocol: &str, logins: u32) -> Self {
        let now = eventually("the sessions have ended", || {
            let now = Self::of(keyward, protocol);
            (now.logins >= self.logins + f64::from(logins)).then_some(now)
        });
        eventually("the leases are given back", || {
            let metrics = keyward.http("/metrics").body;
            ["keyward_leases_live 0\n", "keyward_leases_waiting 0\n"].iter().all(|line| metrics.contains(line)).then_some(())
        });
        let mut since = now;
        since.seconds.iter_mut().zip(self.seconds).for_each(|(now, before)| *now -= before);
        since.logins -= self.logins;
        since
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.seconds.iter_mut().zip(other.seconds).for_each(|(mine, more)| *mine += more);
        self.logins += other.logins;
        self
    }

    /// In microseconds.
    fn means(&self) -> [f64; STAGES.len()] {
        self.seconds.map(|seconds| seconds * 1e6 / self.logins)
    }
}

/// A row for each of them: the mean of each stage, and of all that the client waited for.
pub fn table(title: &str, rows: &[(&str, Tally)]) -> String {
    let mut table = format!(
        "\n### {title}: the stages within Keyward\n\nMeans in µs; `lease` and `connect` run side by side. `open` is from the accepted \
         socket to the startup message, TLS included, `login` the user's proof: in both it mostly waits for the client.\n\n| |"
    );
    STAGES.iter().for_each(|stage| write!(table, " {stage} |").unwrap());
    table += " in all |\n|---|";
    table += &"--:|".repeat(STAGES.len() + 1);
    for (name, tally) in rows {
        let means = tally.means();
        let hidden = BESIDE.iter().map(|stage| means[*stage]).fold(f64::INFINITY, f64::min);
        write!(table, "\n| {name} |").unwrap();
        means.iter().chain([&(means.iter().sum::<f64>() - hidden)]).for_each(|mean| write!(table, " {} |", number(*mean)).unwrap());
    }
    table.push('\n');
    table
}
