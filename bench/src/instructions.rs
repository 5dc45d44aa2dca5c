//! Instructions per call, by callgrind.

use std::{env, process::Command};

use crate::{
    Result, operations as op, progress,
    table::{Goal, Row},
};

/// Calls that are counted, and those that are counted with them and subtracted, with all that a process does besides.
const CALLS: usize = 20_000;
const WARM: usize = 2_000;

/// Whether valgrind can be started.
pub fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The rows; where valgrind is missing one that says so.
///
/// # Errors
/// If valgrind fails.
pub fn rows() -> Result<Vec<Row>> {
    if !is_there() {
        return Ok(vec![Row::skipped(
            "instructions",
            "valgrind is not installed (apt-get install valgrind)",
        )]);
    }
    let unit = "instructions";
    let [cached, small] = [per_call(op::CACHED_1024)?, per_call(op::CACHED_200)?];
    let [clone, limit, written] =
        [per_call(op::CLONE)?, per_call(op::ARC_SWAP)?, per_call(op::HAND_WRITTEN)?];
    let others = "google-cloud-auth 2,411; huskarl 4,941";
    let mut rows = vec![
        Row::counted("cached header, 1,024 bytes", Goal::AtMost(200.0), cached, unit).note(others),
        Row::counted("cached header, 200 bytes", Goal::AtMost(200.0), small, unit),
        Row::counted("· plain HeaderValue::clone", Goal::None, clone, unit),
        Row::counted("· arc_swap load, coarse clock, clone", Goal::None, limit, unit).note("the limit: 149"),
        Row::counted("· hand-written: RwLock, format!, from_str", Goal::None, written, unit).note("2,890"),
    ];
    rows.push(
        Row::counted("· token() with the token at hand", Goal::None, per_call(op::TOKEN)?, unit)
            .note("what most callers use"),
    );
    let [constant, copy] = [per_call(op::CONSTANT)?, per_call(op::CONSTANT_AND_COPY)?];
    let [auth, plain] = [per_call(op::AUTH)?, per_call(op::AUTH_WITHOUT_REPLAY)?];
    let more = "middleware: more than a constant header";
    rows.extend([
        Row::counted(format!("{more} and the request's copy"), Goal::AtMost(300.0), auth - copy, unit).note(
            format!("{auth:.0} a request; {copy:.0} the other, of which the copy is {:.0}", copy - constant),
        ),
        Row::counted(
            format!("{more}, replay and redirects off"),
            Goal::AtMost(300.0),
            plain - constant,
            unit,
        )
        .note(format!("{plain:.0} a request; {constant:.0} the other")),
    ]);
    Ok(rows)
}

/// The instructions of one call: those of a process that makes many more of them, less those of one that makes few.
fn per_call(operation: &str) -> Result<f64> {
    progress(&format!("instructions of {operation}"));
    let more = of_process(operation, WARM + CALLS)?;
    let few = of_process(operation, WARM)?;
    Ok((more as f64 - few as f64) / CALLS as f64)
}

fn of_process(operation: &str, times: usize) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(env::current_exe()?).args(["count", operation, &times.to_string()]);
    let output = valgrind.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(collected) if output.status.success() => Ok(collected),
        _ => Err(format!("valgrind failed, {}: {said}", output.status).into()),
    }
}
