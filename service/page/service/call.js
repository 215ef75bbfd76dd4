// Calls the service and waits when it asks to. Knows nothing about the document.

const KEY_NAME = "sightglass-key";
const BUSY = [429, 503];
const MAX_TRIES = 10;
const MAX_WAIT_S = 30;

/** An error that the service answered with. Its message is the service's own sentence. Status 0: it does not answer. */
export class ServiceError extends Error {
  constructor(status, message, isWrongKey = false) {
    super(message);
    Object.assign(this, { status, isWrongKey });
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY_NAME, key);
export const getKey = () => sessionStorage.getItem(KEY_NAME);
export const hasKey = () => getKey() !== null;

let onWait = () => {};
/** Call `listener` with the seconds until a busy service is asked again, and with 0 when it is. */
export const listenForWaits = (listener) => (onWait = listener);

/** Fetch a path. A busy service is asked again after the time that it names. */
export async function call(path, options = {}) {
  for (let tries = 1; ; tries++) {
    const response = await request(path, options);
    if (response.ok) return response;
    const error = await readError(response);
    if (!BUSY.includes(error.status) || tries === MAX_TRIES) throw error;
    await wait(readRetryAfter(response), options.signal);
  }
}

/** Wait some milliseconds, or fail as soon as `signal` aborts. */
export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("The person wants something else.", "AbortError"));
    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop, { once: true });
    setTimeout(resolve, ms);
  });

async function request(path, options) {
  const key = getKey();
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not answer.");
  }
}

async function readError(response) {
  const answer = await response.json().catch(() => null);
  if (response.status === 401 && hasKey()) {
    sessionStorage.removeItem(KEY_NAME);
    return new ServiceError(401, "The service does not know this key. Check it and enter it again.", true);
  }
  return new ServiceError(
    response.status,
    answer?.error?.message ?? `The service answered with status ${response.status}.`,
  );
}

const readRetryAfter = (response) =>
  Math.min(Math.max(Number(response.headers.get("retry-after")) || 1, 1), MAX_WAIT_S);

async function wait(seconds, signal) {
  try {
    for (let left = seconds; left > 0; left--) {
      onWait(left);
      await pause(1000, signal);
    }
  } finally {
    onWait(0);
  }
}
