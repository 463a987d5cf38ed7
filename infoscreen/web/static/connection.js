// The stream of events, and the truth about it: when it is silent or lost, the page says so and from when it is.

import { serverNow, show } from "./times.js";

// The server says something at least every 2 s; twice that is a dead line.
const SILENCE = 4_000;
const WATCH_EVERY = 500;
const PATIENCE = 2_000;
const RETRY = 3_000;

// A browser keeps six lines to one server. Tabs that nobody looks at give theirs back, and ask once a minute so
// that the number in their title stays true.
const REST_AFTER = 20_000;
const REST_ASKS_EVERY = 60_000;

export class Connection {
  #addressOf;
  #handlers;
  #lamp = document.querySelector("[data-live-lamp]");
  #banner = document.querySelector("[data-lost]");
  #stand = document.querySelector("[data-stand] time");
  #source = null;
  #greeted = false;
  #resting = false;
  #lastSign = Date.now();
  #nextTry = 0;
  #timers = {};

  constructor(addressOf, handlers) {
    this.#addressOf = addressOf;
    this.#handlers = handlers;
    this.open();
    setInterval(() => this.#watch(), WATCH_EVERY);
    setInterval(() => this.#resting && handlers.reload(), REST_ASKS_EVERY);
    document.addEventListener("visibilitychange", () => this.#seenOrUnseen());
  }

  // Opens a stream for what the page shows now. The one before goes when the new one speaks.
  open() {
    clearTimeout(this.#timers.retry);
    const previous = this.#source;
    const source = new EventSource(this.#addressOf());
    this.#source = source;
    for (const [name, handle] of Object.entries({ alive: () => {}, ...this.#handlers })) {
      source.addEventListener(name, (event) => {
        previous?.close();
        this.heard();
        const again = this.#greeted;
        this.#greeted ||= name === "hello";
        handle(JSON.parse(event.data), again);
      });
    }
    source.addEventListener("error", () => {
      if (source === this.#source) {
        this.#failed(source);
      }
    });
  }

  // The server has just been heard: what is on the page is true.
  heard() {
    this.#lastSign = Date.now();
    stamp(this.#stand, serverNow());
    if (this.#resting) {
      return;
    }
    clearTimeout(this.#timers.lost);
    this.#timers.lost = null;
    this.#banner.hidden = true;
    this.#lamp.hidden = false;
    this.#lamp.dataset.greeted = "";
  }

  #failed(source) {
    this.#lost();
    // A browser tries again by itself after a broken line, but not after a refusal.
    if (source.readyState === EventSource.CLOSED) {
      clearTimeout(this.#timers.retry);
      this.#timers.retry = setTimeout(() => this.open(), RETRY);
    }
  }

  #lost() {
    this.#lamp.hidden = true;
    this.#timers.lost ??= setTimeout(() => {
      stamp(this.#banner.querySelector("time"), this.#lastSign + serverNow() - Date.now());
      this.#banner.hidden = false;
    }, PATIENCE);
  }

  #watch() {
    const now = Date.now();
    if (!this.#resting && now - this.#lastSign > SILENCE && now > this.#nextTry) {
      this.#nextTry = now + 2 * RETRY;
      this.#lost();
      this.#source.close();
      this.open();
    }
  }

  #seenOrUnseen() {
    clearTimeout(this.#timers.rest);
    if (document.visibilityState === "hidden") {
      this.#timers.rest = setTimeout(() => {
        this.#resting = true;
        this.#lamp.hidden = true;
        clearTimeout(this.#timers.retry);
        this.#source.close();
      }, REST_AFTER);
    } else if (this.#resting) {
      this.#resting = false;
      this.#lastSign = Date.now();
      this.open();
    }
  }
}

function stamp(element, at) {
  if (element) {
    element.dateTime = new Date(at).toISOString();
    show(element);
  }
}
