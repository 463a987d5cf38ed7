// The table of clients under the reader's eyes: rows change in place but neither come nor go by themselves. New
// matches are announced; what no longer belongs here is shown as it is now and marked, until the page is loaded again.

import { morph } from "./morph.js";

export function compareRows(body, page) {
  const fresh = rowsOf(page, "[data-live-rows] > tr");
  const left = rowsOf(page, "[data-left-rows] > tr");
  for (const row of [...(body?.children ?? [])]) {
    const newer = fresh.get(row.id) ?? left.get(row.id);
    fresh.delete(row.id);
    if (newer) {
      morph(row, document.adoptNode(newer));
    } else {
      markRemoved(row, body.dataset.removed);
    }
  }
  tell(fresh.size);
}

function rowsOf(page, selector) {
  return new Map([...page.querySelectorAll(selector)].map((row) => [row.id, row]));
}

function markRemoved(row, word) {
  const mark = row.querySelector(".left-mark") ?? document.createElement("span");
  mark.className = "tag left-mark";
  mark.textContent = word;
  row.classList.add("left");
  row.querySelector(".cell-status").append(mark);
}

function tell(count) {
  const place = document.querySelector("[data-newcomers]");
  const words = count === 1 ? place.dataset.one : place.dataset.many;
  place.hidden = count === 0;
  place.querySelector("a").textContent = words.replace("#", count);
}
