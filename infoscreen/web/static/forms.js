// Forms. A second click on one that is at work does nothing; and one that leads back to this page is sent without
// leaving it: what has changed is shown in place, focus and scroll stay where the work is, and the answer is a toast.

import { actInPlace, showWhole } from "./live.js";

const TOAST = 10_000;

let fading = null;

export function guardForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") {
      return;
    }
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    if (staysHere(form)) {
      event.preventDefault();
      send(form, event.submitter);
    }
  });
  // A page that comes back from the history must be usable again.
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
    }
  });
}

function staysHere(form) {
  const next = form.elements.namedItem("next")?.value;
  const kept = ["/language", "/theme"].includes(form.getAttribute("action"));
  return Boolean(document.body.dataset.events) && !kept && next === location.pathname + location.search;
}

async function send(form, submitter) {
  const place = placeOf(form);
  const dialog = form.closest("dialog");
  try {
    const answer = await actInPlace(form.getAttribute("action"), new URLSearchParams(new FormData(form, submitter)));
    if (answer.ok && answer.here) {
      dialog?.close();
      toast();
      goBackTo(place);
    } else if (dialog && answer.page?.querySelector("[data-confirm-body]")) {
      // Refused: the question again, with what was typed and with what is wrong.
      dialog.replaceChildren(document.adoptNode(answer.page.querySelector("[data-confirm-body]")));
      dialog.querySelector("[role=alert]")?.setAttribute("tabindex", "-1");
      dialog.querySelector("[role=alert]")?.focus();
    } else {
      showWhole(answer);
    }
  } catch {
    // Nothing came back: the browser itself says why when it sends the form again.
    form.submit();
  } finally {
    delete form.dataset.sent;
  }
}

// Where the work is: the row of what was acted upon, or of the link that opened the dialog, and its neighbours.
function placeOf(form) {
  const opener = form.closest("dialog")?.opener ?? form;
  const row = opener.closest("li[id], tr[id], section, details.panel");
  const following = row?.matches("li, tr") ? [row, row.nextElementSibling, row.previousElementSibling] : [row];
  const region = opener.closest("[data-live]");
  return { ids: following.map((one) => one?.id).filter(Boolean), region: region?.id };
}

function goBackTo({ ids, region }) {
  if (document.activeElement && document.activeElement !== document.body && !document.activeElement.closest("dialog")) {
    return;
  }
  const row = ids.map((id) => document.getElementById(id)).find(Boolean);
  const target = row?.querySelector("a.row-name, a, button, summary") ?? document.getElementById(region)?.querySelector("h2") ?? document.querySelector("h1");
  if (target?.matches("h1, h2")) {
    target.tabIndex = -1;
  }
  target?.focus({ preventScroll: true });
}

// The message of an act: at the foot of the window for ten seconds, longer while somebody points at it or is in it.
function toast() {
  const place = document.getElementById("flash");
  const shown = place?.querySelector(".flash");
  clearTimeout(fading);
  place?.classList.toggle("toast", Boolean(shown));
  if (shown) {
    const fade = () => {
      if (place.matches(":hover, :focus-within")) {
        fading = setTimeout(fade, 1_000);
      } else {
        place.replaceChildren();
      }
    };
    fading = setTimeout(fade, TOAST);
  }
}
