// Runs an action of a person: says that it is busy, what went wrong, and what happens next.

import { elements, state } from "../state.js";
import { ServiceError, listenForWaits, pause } from "./call.js";

const BUSY_AFTER_MS = 150;
const RETURN_CHECK_MS = 2000;
let running = 0;
let isLong = false; // what is running takes longer than BUSY_AFTER_MS
let waitSeconds = 0; // until a busy service is asked again
let watch = new AbortController();

/** Run `action`. If the service is gone, run `again` when it is back. */
export async function attempt(action, again = action) {
  watch.abort();
  elements.error.hidden = elements["key-form"].hidden = true;
  const timer = setTimeout(() => {
    isLong = true;
    showBusy();
  }, BUSY_AFTER_MS);
  running++;
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") show(error, again);
  } finally {
    clearTimeout(timer);
    if (--running === 0) isLong = false;
    showBusy();
  }
}

export const showError = (message) => {
  elements.error.textContent = message;
  elements.error.hidden = false;
};

function show(error, again) {
  if (!(error instanceof ServiceError)) throw error;
  if (error.status === 401) {
    elements["key-form"].hidden = false;
    elements["key-error"].textContent = error.isWrongKey ? error.message : "";
    elements.key.focus();
  } else if (error.status === 0) {
    showError("The service does not answer. This page asks it every 2 seconds and goes on when it is back.");
    watchForReturn(again);
  } else {
    showError(error.message);
  }
}

async function watchForReturn(again) {
  watch = new AbortController();
  const { signal } = watch;
  try {
    for (;;) {
      await pause(RETURN_CHECK_MS, signal);
      const response = await fetch("/livez", { signal }).catch(() => null);
      if (response?.ok) return await attempt(again);
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

function showBusy() {
  const isBusy = isLong || (running > 0 && waitSeconds > 0);
  elements.viewport.classList.toggle("busy", isBusy);
  elements.viewport.ariaBusy = String(isBusy);
  elements["busy-text"].textContent = isBusy ? describeBusy() : "";
}

function describeBusy() {
  if (waitSeconds) return `The service is busy. It is asked again in ${waitSeconds} s.`;
  return state.model ? "The model is looking at the picture …" : "Waiting for a model …";
}

listenForWaits((seconds) => {
  waitSeconds = seconds;
  showBusy();
});
