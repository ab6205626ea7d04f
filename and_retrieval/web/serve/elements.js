// Elements, and numbers in words. Text that comes from outside is only ever set as text.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "value" || name === "checked" || name === "selected") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const minus = (text) => String(text).replaceAll("-", "−");
export const fixed = (value, digits = 2) =>
  (value === null || value === undefined ? "–" : minus((Math.round(value * 10 ** digits) / 10 ** digits + 0).toFixed(digits)));
export const seconds = (value) => `${value.toFixed(2)}\u00a0s`;

export function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.5) return "<1\u00a0%";
  return `${share < 100 ? Math.min(99, Math.round(share)) : 100}\u00a0%`;
}

export function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const plain = size >= 1000 ? value.toFixed(0) : value.toPrecision(3);
  return minus(size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(2) : plain);
}

export function track(share) {
  const fill = el("span");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "track", "aria-hidden": "true" }, fill);
}

export const VERDICTS = {
  holds: "holds on unseen clips",
  fails: "does not hold on unseen clips",
  untested: "not tested on unseen clips",
};
export const KINDS = { concept: "concept", acoustic: "acoustic", both: "both", none: "nothing reliable" };
export const KIND_WORDS = {
  concept: "Its label says more of it than measured sound does.",
  acoustic: "Qualities of sound explain it, whatever makes the sound.",
  both: "Its label and measured sound explain it equally well.",
};

export const badge = (verdict) => el("span", { class: `badge ${verdict}` }, VERDICTS[verdict]);

export function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  select.value = chosen;
}

// What stands in a view until its content is there, or where there is none.
export const waiting = (text) => el("p", { class: "waiting", role: "status" }, text);
export const failed = (error) => el("p", { class: "note", role: "alert" }, error.message);

export function frame(...children) {
  byId("view").replaceChildren(...children.flat().filter(Boolean));
}
