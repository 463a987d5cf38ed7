// The table of clients under the reader's eyes: rows change in place but neither come nor go by themselves. New
// matches are announced; what matches no longer is dimmed until the page is loaded again.

import { morph } from "./morph.js";

export function compareRows(body, page) {
  const fresh = new Map([...page.querySelectorAll("[data-live-rows] > tr")].map((row) => [row.id, row]));
  for (const row of [...(body?.children ?? [])]) {
    const newer = fresh.get(row.id);
    fresh.delete(row.id);
    if (newer) {
      morph(row, document.adoptNode(newer));
    } else {
      row.classList.add("gone");
    }
  }
  tell(fresh.size);
}

function tell(count) {
  const place = document.querySelector("[data-newcomers]");
  const words = count === 1 ? place.dataset.one : place.dataset.many;
  place.hidden = count === 0;
  place.querySelector("a").textContent = words.replace("#", count);
}
