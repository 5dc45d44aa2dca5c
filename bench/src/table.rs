//! [`Table`]: every figure with its goal and what was measured.

use std::fmt;

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// This.
    Exactly(f64),
    /// It is told for comparison.
    None,
}

impl Goal {
    fn is_met(self, measured: f64) -> bool {
        match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
            Self::Exactly(value) => (measured - value).abs() < 1e-9,
            Self::None => true,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
            Self::Exactly(value) => f.write_str(&number(*value)),
            Self::None => Ok(()),
        }
    }
}

/// How a figure comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counted: the same on every machine, or nearly so. It fails if it misses its goal.
    Counted,
    /// Timed: told, and never fails.
    Timed,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    figure: String,
    kind: Kind,
    goal: Goal,
    measured: Measured,
    unit: &'static str,
    notes: String,
    /// Where a figure that does not meet its goal yet stands: it may not get worse.
    stands: Option<f64>,
}

#[derive(Clone, Debug)]
enum Measured {
    Value(f64),
    /// It could not be measured, for this reason: a failure.
    Failed(String),
    /// It was left out, for this reason.
    Skipped(String),
}

impl Row {
    /// A figure that was counted.
    pub fn counted(figure: impl Into<String>, goal: Goal, measured: f64, unit: &'static str) -> Self {
        Self::new(figure, Kind::Counted, goal, Measured::Value(measured), unit)
    }

    /// A figure that was timed.
    pub fn timed(figure: impl Into<String>, goal: Goal, measured: f64, unit: &'static str) -> Self {
        Self::new(figure, Kind::Timed, goal, Measured::Value(measured), unit)
    }

    /// What could not be measured.
    pub fn failed(figure: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(figure, Kind::Counted, Goal::None, Measured::Failed(why.to_string()), "")
    }

    /// What was left out.
    pub fn skipped(figure: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(figure, Kind::Counted, Goal::None, Measured::Skipped(why.into()), "")
    }

    fn new(
        figure: impl Into<String>,
        kind: Kind,
        goal: Goal,
        measured: Measured,
        unit: &'static str,
    ) -> Self {
        Self { figure: figure.into(), kind, goal, measured, unit, notes: String::new(), stands: None }
    }

    /// Says that it does not meet its goal yet, and stands here at the most: the gate of CI fails beyond that.
    #[must_use]
    pub fn not_yet(mut self, stands: f64) -> Self {
        self.stands = Some(stands);
        self
    }

    /// Says more of it, such as what others come to.
    #[must_use]
    pub fn note(mut self, notes: impl Into<String>) -> Self {
        self.notes = notes.into();
        self
    }

    fn verdict(&self) -> &'static str {
        match (&self.measured, self.kind) {
            (Measured::Failed(_), _) => "FAILED",
            (Measured::Skipped(_), _) => "skipped",
            (Measured::Value(_), _) if self.goal == Goal::None => "",
            (Measured::Value(value), _) if self.goal.is_met(*value) => "met",
            (Measured::Value(value), Kind::Counted) if self.stands.is_some_and(|most| *value <= most) => {
                "NOT YET"
            }
            (Measured::Value(_), Kind::Counted) => "MISSED",
            (Measured::Value(_), Kind::Timed) => "short of it",
        }
    }

    fn cells(&self) -> [String; 5] {
        let (measured, notes) = match &self.measured {
            Measured::Value(value) => (format!("{} {}", number(*value), self.unit), self.notes.clone()),
            Measured::Failed(why) | Measured::Skipped(why) => (String::new(), why.replace('\n', " ")),
        };
        let kind = match self.kind {
            Kind::Counted => "",
            Kind::Timed => " (time)",
        };
        let figure = format!("{}{kind}", self.figure);
        [figure, self.goal.to_string(), measured.trim().to_owned(), self.verdict().to_owned(), notes]
    }
}

/// All figures, as Markdown that is aligned for the eye.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds the rows of one part; if it could not be measured at all, a row that says so.
    pub fn add(&mut self, part: &str, rows: crate::Result<Vec<Row>>) {
        match rows {
            Ok(rows) => self.0.extend(rows),
            Err(error) => self.0.push(Row::failed(part, error)),
        }
    }

    /// Keeps counted figures only.
    pub fn keep_counted(&mut self) {
        self.0.retain(|row| row.kind == Kind::Counted);
    }

    /// The counted figures that miss their goals, and what could not be measured.
    pub fn missed(&self) -> Vec<&str> {
        self.with_verdict(&["FAILED", "MISSED"])
    }

    /// The counted figures that do not meet their goals yet, and are no worse than known.
    pub fn not_yet(&self) -> Vec<&str> {
        self.with_verdict(&["NOT YET"])
    }

    /// The times that are short of their goals.
    pub fn short(&self) -> Vec<&str> {
        self.with_verdict(&["short of it"])
    }

    /// What was left out.
    pub fn skipped(&self) -> Vec<&str> {
        self.with_verdict(&["skipped"])
    }

    fn with_verdict(&self, verdicts: &[&str]) -> Vec<&str> {
        let rows = self.0.iter().filter(|row| verdicts.contains(&row.verdict()));
        rows.map(|row| row.figure.as_str()).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["figure", "goal", "measured", "", "notes"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(heads).chain(self.0.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        for (n, [figure, goal, measured, verdict, notes]) in rows.iter().enumerate() {
            let [a, b, c, d] = widths;
            let line = format!("| {figure:a$} | {goal:>b$} | {measured:>c$} | {verdict:d$} | {notes}");
            writeln!(f, "{} |", line.trim_end())?;
            if n == 0 {
                let [a, b, c, d] = widths.map(|width| "-".repeat(width));
                writeln!(f, "| {a} | {b} | {c} | {d} | --- |")?;
            }
        }
        Ok(())
    }
}

/// Three digits that matter, and whole numbers whole.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        whole if whole.fract() < 1e-9 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counted_figures_fail() {
        let mut table = Table::default();
        let rows = vec![
            Row::counted("a", Goal::AtMost(2.0), 2.0, "x"),
            Row::counted("b", Goal::AtMost(2.0), 2.1, "x"),
            Row::timed("c", Goal::AtLeast(6.0), 5.0, "×"),
            Row::counted("d", Goal::Exactly(1.0), 2.0, "x"),
            Row::counted("e", Goal::None, 2.0, "x"),
            Row::counted("g", Goal::AtMost(2.0), 2.5, "x").not_yet(3.0),
            Row::counted("h", Goal::AtMost(2.0), 3.5, "x").not_yet(3.0),
            Row::counted("i", Goal::AtMost(2.0), 1.5, "x").not_yet(3.0),
        ];
        table.add("", Ok(rows));
        table.add("f", Err("no".into()));
        assert_eq!(table.missed(), ["b", "d", "h", "f"]);
        assert_eq!(table.not_yet(), ["g"]);
        assert_eq!(table.short(), ["c"]);
        table.keep_counted();
        assert_eq!(table.short(), [""; 0]);
    }

    #[test]
    fn the_table_is_aligned() {
        let mut table = Table::default();
        table.add("", Ok(vec![Row::timed("long", Goal::AtMost(2.5), 12.345, "ms").note("n")]));
        let lines = [
            "| figure      |   goal | measured |             | notes |",
            "| ----------- | ------ | -------- | ----------- | --- |",
            "| long (time) | ≤ 2.50 |  12.3 ms | short of it | n |",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 2.0, 2.25, 12.345, 149.4, 0.0123].map(number),
            ["0", "2", "2.25", "12.3", "149", "0.0123"]
        );
    }
}
