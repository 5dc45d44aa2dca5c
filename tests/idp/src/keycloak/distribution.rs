//! Keycloak's distribution and a Java to run it: found, or fetched once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Error, blocking};

/// The plugin that fetches, at a version of our choice, so that no project file is needed.
const FETCHER: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// The oldest Java that runs Keycloak.
const OLDEST_JAVA: u32 = 17;

/// Whether a Keycloak can be started here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Java and the distribution are there.
    Ready,
    /// Something is not, and what.
    Missing(String),
}

/// An unpacked Keycloak and the Java for it.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    /// The script that starts it.
    pub(super) script: PathBuf,
    /// The `java` command.
    pub(super) java: PathBuf,
}

impl Distribution {
    /// Finds Java, and the distribution in `folder`, fetching it if need be. The caller has its [`Turn`].
    pub(super) fn prepare(folder: &Path, version: &str) -> Result<Self, Error> {
        if !cfg!(unix) {
            return Err(Error("the harness starts kc.sh, which wants a Unix".to_owned()));
        }
        if folder.to_string_lossy().contains([' ', '\'', '"']) {
            return Err(Error(format!("{}: kc.sh wants a path without spaces and quotes", folder.display())));
        }
        let java = find_java()?;
        let home = folder.join(format!("keycloak-{version}"));
        if !home.is_dir() {
            fetch(folder, version, &java, &home)?;
        }
        Ok(Self { script: home.join("bin/kc.sh"), java })
    }
}

/// The turn to change what test processes share: unpacking, and a start, which may rebuild the server's files.
#[derive(Debug)]
pub(super) struct Turn {
    // Unlocked when closed, so also when the process dies.
    _lock: File,
}

impl Turn {
    /// Waits for the turn in `folder`, which is made if it is not there.
    pub(super) async fn wait(folder: &Path) -> Result<Self, Error> {
        let folder = folder.to_owned();
        blocking(move || {
            let in_folder = |error: io::Error| Error(format!("{}: {error}", folder.display()));
            fs::create_dir_all(&folder).map_err(in_folder)?;
            let lock = File::create(folder.join("lock")).map_err(in_folder)?;
            lock.lock().map_err(in_folder)?;
            Ok(Self { _lock: lock })
        })
        .await
    }
}

fn find_java() -> Result<PathBuf, Error> {
    let named = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    let installed = ["/usr/lib/jvm", "/opt"]
        .into_iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    named
        .map(PathBuf::from)
        .into_iter()
        .map(|home| home.join("bin/java"))
        .chain([PathBuf::from("java")])
        .chain(installed.map(|home| home.join("bin/java")))
        .find(|java| java_version(java).is_some_and(|version| version >= OLDEST_JAVA))
        .ok_or_else(|| Error(format!("no Java {OLDEST_JAVA} or newer (JAVA_HOME, PATH)")))
}

/// The major version a `java` command gives; it writes it to its standard error stream.
fn java_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stderr))
}

/// The major version in a text such as `openjdk version "17.0.15" 2025-04-15`.
fn major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Downloads the distribution and unpacks it to `home`, which appears whole or not at all.
fn fetch(folder: &Path, version: &str, java: &Path, home: &Path) -> Result<(), Error> {
    let work = folder.join("download");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let download = Command::new("mvn")
        .args(["-B", "-q", FETCHER])
        .arg(format!("-Dartifact=org.keycloak:keycloak-quarkus-dist:{version}:zip"))
        .arg(format!("-DoutputDirectory={}", work.display()))
        .current_dir(&work)
        .output();
    succeeded("mvn", download)?;
    unpack(&work, &format!("keycloak-quarkus-dist-{version}.zip"), java)?;
    let unpacked = work.join(format!("keycloak-{version}"));
    make_executable(&unpacked.join("bin/kc.sh"))?;
    fs::rename(&unpacked, home)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// Unpacks with the first of the usual tools that is there.
fn unpack(work: &Path, archive: &str, java: &Path) -> Result<(), Error> {
    // Beside a `java` without a folder this is `jar`, also looked up on the path.
    let jar = java.with_file_name("jar");
    let tools: [(&Path, &[&str]); 4] = [
        (&jar, &["xf", archive]),
        (Path::new("jar"), &["xf", archive]),
        (Path::new("python3"), &["-m", "zipfile", "-e", archive, "."]),
        (Path::new("unzip"), &["-q", "-o", archive]),
    ];
    let mut failures = Vec::new();
    for (tool, arguments) in tools {
        match succeeded(
            &tool.to_string_lossy(),
            Command::new(tool).args(arguments).current_dir(work).output(),
        ) {
            Ok(()) => return Ok(()),
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    Err(Error(format!("the distribution cannot be unpacked: {}", failures.join("; "))))
}

fn succeeded(command: &str, output: io::Result<Output>) -> Result<(), Error> {
    let output = output.map_err(|error| Error(format!("{command}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(Error(format!("{command}: {}: {first}", output.status)))
}

#[cfg(unix)]
fn make_executable(script: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(script, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_script: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn java_versions_are_read() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major("java version \"1.8.0_441\""), Some(1));
        assert_eq!(major("no such thing"), None);
    }
}
