// Keeps the page up to date. Server-sent events say that something has changed; the regions of the page that show
// it are then fetched and changed in place. So the server words and draws everything, here and without JavaScript.
//
// data-live says what a region shows: "clients" (those on this page), "pulse" (their heartbeats and logs), "commands",
// "fleet" (totals, alerts and the number in the title), "recovery", "broker".

import { morph } from "./morph.js";
import { localise, setServerTime, show } from "./times.js";
import { Connection } from "./connection.js";
import { compareRows } from "./rows.js";

// Changes that come together are shown together; a flood of them is shown at this pace.
const GATHER = 150;
const PACE = 2_000;
const SLOWEST = 60_000;

const ROWS = "client-rows";
const MOST_NAMED = 3;

const seen = new Map();
const stale = new Set();
const outages = new Set([...document.querySelectorAll("[id^='outage-title-']")].map(({ id }) => id));
let waiting = false;
let lastFetch = 0;
let failures = 0;
let connection = null;

export function goLive(address) {
  rememberRows();
  // What is told to nobody, as the progress of a bulk action over thousands of clients, is asked for.
  setInterval(() => {
    if (!document.hidden && document.querySelector('[data-live~="poll"]')) {
      refresh("poll");
    }
  }, PACE);
  connection = new Connection(() => streamAddress(address), {
    hello: ({ generated_at: now }, again) => {
      setServerTime(now);
      if (again) {
        refresh();
      }
    },
    clients: (changed) => changed.forEach(clientChanged),
    alerts: (changed) => {
      announce(changed);
      refresh("fleet");
    },
    commands: () => refresh("commands"),
    totals: () => refresh("fleet"),
    removed: () => refresh(),
    broker: () => refresh("broker"),
    recovery: () => refresh("recovery"),
    reload: () => refresh(),
  });
}

// Only the clients on this page are asked for; alerts and totals are told to everybody.
function streamAddress(address) {
  const uuids = new Set([...document.querySelectorAll("[data-client]")].map((element) => element.dataset.client));
  const asked = uuids.size ? [...uuids].slice(0, 200) : ["00000000-0000-0000-0000-000000000000"];
  return `${address}?client_uuid=${asked.join(",")}`;
}

function rememberRows() {
  for (const element of document.querySelectorAll("[data-client][data-status]")) {
    if (!seen.has(element.dataset.client)) {
      seen.set(element.dataset.client, { status: element.dataset.status });
    }
  }
}

function clientChanged(client) {
  for (const holder of document.querySelectorAll(`[data-alive="${client.uuid}"]`)) {
    beat(holder, client.last_alive);
  }
  const before = seen.get(client.uuid);
  const whole = document.querySelector(`[data-whole="${client.uuid}"]`);
  const now = { status: client.status, rest: whole ? allButPulse(client) : digest(client) };
  seen.set(client.uuid, now);
  if (!before || before.status !== now.status || (before.rest ? before.rest !== now.rest : whole)) {
    refresh("clients");
  } else if (whole) {
    refresh("pulse");
  }
}

function allButPulse({ last_alive, clock_skew_seconds, heartbeat_interval_seconds, ...rest }) {
  return JSON.stringify(rest);
}

// All that a row shows of a client besides its pulse.
function digest(client) {
  const { name, hostname, site, ip, software_version, service_failed_at, mqtt_reconnect_count } = client;
  return JSON.stringify([name, hostname, site, ip, software_version, service_failed_at, mqtt_reconnect_count]);
}

function beat(holder, lastAlive) {
  let element = holder.querySelector("time");
  if (!element && lastAlive) {
    element = document.createElement("time");
    element.dataset.as = "ago";
    holder.replaceChildren(element);
  }
  if (element && lastAlive) {
    element.dateTime = lastAlive;
    show(element);
  }
}

// One announcement for all that happened together.
function announce(changed) {
  const announcer = document.querySelector("[data-announcer]");
  const told = changed.filter(({ status }) => announcer.dataset[status]).map((client) => {
    const name = client.name ?? client.hostname ?? client.uuid.slice(0, 8);
    return `${name}: ${announcer.dataset[client.status]}`;
  });
  if (told.length) {
    const rest = told.length - MOST_NAMED;
    const more = rest > 0 ? [announcer.dataset.more.replace("#", rest)] : [];
    announcer.textContent = [...told.slice(0, MOST_NAMED), ...more].join("; ");
  }
}

// An outage is announced once, by its heading, when it appears.
function announceOutages() {
  for (const heading of document.querySelectorAll("[id^='outage-title-']")) {
    if (!outages.has(heading.id)) {
      outages.add(heading.id);
      document.querySelector("[data-announcer]").textContent = heading.textContent.trim().replace(/\s+/g, " ");
    }
  }
}

