// Requests to the server of this page. The token comes with the printed address, after the #, and is kept for this
// origin; it is sent as a header, never in an address.

const LARGEST = 128 * 2 ** 20; // bytes of a sound; the server takes no more
const KEPT = "and_retrieval token";
const GONE = "The server does not answer. It may have been stopped; start it again: and-retrieval serve";

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token") ?? new URLSearchParams(location.search).get("token");
  if (given) {
    localStorage.setItem(KEPT, given);
    const address = new URL(location);
    address.searchParams.delete("token");
    address.hash = "";
    history.replaceState(history.state, "", address);
  }
  return given ?? localStorage.getItem(KEPT);
}

const token = takeToken();
export const hasToken = () => Boolean(token);

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answered(path, settings = {}) {
  let response;
  try {
    response = await fetch(path, { ...settings, headers: { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...settings.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(GONE, 0);
  }
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error; } catch { /* not JSON: the status says enough */ }
  throw new ServerError(message, response.status);
}

function addressOf(path, parameters) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== "" && one !== null && one !== undefined && one !== false) asked.append(name, one);
  }
  return `${path}?${asked}`;
}

export const get = async (path, parameters = {}, signal = undefined) => (await answered(addressOf(path, parameters), { signal })).json();

export const send = async (method, path, body, parameters = {}) => (await answered(addressOf(path, parameters), {
  method, body: body === undefined ? undefined : JSON.stringify(body), headers: { "Content-Type": "application/json" },
})).json();

export async function sendSound(path, sound, parameters = {}) {
  if (sound.size > LARGEST) throw new ServerError(`${sound.name} has more than 128 MiB. Choose a shorter sound, or a compressed one.`, 413);
  const headers = { "Content-Type": /^audio\//.test(sound.type) ? sound.type : "audio/unknown" };
  return (await answered(addressOf(path, parameters), { method: "POST", body: sound, headers })).json();
}

export const unitPath = (layer, unit) => `/api/units/${encodeURIComponent(layer)}:${unit}`;
export const clipPath = (index, row, kind) => `/clip/${encodeURIComponent(index)}/${row}.${kind}`;

// Server-sent events, read as a stream because an EventSource cannot send the token.
export async function watch(path, seen) {
  const response = await answered(path);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => { throw new ServerError(GONE, 0); });
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) seen(JSON.parse(line.slice(5)));
  }
}

export async function download(path, name, parameters = {}) {
  const blob = await (await answered(addressOf(path, parameters))).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
