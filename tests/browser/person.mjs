#!/usr/bin/env node
// Somebody who signs in at the pages that a browser is sent to: headless Chromium, which this drives by its own protocol
// (Chrome DevTools Protocol) over a pipe. It needs Node and Chromium, and no package.
//
//     person.mjs URL
//
// What the person does is in the environment, because a program that is `$BROWSER` gets the URL alone:
//   PERSON_CHROMIUM   the browser's program
//   PERSON_NAME, PERSON_PASSWORD   what is typed where somebody is asked for it
//   PERSON_DENIES     set: refuses what is asked for consent
//   PERSON_PROFILE    a folder whose cookies outlive this run, as those of a browser that stays open
//   PERSON_REPORT     a file for what was done and seen, written in one piece in the end
// It stops at a page of another origin than the URL's, or where it knows nothing to do.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const PATIENCE = 60_000;
const { PERSON_CHROMIUM, PERSON_NAME, PERSON_PASSWORD, PERSON_DENIES, PERSON_PROFILE, PERSON_REPORT } = process.env;

/** A browser at the other end of two pipes; messages end with a NUL. */
class Chromium {
  #calls = new Map();
  #last = 0;
  #rest = '';

  constructor(program, folder) {
    const flags = [
      '--headless', '--remote-debugging-pipe', `--user-data-dir=${folder}`, '--no-first-run', '--disable-gpu',
      '--disable-sync', '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]',
    ];
    if (process.getuid?.() === 0) flags.push('--no-sandbox');
    this.process = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.process.on('error', (error) => this.#end(error));
    this.process.on('exit', () => this.#end(new Error('the browser ended')));
    this.process.stdio[3].on('error', (error) => this.#end(error));
    this.process.stdio[4].setEncoding('utf8').on('data', (text) => this.#take(text));
  }

  call(method, params = {}, sessionId = undefined) {
    const id = (this.#last += 1);
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return answer;
  }

  #take(text) {
    const messages = (this.#rest + text).split('\0');
    this.#rest = messages.pop();
    for (const { id, result, error } of messages.map((message) => JSON.parse(message))) {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) call?.reject(new Error(error.message));
      else call?.resolve(result);
    }
  }

  /** Lets it write what it keeps, and end. */
  async close() {
    const ended = once(this.process, 'exit');
    this.call('Browser.close').catch(() => {});
    await Promise.race([ended, pause(5_000)]);
  }

  #end(error) {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}

/** The one page that is open. */
class Tab {
  static async open(chromium) {
    const { targetId } = await chromium.call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await chromium.call('Target.attachToTarget', { targetId, flatten: true });
    return Object.assign(new Tab(), { chromium, sessionId });
  }

  call(method, params) {
    return this.chromium.call(method, params, this.sessionId);
  }

  /** What a function says in the page; undefined while the page is changing. */
  async ask(question, ...values) {
    const expression = `(${question})(...${JSON.stringify(values)})`;
    try {
      return (await this.call('Runtime.evaluate', { expression, returnByValue: true, userGesture: true })).result.value;
    } catch (error) {
      if (this.chromium.process.exitCode !== null) throw error;
      return undefined;
    }
  }

  async type(selector, text) {
    await this.ask((selector) => document.querySelector(selector).select(), selector);
    await this.call('Input.insertText', { text });
  }
}

/** What the page asks, and what is to be read on it. */
function look() {
  if (document.readyState !== 'complete') return undefined;
  const visible = (selector) => {
    const found = [...document.querySelectorAll(selector)].find((element) => element.checkVisibility());
    return found !== undefined;
  };
  return {
    url: location.href,
    origin: location.origin,
    title: document.title,
    text: document.body.innerText.replace(/\s+/g, ' ').trim(),
    role: document.querySelector('[role]')?.getAttribute('role') ?? '',
    asksName: visible('#username'),
    asksPassword: visible('#password'),
    asksConsent: visible('[name=accept]') && visible('[name=cancel]'),
  };
}

async function signIn(tab, url) {
  const home = new URL(url).origin;
  const did = { typed: 0, consented: 0, denied: 0 };
  const until = Date.now() + PATIENCE;
  const { errorText } = await tab.call('Page.navigate', { url });
  if (errorText) throw new Error(`${url}: ${errorText}`);
  let acted;
  for (;;) {
    if (Date.now() > until) throw new Error(`nothing more happens at ${acted ?? url}`);
    await pause(100);
    const page = await tab.ask(look);
    if (!page || page.url === 'about:blank') continue;
    if (page.origin !== home) return { ...page, ...did };
    // A form that was sent off, or that sends itself, is about to lead elsewhere.
    if (page.url === acted) continue;
    if (page.asksConsent) {
      did[PERSON_DENIES ? 'denied' : 'consented'] += 1;
      acted = page.url;
      await tab.ask((name) => document.querySelector(`[name=${name}]`).click(), PERSON_DENIES ? 'cancel' : 'accept');
    } else if (page.asksPassword) {
      if (did.typed) return { ...page, ...did };
      did.typed += 1;
      acted = page.url;
      if (page.asksName) await tab.type('#username', PERSON_NAME);
      await tab.type('#password', PERSON_PASSWORD);
      await tab.ask(() => document.querySelector('#password').form.requestSubmit());
    } else if (/error/i.test(page.title + page.text) || (page.text && !(await tab.ask(() => document.forms.length)))) {
      return { ...page, ...did };
    }
  }
}

const folder = mkdtempSync(path.join(tmpdir(), 'person-'));
const cookieFile = PERSON_PROFILE && path.join(PERSON_PROFILE, 'cookies.json');
const chromium = new Chromium(PERSON_CHROMIUM ?? 'chromium', folder);
process.on('exit', () => {
  chromium.process.kill('SIGKILL');
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // One of its processes still writes there.
  }
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));

let report;
try {
  const tab = await Tab.open(chromium);
  if (cookieFile && existsSync(cookieFile)) {
    await chromium.call('Storage.setCookies', { cookies: JSON.parse(readFileSync(cookieFile, 'utf8')) });
  }
  report = await signIn(tab, process.argv[2]);
  if (cookieFile) {
    const { cookies } = await chromium.call('Storage.getCookies');
    writeFileSync(cookieFile, JSON.stringify(cookies));
  }
} catch (error) {
  report = { error: String(error.message ?? error) };
}
await chromium.close();
if (PERSON_REPORT) {
  writeFileSync(`${PERSON_REPORT}.part`, JSON.stringify(report));
  renameSync(`${PERSON_REPORT}.part`, PERSON_REPORT);
} else {
  console.log(JSON.stringify(report));
}
process.exit(report.error ? 1 : 0);
