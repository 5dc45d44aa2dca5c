//! What it costs to build a small program, against one with bare reqwest: crates, and the CPU time of a clean build.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Result, progress,
    table::{Goal, Row},
};

const KEYFOB: &str = include_str!("build/keyfob.rs.txt");
const REQWEST: &str = include_str!("build/reqwest.rs.txt");
/// What is asked of cargo in these programs' folders: nothing is fetched.
const OFFLINE: [&str; 2] = ["--offline", "--quiet"];

/// How many crates more.
///
/// # Errors
/// If cargo fails.
pub fn crates() -> Result<Vec<Row>> {
    progress("crates");
    let ours = crates_of(&ours()?)?;
    let bare = crates_of(&bare()?)?;
    let more = ours.len() as f64 - bare.len() as f64;
    let names: Vec<_> =
        ours.difference(&bare).map(|name| name.split(' ').next().unwrap_or_default()).collect();
    Ok(vec![
        Row::counted(
            "device login and client secret, over bare reqwest",
            Goal::AtMost(20.0),
            more,
            "crates more",
        )
        .note(format!(
            "{} and {}; azure_identity 135, huskarl 141 to 188; more: {}",
            ours.len(),
            bare.len(),
            names.join(", ")
        )),
    ])
}

/// The CPU time of clean release builds.
///
/// # Errors
/// If cargo fails.
pub fn time() -> Result<Vec<Row>> {
    let (ours, bare) = (ours()?, bare()?);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for round in 1..=2 {
        progress(&format!("clean builds, round {round} of 2"));
        one.push(build(&ours)?);
        other.push(build(&bare)?);
    }
    // The least that was in anybody's way.
    let [ours, bare] = [one, other].map(|times| times.into_iter().fold(f64::INFINITY, f64::min));
    Ok(vec![
        Row::timed("clean release build, CPU time over bare reqwest", Goal::AtMost(1.2), ours / bare, "×")
            .note(format!("{ours:.0} s and {bare:.0} s; azure_identity 1.31, huskarl 1.25 to 1.7")),
    ])
}

fn workspace() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().ok_or("the package is in no folder")?.to_owned())
}

fn ours() -> Result<PathBuf> {
    let keyfob = format!(
        "keyfob = {{ path = {:?}, default-features = false, features = [\"oidc\", \"rustls\"] }}\n",
        workspace()?
    );
    program("keyfob", &keyfob, KEYFOB)
}

/// The features are those that this workspace gives reqwest.
fn bare() -> Result<PathBuf> {
    let manifest = fs::read_to_string(workspace()?.join("Cargo.toml"))?;
    let line = manifest.lines().find(|line| line.starts_with("reqwest = "));
    let line =
        line.ok_or("the workspace names no reqwest")?.replace("features = [", "features = [\"rustls\", ");
    let tokio = "tokio = { version = \"1\", default-features = false, features = [\"rt\"] }\n";
    program("reqwest", &format!("{line}\n{tokio}"), REQWEST)
}

/// A package of its own, with the versions of this workspace.
fn program(name: &str, dependencies: &str, source: &str) -> Result<PathBuf> {
    let workspace = workspace()?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = target.join("bench-build").join(name);
    fs::create_dir_all(folder.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"minimal-{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{dependencies}"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/main.rs"), source)?;
    fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(folder)
}

/// Every package of the tree but the program itself, by name and version.
fn crates_of(folder: &Path) -> Result<BTreeSet<String>> {
    let mut tree = cargo(folder);
    tree.arg("tree").args(OFFLINE).args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("cargo tree in {}: {}", folder.display(), output.status).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let package = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(printed
        .lines()
        .map(package)
        .filter(|name| !name.is_empty() && !name.starts_with("minimal-"))
        .collect())
}

/// Builds it anew; the CPU time in seconds.
fn build(folder: &Path) -> Result<f64> {
    let target = folder.join("target");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let before = children_seconds()?;
    let mut build = cargo(folder);
    build.args(["build", "--release"]).args(OFFLINE).arg("--target-dir").arg(&target);
    let status = build.stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("cargo build in {}: {status}", folder.display()).into());
    }
    Ok(children_seconds()? - before)
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).env("CARGO_INCREMENTAL", "0");
    // What the cargo that runs this said of this package is not meant for that one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_") || name == "CARGO_TARGET_DIR" {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// The CPU time of this process's children that have ended, and of theirs: fields 16 and 17 of proc(5).
fn children_seconds() -> Result<f64> {
    const TICKS: f64 = 100.0; // USER_HZ, on every Linux of today
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, field 2, may hold spaces; its bracket is the last.
    let (_, rest) = stat.rsplit_once(") ").ok_or("/proc/self/stat has another form")?;
    let ticks: f64 = rest.split(' ').skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}
