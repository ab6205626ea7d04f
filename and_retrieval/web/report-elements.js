"use strict";
// Draws the page from the JSON blocks above it. Text that came from outside only ever goes through
// textContent; the markup is built element by element.

const PAGE = 24;
const FIRST_LAYERS = 6;
const data = JSON.parse(document.getElementById("report").textContent);
const units = data.units;
const FIRST_CLIPS = data.sound.first;
const byId = (id) => document.getElementById(id);

// ---------- elements ----------

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const seconds = (value) => `${value.toFixed(2)}\u00a0s`;
const minus = (text) => text.replaceAll("-", "−");
const fixed = (value) => (value === null ? "–" : minus((Math.round(value * 100) / 100 + 0).toFixed(2)));

// Rounded, but 0 and 100 % only where it is none and all.
function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.5) return "<1 %";
  return `${share < 100 ? Math.min(99, Math.round(share)) : 100} %`;
}

function figure(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  const plain = size >= 1000 ? value.toFixed(0) : value.toPrecision(3);
  const text = size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(2) : plain;
  return minus(text);
}

// The text with its hashes set small and breakable after every eighth digit.
function withHashes(text) {
  return text.split(/(\(?\b[0-9a-f]{16,}\b\)?)/).map((piece, i) => (i % 2
    ? el("span", { class: "hash" }, ...piece.match(/.{1,8}/g).flatMap((digits) => [digits, el("wbr")]))
    : piece));
}

function track(share) {
  const fill = el("span");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "track", "aria-hidden": "true" }, fill);
}

