// Keeps the page true. Server-sent events say that something has changed; the page is then fetched once more and
// what differs is changed in place. So the server words and draws everything, here and without JavaScript alike.

import { morph } from "./morph.js";
import { localise, setServerTime, show } from "./times.js";
import { Connection } from "./connection.js";
import { compareRows } from "./rows.js";

// Changes that come together are shown together; a flood of them is shown at this pace.
const GATHER = 150;
const PACE = 2_000;

const seen = new Map();
let wanted = 0;
let fetching = false;
let lastFetch = 0;
let connection = null;

export function goLive(address) {
  rememberRows();
  connection = new Connection(() => streamAddress(address), {
    hello: ({ generated_at: now }, again) => {
      setServerTime(now);
      if (again) {
        refresh();
      }
    },
    clients: (changed) => changed.forEach(clientChanged),
    alerts: (changed) => {
      changed.forEach(announce);
      refresh();
    },
    commands: refresh,
    totals: refresh,
    removed: refresh,
    broker: refresh,
    recovery: refresh,
    reload: refresh,
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
  const now = { status: client.status, rest: digest(client) };
  seen.set(client.uuid, now);
  const whole = document.querySelector(`[data-whole="${client.uuid}"]`);
  if (whole || !before || before.status !== now.status || (before.rest && before.rest !== now.rest)) {
    refresh();
  }
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

function announce(client) {
  const announcer = document.querySelector("[data-announcer]");
  const name = client.name ?? client.hostname ?? client.uuid.slice(0, 8);
  const sentence = announcer.dataset[client.status] ?? "";
  if (sentence) {
    announcer.textContent = `${name}: ${sentence}`;
  }
}

function refresh() {
  wanted += 1;
  if (wanted === 1 && !fetching) {
    setTimeout(fetchPage, Math.max(GATHER, lastFetch + PACE - Date.now()));
  }
}

async function fetchPage() {
  fetching = true;
  wanted = 0;
  lastFetch = Date.now();
  try {
    const response = await fetch(location.href, { headers: { "X-Live": "1" } });
    if (response.redirected || response.status === 401) {
      location.reload();
      return;
    }
    if (response.ok) {
      apply(new DOMParser().parseFromString(await response.text(), "text/html"));
      connection.heard();
    } else if (response.status === 404) {
      location.reload();
    } else {
      retryLater();
    }
  } catch {
    retryLater();
  } finally {
    fetching = false;
  }
  if (wanted) {
    wanted = 0;
    refresh();
  }
}

function retryLater() {
  setTimeout(refresh, PACE);
}

function apply(fresh) {
  localise(fresh);
  document.title = fresh.title;
  const before = streamAddress("");
  for (const region of document.querySelectorAll("[data-live]")) {
    const newer = fresh.getElementById(region.id);
    if (!newer) {
      // It has become a page of another kind: the first client has come, or the last one is gone.
      location.reload();
      return;
    }
    morph(region, document.adoptNode(newer));
  }
  if (document.querySelector("[data-newcomers]")) {
    compareRows(document.querySelector("[data-live-rows]"), fresh);
  }
  rememberRows();
  if (streamAddress("") !== before) {
    connection.open();
  }
}
