// Keeps times true: ages go on, and what the server wrote for another time zone is put into the reader's own.

const spoken = document.documentElement.lang;
const language = navigator.languages.find((tag) => tag.split("-")[0] === spoken) ?? spoken;
const months = document.body.dataset.months.split(" ");
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
const units = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
];

// How far the server's clock is ahead of ours; ages are counted on the server's. The page says when it was made.
let ahead = 0;
const made = document.querySelector("[data-stand] time");
if (made) {
  setServerTime(made.dateTime);
}

export function setServerTime(iso) {
  ahead = Date.parse(iso) - Date.now();
}

export function serverNow() {
  return Date.now() + ahead;
}

export function localise(root) {
  for (const element of root.querySelectorAll("time[data-as]")) {
    show(element);
  }
}

export function show(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) {
    return;
  }
  const text = wording(element, at);
  if (element.textContent !== text) {
    element.textContent = text;
  }
  const whole = utc(at);
  if (element.title !== whole) {
    element.title = whole;
  }
}

// The server writes times for this zone from the next page on.
export function tellZone() {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `infoscreen_zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
}

export function keepTimesFresh() {
  setInterval(() => {
    if (document.visibilityState === "visible") {
      for (const element of document.querySelectorAll('time[data-as="ago"], time[data-as="lasting"], time[data-as="left"]')) {
        show(element);
      }
      markOld(document);
    }
  }, 1_000);
}

// Values that nothing newer has replaced in time are shown as old.
export function markOld(root) {
  for (const element of root.querySelectorAll("[data-fresh-until]")) {
    element.classList.toggle("old", Date.parse(element.dataset.freshUntil) < serverNow());
  }
}

function wording(element, at) {
  switch (element.dataset.as) {
    case "ago":
      return ago(at);
    case "lasting":
      return element.dataset.words.replace("#", amount(at));
    case "left":
      return left(element, at);
    case "clock":
      return clock(at);
    default:
      return moment(at);
  }
}

// The same as on the server: no date when it is today, no year when it is this one.
function moment(at) {
  const today = new Date(serverNow());
  if (at.toDateString() === today.toDateString()) {
    return clock(at);
  }
  const day = spoken === "de" ? `${at.getDate()}.` : at.getDate();
  const year = at.getFullYear() === today.getFullYear() ? "" : ` ${at.getFullYear()}`;
  return `${day} ${months[at.getMonth()]}${year}, ${clock(at)}`;
}

function clock(at) {
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(twoDigits).join(":");
}

function utc(at) {
  const [day, time] = at.toISOString().slice(0, 19).split("T");
  return `${spoken === "de" ? day.split("-").reverse().join(".") : day} ${time} UTC`;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

function ago(at) {
  const [count, unit] = passed(at);
  return relative.format(-count, unit);
}

function amount(at) {
  const [count, unit] = passed(at);
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(count);
}

// A countdown; what is over is about to happen, since the server looks only every few seconds.
function left(element, at) {
  const seconds = Math.ceil((at.getTime() - serverNow()) / 1_000);
  if (seconds <= 0) {
    return element.dataset.over;
  }
  const [unit, size] = seconds < 120 ? ["second", 1] : seconds < 7_200 ? ["minute", 60] : ["hour", 3_600];
  const format = new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" });
  return element.dataset.words.replace("#", format.format(Math.ceil(seconds / size)));
}

function passed(at) {
  // What was written a moment ago by a clock a little ahead of ours is "now", not in the future.
  const length = Math.max(0, serverNow() - at.getTime());
  const [unit, size] = units.find(([, size]) => length >= size) ?? units.at(-1);
  return [Math.floor(length / size), unit];
}
