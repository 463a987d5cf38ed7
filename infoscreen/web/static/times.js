// Puts the reader's own zone and words in place of the UTC that the server has written.

// The page's language, in the reader's own variety of it (English at 7 pm or at 19:00).
const spoken = document.documentElement.lang;
const language = navigator.languages.find((tag) => tag.split("-")[0] === spoken) ?? spoken;
const moment = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
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
  const whole = moment.format(at);
  if (element.dataset.as !== "moment" && element.title !== whole) {
    element.title = whole;
  }
}

export function keepTimesFresh() {
  setInterval(() => {
    if (document.visibilityState === "visible") {
      for (const element of document.querySelectorAll('time[data-as="ago"], time[data-as="lasting"], time[data-as="left"]')) {
        show(element);
      }
    }
  }, 1_000);
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
      return clock.format(at);
    default:
      return moment.format(at);
  }
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