function refresh(kind) {
  for (const { id, kinds } of regions()) {
    if (!kind || kinds.split(" ").includes(kind)) {
      stale.add(id);
    }
  }
  fetchSoon();
}

function fetchSoon() {
  if (stale.size && !waiting) {
    waiting = true;
    const pace = Math.min(PACE * 2 ** failures, SLOWEST);
    setTimeout(fetchParts, Math.max(GATHER, lastFetch + pace - Date.now()));
  }
}

function regions() {
  const found = [...document.querySelectorAll("[data-live]")].map(({ id, dataset }) => ({ id, kinds: dataset.live }));
  return document.querySelector("[data-newcomers]") ? [...found, { id: ROWS, kinds: "clients commands fleet recovery" }] : found;
}

// Sends a form and shows what came of it in place; the page that the server leads to is asked for its regions only.
export async function actInPlace(address, fields) {
  const asked = new Set(["flash", ...regions().map(({ id }) => id)]);
  const headers = partsHeaders(asked);
  const response = await fetch(address, { method: "POST", body: fields, headers });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const there = new URL(response.url);
  const here = response.redirected && there.pathname === location.pathname;
  if (response.ok && here) {
    apply(page, asked);
  }
  return { ok: response.ok, here, page, address: response.url };
}

// The answer to a form that is another page than this one, or an error.
export function showWhole({ ok, page, address }) {
  if (ok) {
    location.assign(address);
    return;
  }
  document.querySelector("dialog[open]")?.close();
  localise(page);
  document.title = page.title;
  document.querySelector("main").replaceWith(document.adoptNode(page.querySelector("main")));
  document.querySelector("main").focus();
}

function partsHeaders(asked) {
  const headers = { "X-Live": [...asked].join(",") };
  if (asked.has(ROWS)) {
    headers["X-Rows"] = [...document.querySelectorAll("[data-live-rows] > tr")].map((row) => row.dataset.client).join(",");
  }
  return headers;
}

async function fetchParts() {
  const asked = new Set(stale);
  stale.clear();
  lastFetch = Date.now();
  let done = false;
  try {
    const response = await fetch(location.href, { headers: partsHeaders(asked) });
    if (response.redirected || response.status === 401 || response.status === 404) {
      location.reload();
      return;
    }
    if (response.ok) {
      apply(new DOMParser().parseFromString(await response.text(), "text/html"), asked);
      connection.heard();
      done = true;
    }
  } catch {
    // Told by the connection; what was asked for is asked for again.
  }
  failures = done ? 0 : failures + 1;
  waiting = false;
  if (!done) {
    asked.forEach((id) => stale.add(id));
  }
  fetchSoon();
}

function lines() {
  return [...document.querySelectorAll("#history li[id]")];
}

// A history that fills the window is being read: what is new in it waits behind a button instead of pushing it down.
function isRead(history) {
  const place = history?.getBoundingClientRect();
  return Boolean(place) && place.top < innerHeight / 2 && place.bottom > 0 && scrollY > 0;
}

function holdBack(known) {
  for (const line of lines()) {
    if (!known.has(line.id)) {
      line.dataset.held = "";
      line.hidden = true;
    }
  }
  const button = document.querySelector("[data-newer]");
  const held = lines().filter(({ dataset }) => "held" in dataset);
  if (!button || !held.length) {
    return;
  }
  button.textContent = held.length === 1 ? button.dataset.one : button.dataset.many.replace("#", held.length);
  button.hidden = false;
  button.onclick = release;
}

function release() {
  for (const line of lines()) {
    delete line.dataset.held;
    line.hidden = false;
  }
  document.querySelector("[data-newer]")?.setAttribute("hidden", "");
}

function apply(fresh, asked) {
  localise(fresh);
  document.title = fresh.title;
  const before = streamAddress("");
  const known = new Set(lines().map(({ id }) => id));
  const reading = isRead(document.getElementById("history"));
  for (const region of document.querySelectorAll("[data-live], #flash")) {
    if (!asked.has(region.id)) {
      continue;
    }
    const newer = fresh.getElementById(region.id);
    if (!newer) {
      // It has become a page of another kind: the first client has come, or the last one is gone.
      location.reload();
      return;
    }
    morph(region, document.adoptNode(newer));
  }
  if (asked.has(ROWS)) {
    compareRows(document.querySelector("[data-live-rows]"), fresh);
  }
  if (reading) {
    holdBack(known);
  } else {
    release();
  }
  rememberRows();
  announceOutages();
  if (streamAddress("") !== before) {
    connection.open();
  }
}
