//! `keyfob token` with a valid stored token, against `cat` on the record.

use std::{
    cell::Cell,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use keyfob_idp::server::{AuthorizationServer, Settings};

use crate::{
    Result,
    files::file_of_record,
    progress,
    table::{Goal, Row},
    timing::{interleaved, nanos, ratio},
};

/// The rows.
///
/// # Errors
/// If the command fails, or is not beside this program.
pub fn rows() -> Result<Vec<Row>> {
    progress("the command");
    let keyfob = env::current_exe()?.with_file_name("keyfob");
    let home = tempfile::tempdir()?;
    let settings = Settings { access_token_lifetime: Duration::from_secs(3600), ..Settings::default() };
    let server = AuthorizationServer::start_on_own_thread(settings);
    let config = home.path().join("config.toml");
    let text = format!(
        "[profile.bench]\nprovider = \"oidc\"\nissuer = \"{}\"\nclient_id = \"service\"\n\
         client_secret = \"service-secret\"\nstore = {{ kind = \"file\", path = \"tokens\" }}\n",
        server.issuer()
    );
    fs::write(&config, text)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    let token = || {
        let mut command = Command::new(&keyfob);
        command.arg("token").env("KEYFOB_CONFIG", &config).env("HOME", home.path());
        command
    };
    let first = token().output()?;
    if !first.status.success() {
        let said = String::from_utf8_lossy(&first.stderr);
        return Err(format!("{} token: {said}", keyfob.display()).into());
    }
    // From here on nobody answers.
    drop(server);
    let record = file_of_record(&home.path().join("tokens"))?;
    let good = Cell::new(true);
    let run = |command: &mut Command| good.set(good.get() & succeeds(command));
    let mut cat = || run(Command::new("cat").arg(&record));
    let mut ours = || run(&mut token());
    let mut version = || run(Command::new(&keyfob).arg("--version"));
    let times = interleaved(201, &mut [&mut cat, &mut ours, &mut version]);
    if !good.get() {
        return Err("the command needs the server, though a valid token is stored".into());
    }
    let [cat, ours, version] = &times;
    let millis = |times: &[Duration]| nanos(times) / 1e6;
    Ok(vec![
        Row::timed("keyfob token, over cat on the record", Goal::AtMost(3.0), ratio(ours, cat), "×")
            .note(format!("{:.2} ms, and {:.2} ms; program of {}", millis(ours), millis(cat), size(&keyfob))),
        Row::timed("· keyfob --version, over cat", Goal::None, ratio(version, cat), "×")
            .note("to load the program and to read its arguments"),
    ])
}

fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn size(program: &Path) -> String {
    fs::metadata(program)
        .map_or_else(|_| "unknown size".to_owned(), |file| format!("{} KiB", file.len() / 1024))
}
