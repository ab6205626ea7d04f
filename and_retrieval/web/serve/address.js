// The state of the page is its address, so that a link shows the same.

const MANY = new Set(["q", "minus", "like"]);
const changed = new Set();

export function state() {
  const asked = new URLSearchParams(location.search);
  const values = {
    view: "overview", run: "", for: "neurons", layer: "", reliable: "", kind: "", words: "", starred: "", sort: "",
    unit: "", lasso: "", list: "", a: "", b: "", concept: "", job: "", sound: "",
  };
  for (const name of Object.keys(values)) values[name] = asked.get(name) ?? values[name];
  for (const name of MANY) values[name] = asked.getAll(name).filter(Boolean);
  return values;
}

// Goes to the address with these values changed; `quiet` replaces the entry of the history and draws nothing.
export function go(changes, { replace = false, quiet = false } = {}) {
  const address = addressWith(changes);
  if (replace || quiet) history.replaceState(null, "", address);
  else if (address !== location.pathname + location.search) history.pushState(null, "", address);
  if (!quiet) changed.forEach((listener) => listener());
}

export function addressWith(changes) {
  const values = { ...state(), ...changes };
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one && !(name === "for" && one === "neurons")) asked.append(name, one);
  }
  return `/?${asked}`;
}

export function onChange(listener) {
  changed.add(listener);
}
window.addEventListener("popstate", () => changed.forEach((listener) => listener()));

// ---------- the search box ----------

const UNIT = /^\S+:\d+$/;

export function parsed(text) {
  const query = { q: [], minus: [], like: [] };
  for (const part of text.split(",").map((piece) => piece.trim()).filter(Boolean)) {
    if (part.startsWith("-") && part.slice(1).trim()) query.minus.push(part.slice(1).trim());
    else if (UNIT.test(part)) query.like.push(part);
    else query.q.push(part.replace(/^\+/, "").trim());
  }
  return query;
}

export const NO_QUERY = { q: [], minus: [], like: [], sound: "" };
export const written = ({ q, minus, like }) => [...q, ...like, ...minus.map((text) => `-${text}`)].join(", ");
export const asks = ({ q, minus, like, sound }) => q.length + minus.length + like.length > 0 || Boolean(sound);
