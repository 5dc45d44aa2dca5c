//! Allocations per call and bytes per idle session, counted by `keyfob-bench-heap`, whose allocator counts.

use std::{collections::BTreeMap, env, process::Command};

use crate::{
    Result, operations as op, progress,
    table::{Goal, Row},
};

/// How `keyfob-bench-heap` calls the bytes of idle sessions of this number and part.
pub fn idle_name(sessions: usize, part: &str) -> String {
    format!("idle/{sessions}/{part}")
}

/// The rows.
///
/// # Errors
/// If the program beside this one fails.
pub fn rows() -> Result<Vec<Row>> {
    progress("allocations, and 10,000 and 100,000 idle sessions");
    let counts = counts()?;
    let of = |name: &str| counts.get(name).copied().ok_or_else(|| format!("{name} was not counted"));
    let none = Goal::Exactly(0.0);
    let unit = "allocations";
    let mut rows = vec![
        Row::counted("cached header, 1,024 bytes: allocations", none, of(op::CACHED_1024)?, unit),
        Row::counted("cached header, 200 bytes: allocations", none, of(op::CACHED_200)?, unit),
        Row::counted("· hand-written: allocations", Goal::None, of(op::HAND_WRITTEN)?, unit).note("3"),
        Row::counted(
            "middleware: allocations more than constant header and copy",
            none,
            of(op::AUTH)? - of(op::CONSTANT_AND_COPY)?,
            unit,
        )
        .note(format!(
            "{} a request, {} of them the copy's",
            of(op::AUTH)?,
            of(op::CONSTANT_AND_COPY)? - of(op::CONSTANT)?
        )),
        Row::counted(
            "middleware: allocations more than constant header, no replay",
            none,
            of(op::AUTH_WITHOUT_REPLAY)? - of(op::CONSTANT)?,
            unit,
        )
        .note(format!("{} a request", of(op::AUTH_WITHOUT_REPLAY)?)),
    ];
    for (sessions, name) in [(10_000, "10,000"), (100_000, "100,000")] {
        let part = |part: &str| of(&idle_name(sessions, part));
        let notes = format!(
            "provider {:.0}, session {:.0}, its first token {:.0}; in {} allocations",
            part("provider")?,
            part("session")?,
            part("published")?,
            part("allocations")?,
        );
        let figure = format!("{name} idle sessions, each beyond its token");
        rows.push(Row::counted(figure, Goal::AtMost(2048.0), part("whole")?, "bytes").note(notes));
        let figure = format!("· {name} idle sessions whose provider keeps in the store");
        rows.push(
            Row::counted(figure, Goal::None, part("stored")?, "bytes")
                .note("MemoryStore has the token too: another 1,024 bytes"),
        );
        let figure = format!("{name} idle sessions: tasks alive");
        rows.push(
            Row::counted(figure, none, part("tasks")?, "tasks")
                .note("and so no timer: a task would have to hold it"),
        );
    }
    Ok(rows)
}

fn counts() -> Result<BTreeMap<String, f64>> {
    let output = Command::new(env::current_exe()?.with_file_name("keyfob-bench-heap")).output()?;
    if !output.status.success() {
        return Err(format!("keyfob-bench-heap: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(printed.lines().filter_map(line).collect())
}
