//! The server's process: started in a group of its own, and ended with it.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use super::distribution::Distribution;
use super::options::Options;
use super::realm::{ADMIN, ADMIN_PASSWORD};
use super::tls::Tls;

/// Waits until its standard input closes, then ends the process group it was given.
///
/// It closes when [`Server`] drops it, and when the process that holds the other end dies. The whole group is
/// ended because the pid alone does not do: kc.sh runs Java as its child, and only becomes the Java process itself
/// after a start that rebuilt the server's files.
const WATCHDOG: &str = "read -r _; kill -s KILL -- \"-$1\"";

/// A started server. Dropping it ends the process and waits until its port is free.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    watchdog: Child,
    log: PathBuf,
    port: u16,
}

impl Server {
    /// Starts `kc.sh start-dev`; it answers some time later.
    pub(super) fn spawn(
        distribution: &Distribution,
        options: &Options,
        base: &str,
        port: u16,
        tls: Option<&Tls>,
    ) -> Result<Self, Error> {
        remove_old_logs(&options.folder);
        let log = options.folder.join(format!("server-{port}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(&distribution.script);
        for (name, _) in std::env::vars_os() {
            // Keycloak takes any of its options from the environment.
            if name.to_string_lossy().starts_with("KC_") {
                command.env_remove(name);
            }
        }
        command
            .arg("start-dev")
            .args(["--db=dev-mem", "--http-host=127.0.0.1"])
            .arg(format!("--hostname={base}"))
            // All servers are built alike, so that one does not rebuild what another one runs from.
            .arg("--https-client-auth=request")
            .args(features(&options.version))
            .env("JAVA", &distribution.java)
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        match tls {
            Some(tls) => command.args(tls.options(port)?),
            None => command.arg(format!("--http-port={port}")),
        };
        if let Some(database) = &options.database {
            // Every change is on disk at once: the server is killed. By the environment, for the script's sake.
            let url = format!("jdbc:h2:file:{};NON_KEYWORDS=VALUE;WRITE_DELAY=0", database.display());
            command.env("KC_DB_URL", url);
        }
        own_group(&mut command);
        let mut child =
            command.spawn().map_err(|error| Error(format!("{}: {error}", distribution.script.display())))?;
        match watch(child.id()) {
            Ok(watchdog) => Ok(Self { child, watchdog, log, port }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error(format!("sh: {error}")))
            }
        }
    }

    /// The id of the process and of its group.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with the server's output.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// How the process ended, if it has.
    pub(super) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.exited().is_some() {
            // Its id may be another's by now.
            let _ = self.watchdog.kill();
        }
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        // Should the watchdog have been ended by someone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Java may be a grandchild, which cannot be waited for; it has ended when its port is free.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_free(self.port) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A loopback port that is free now.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether nobody listens at a loopback port.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The last lines of a file, or why they cannot be read.
pub(super) fn tail(file: &Path, lines: usize) -> String {
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("{}: {error}", file.display()),
    };
    let all = text.lines().collect::<Vec<_>>();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Each port has its log; those that have not been written to for a day go.
fn remove_old_logs(folder: &Path) {
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_log = file.path().extension().is_some_and(|extension| extension == "log");
        let age = file.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_log && age.is_some_and(|age| age > Duration::from_secs(24 * 60 * 60)) {
            // Another process may have been faster.
            let _ = fs::remove_file(file.path());
        }
    }
}

fn watch(group: u32) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", WATCHDOG, "watchdog", &group.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    own_group(&mut command);
    command.spawn()
}

/// Out of the terminal's foreground group, and whole where it is to be ended.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

/// What has to be switched on: DPoP before 26.4, and the JWT bearer grant, which came with 26.5.
fn features(version: &str) -> Option<&'static str> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
        (..26, _) | (26, ..4) => Some("--features=dpop"),
        (26, 4) => None,
        _ => Some("--features=jwt-authorization-grant"),
    }
}

#[cfg(test)]
mod tests {
    use super::features;

    #[test]
    fn features_are_switched_on_where_they_are_previews() {
        for (version, name) in [
            ("25.0.6", "dpop"),
            ("26.3.9", "dpop"),
            ("26.4.0", ""),
            ("26.5.0", "jwt-authorization-grant"),
            ("26.7.4", "jwt-authorization-grant"),
            ("27.0.0", "jwt-authorization-grant"),
        ] {
            assert_eq!(features(version).unwrap_or("=").split_once('=').unwrap().1, name, "{version}");
        }
    }
}
