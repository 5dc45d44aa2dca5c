//! [`Surroundings`]: whether the person's browser is on this machine.

use std::{env, ffi::OsString, fmt, path::Path};

/// What tells where this process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// `BROWSER`: the program that the person wants to be given URLs.
    pub(crate) program: Option<OsString>,
    pub(crate) ssh: bool,
    pub(crate) ci: bool,
    pub(crate) container: bool,
    pub(crate) wsl: bool,
    /// Whether windows can be shown.
    pub(crate) display: bool,
}

/// Why the person's browser is not here, as the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    Ssh,
    Ci,
    Container,
    Wsl,
    NoDisplay,
}

impl Surroundings {
    /// This process's, as they are now.
    pub(crate) fn look() -> Self {
        // Systems without X11 or Wayland show windows without being told where.
        let shows_windows = cfg!(any(windows, target_os = "macos", target_os = "ios", target_os = "android"));
        Self::of(|name| env::var_os(name), |path| Path::new(path).exists(), shows_windows)
    }

    fn of(
        variable: impl Fn(&str) -> Option<OsString>,
        exists: impl Fn(&str) -> bool,
        shows_windows: bool,
    ) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let any = |names: &[&str]| names.iter().any(|name| set(name).is_some());
        Self {
            program: set("BROWSER"),
            ssh: any(&["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"]),
            ci: set("CI").is_some_and(|value| value != "false" && value != "0"),
            container: any(&["KUBERNETES_SERVICE_HOST"])
                || exists("/.dockerenv")
                || exists("/run/.containerenv"),
            wsl: any(&["WSL_DISTRO_NAME", "WSL_INTEROP"]) || exists("/proc/sys/fs/binfmt_misc/WSLInterop"),
            display: shows_windows || any(&["DISPLAY", "WAYLAND_DISPLAY"]),
        }
    }

    /// Whether a browser can be opened that the person sees. One that is named is believed in.
    pub(crate) fn browser(&self) -> Result<(), Elsewhere> {
        match self {
            Self { program: Some(_), .. } => Ok(()),
            Self { ssh: true, .. } => Err(Elsewhere::Ssh),
            Self { ci: true, .. } => Err(Elsewhere::Ci),
            Self { container: true, .. } => Err(Elsewhere::Container),
            Self { wsl: true, .. } => Err(Elsewhere::Wsl),
            Self { display: false, .. } => Err(Elsewhere::NoDisplay),
            _ => Ok(()),
        }
    }

    /// Whether there is anything to open: where no window can be shown, a browser in text mode would take the terminal.
    #[cfg(feature = "browser")]
    pub(crate) fn can_open(&self) -> bool {
        self.program.is_some() || self.display || self.wsl
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => "this is a session over SSH",
            Self::Ci => "this is an automated run (`CI` is set)",
            Self::Container => "this is a container",
            Self::Wsl => "this is the Windows Subsystem for Linux",
            Self::NoDisplay => "there is no display",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(variables: &[(&str, &str)], files: &[&str], shows_windows: bool) -> Surroundings {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Surroundings::of(variable, |path| files.contains(&path), shows_windows)
    }

    #[test]
    fn the_browser_is_here_or_elsewhere() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], bool, Result<(), Elsewhere>);
        let cases: &[Case<'_>] = &[
            ("X11", &[("DISPLAY", ":0")], &[], false, Ok(())),
            ("Wayland", &[("WAYLAND_DISPLAY", "wayland-0")], &[], false, Ok(())),
            ("a desktop that needs no display", &[], &[], true, Ok(())),
            ("no display", &[], &[], false, Err(Elsewhere::NoDisplay)),
            ("an empty display", &[("DISPLAY", "")], &[], false, Err(Elsewhere::NoDisplay)),
            ("SSH", &[("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")], &[], true, Err(Elsewhere::Ssh)),
            (
                "SSH with X11 forwarded",
                &[("SSH_TTY", "/dev/pts/0"), ("DISPLAY", "localhost:10.0")],
                &[],
                false,
                Err(Elsewhere::Ssh),
            ),
            ("Docker", &[("DISPLAY", ":0")], &["/.dockerenv"], false, Err(Elsewhere::Container)),
            ("Podman", &[], &["/run/.containerenv"], false, Err(Elsewhere::Container)),
            ("Kubernetes", &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], &[], false, Err(Elsewhere::Container)),
            ("WSL", &[("WSL_DISTRO_NAME", "Debian"), ("DISPLAY", ":0")], &[], false, Err(Elsewhere::Wsl)),
            ("WSL by its file", &[], &["/proc/sys/fs/binfmt_misc/WSLInterop"], false, Err(Elsewhere::Wsl)),
            ("CI", &[("CI", "true"), ("DISPLAY", ":99")], &[], false, Err(Elsewhere::Ci)),
            ("not CI", &[("CI", "false"), ("DISPLAY", ":0")], &[], false, Ok(())),
            (
                "BROWSER wins over everything",
                &[("BROWSER", "/opt/open"), ("SSH_TTY", "x"), ("CI", "1"), ("WSL_INTEROP", "x")],
                &["/.dockerenv"],
                false,
                Ok(()),
            ),
            ("an empty BROWSER is none", &[("BROWSER", "")], &[], false, Err(Elsewhere::NoDisplay)),
        ];
        for (name, variables, files, shows_windows, expected) in cases {
            assert_eq!(seen(variables, files, *shows_windows).browser(), *expected, "{name}");
        }
    }

    #[cfg(feature = "browser")]
    #[test]
    fn nothing_is_opened_where_only_a_terminal_could_show_it() {
        for (variables, can) in [
            (&[][..], false),
            (&[("SSH_TTY", "x")], false),
            (&[("DISPLAY", ":0")], true),
            (&[("WSL_INTEROP", "x")], true),
            (&[("BROWSER", "open")], true),
        ] {
            assert_eq!(seen(variables, &[], false).can_open(), can, "{variables:?}");
        }
    }
}
