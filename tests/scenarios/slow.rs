//! Half a minute of strict rotation: eight processes on one folder, and a token that lives for two seconds.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use keyfob::{Context, Session};
use keyfob_idp::server::Settings;
use serde::{Deserialize, Serialize};

use super::{
    child::{Process, Told},
    world::*,
};

const PROCESSES: usize = 8;
const TASKS: usize = 50;
const LASTS: Duration = s(30);
const LIFE: Duration = s(2);

/// What a process tells at its end.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Report {
    calls: u64,
    /// Calls of the API with the token.
    api: u64,
    /// Those of them that ended after the token's time.
    late: u64,
    /// The API's numbers of the tokens.
    generations: BTreeSet<u64>,
    longest_wait: Duration,
    errors: Vec<String>,
}

/// A child: fifty tasks that want a token all the time, and use it now and then.
pub(crate) async fn work(told: &Told) {
    let end = UNIX_EPOCH + Duration::from_millis(told.argument.parse().unwrap());
    let session = person(&told.issuer, open(told.folder.clone()), &Context::new());
    let report = Arc::new(Mutex::new(Report::default()));
    let (http, api) = (http(), format!("{}/api/echo", told.issuer));
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let (session, report, http, api) =
                (session.clone(), Arc::clone(&report), http.clone(), api.clone());
            tokio::spawn(async move {
                let mut calls = n; // so that they do not use it all at the same time
                while SystemTime::now() < end {
                    calls += 1;
                    work_once(&session, &report, calls.is_multiple_of(TASKS).then_some((&http, &api))).await;
                    tokio::time::sleep(ms(30)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // As every application does before it exits.
    assert!(session.drain(s(20)).await);
    let report = std::mem::take(&mut *report.lock().unwrap());
    super::child::report(serde_json::to_string(&report).unwrap());
}

async fn work_once(session: &Session, report: &Mutex<Report>, api: Option<(&reqwest::Client, &String)>) {
    let begun = Instant::now();
    let token = session.token().await;
    let waited = begun.elapsed();
    {
        let mut report = report.lock().unwrap();
        report.calls += 1;
        report.longest_wait = report.longest_wait.max(waited);
        if let Err(error) = &token {
            report.errors.push(error.to_string());
        }
    }
    let (Ok(token), Some((http, api))) = (token, api) else { return };
    let answer = http.get(api).bearer_auth(token.secret()).send().await;
    let expired = SystemTime::now() >= token.expires_at().unwrap();
    let status = answer.as_ref().map(|answer| answer.status().as_u16()).unwrap_or_default();
    let body: serde_json::Value = match answer {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(error) => error.to_string().into(),
    };
    let mut report = report.lock().unwrap();
    report.api += 1;
    match (status, body["generation"].as_u64()) {
        (200, Some(generation)) => drop(report.generations.insert(generation)),
        (401, _) if expired => report.late += 1,
        _ => report.errors.push(format!("the API answered {status} {body}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_with_fifty_tasks_each_spend_every_refresh_token_once() {
    let server = start(Settings { access_token_lifetime: LIFE, ..strict() });
    let folder = Folder::new();
    log_in(&server, &elsewhere(&server, &folder), LIFE).await;
    let begun = Instant::now();
    let end = (SystemTime::now() + LASTS).duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    let processes: Vec<_> =
        (0..PROCESSES).map(|_| Process::start("work", server.issuer(), &folder.path(), &end)).collect();
    let told = tokio::task::spawn_blocking(move || {
        let hear = |mut process: Process| {
            let said = process.hear();
            process.succeeds();
            serde_json::from_str(&said).unwrap()
        };
        processes.into_iter().map(hear).collect::<Vec<Report>>()
    });
    let told = told.await.unwrap();
    let took = begun.elapsed();

    let counters = server.counters();
    let sum = |of: fn(&Report) -> u64| told.iter().map(of).sum::<u64>();
    let renewals = counters.requests_of("refresh_token");
    let longest_wait = told.iter().map(|report| report.longest_wait).max();
    println!(
        "{took:?}: {} calls, {} of the API ({} too late), {renewals} renewals, longest wait {longest_wait:?}",
        sum(|r| r.calls),
        sum(|r| r.api),
        sum(|r| r.late),
    );
    let errors: Vec<_> = told.iter().flat_map(|report| &report.errors).take(10).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(
        told.iter().all(|report| report.calls > 1000 && report.api > 0),
        "every process worked: {told:?}"
    );

    // One request for each generation, none with a spent refresh token, no logout.
    assert_refreshes(&server, renewals);
    assert_eq!(counters.token, renewals, "nothing else was asked for");
    // Every token was used: none was renewed away while it was fresh.
    let used: BTreeSet<u64> = told.iter().flat_map(|report| report.generations.iter().copied()).collect();
    let issued: BTreeSet<u64> = (1..=renewals + 1).collect();
    let unused: Vec<_> = issued.difference(&used).collect();
    assert!(unused.is_empty() || unused == [&(renewals + 1)], "never used: {unused:?}");
    // The early window of two seconds is 200 to 300 ms long.
    let most = (took.as_secs_f64() / 1.7) as u64 + 1;
    assert!((8..=most).contains(&renewals), "{renewals} renewals in {took:?}, and {most} at most");
    // The login lives.
    elsewhere(&server, &folder).refresh().await.unwrap();
    assert_refreshes(&server, renewals + 1);
}
