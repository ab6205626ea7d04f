// Units in two dimensions on a canvas; draw a loop around some to list them.

import { go, NO_QUERY } from "./address.js";
import { get } from "./api.js";
import { count, el, failed, frame, KINDS, waiting } from "./elements.js";

const FEW = 20_000; // units drawn as circles; of more, each colours one pixel
const SPARSE = 500; // units drawn as larger circles
const MOST_POINTS = 60; // corners of a loop in the address
const COLOURS = ["#b83280", "#2b6cb0", "#2f855a", "#b7791f", "#6b46c1", "#c05621", "#2c7a7b", "#9b2c2c", "#4a5568", "#97266d"];

export async function mapView({ run }, { again }) {
  if (again && document.querySelector("canvas")) return;
  frame(el("h1", {}, "Map"), waiting("Loading the map…"));
  let map;
  try {
    map = await get("/api/map", { run });
  } catch (error) {
    frame(el("h1", {}, "Map"), failed(error));
    return;
  }
  const places = map.x.flatMap((x, row) => (x === null ? [] : [{ row, x, y: map.y[row] }]));
  const left = map.x.length - places.length;
  const colour = el("select", { "aria-label": "Colour by" }, el("option", { value: "kind" }, "what explains them"), el("option", { value: "layer" }, "layer"));
  const canvas = el("canvas", { class: "map", role: "img", "aria-label": `Map of ${count(places.length, "unit")}; the list under Units holds the same units` });
  const tip = el("p", { class: "tip", role: "status" });
  const legend = el("p", { class: "legend" });
  const starts = map.layers.reduce((all, layer) => [...all, all.at(-1) + layer.units], [0]);
  const labelOf = (row) => map.labels[map.label[row]] ?? "no label";
  const nameOf = (row) => `${map.layers[map.layer[row]].name}:${row - starts[map.layer[row]]}`;
  const style = getComputedStyle(document.documentElement);
  const ofKind = map.kinds.map((kind) => style.getPropertyValue(`--${kind}`));
  const colourOf = (row) => (colour.value === "kind" ? ofKind[map.kind[row]] : COLOURS[map.layer[row] % COLOURS.length]);
  let loop = [];
  const draw = () => {
    paint(canvas, places, colourOf, loop);
    legend.replaceChildren(...(colour.value === "kind" ? map.kinds.map((kind, i) => key(ofKind[i], KINDS[kind]))
      : map.layers.slice(0, 30).map((layer, i) => key(COLOURS[i % COLOURS.length], layer.name))));
  };
  colour.addEventListener("change", draw);
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2.1 - 1.05, ((event.clientY - box.top) / box.height) * 2.1 - 1.05];
  };
  const nearest = ([x, y]) => {
    let best = null;
    let least = 0.03 ** 2;
    for (const place of places) {
      const far = (place.x - x) ** 2 + (place.y - y) ** 2;
      if (far < least) { least = far; best = place; }
    }
    return best;
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); loop = [at(event)]; });
  canvas.addEventListener("pointermove", (event) => {
    if (!loop.length) {
      const near = nearest(at(event));
      if (near) tip.replaceChildren(el("b", {}, labelOf(near.row)), el("span", { class: "muted" }, nameOf(near.row)));
      return;
    }
    loop.push(at(event));
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    const corners = loop;
    loop = [];
    draw();
    const across = (axis) => Math.max(...corners.map((corner) => corner[axis])) - Math.min(...corners.map((corner) => corner[axis]));
    if (corners.length > 3 && across(0) + across(1) > 0.04) {
      const step = Math.ceil(corners.length / MOST_POINTS);
      const lasso = corners.filter((_, i) => i % step === 0).map((corner) => corner.map((value) => value.toFixed(2)).join(",")).join(";");
      go({ ...NO_QUERY, view: "units", lasso, unit: "", words: "", layer: "", kind: "", reliable: "", starred: "", list: "" });
      return;
    }
    const near = nearest(at(event));
    if (near) go({ view: "units", unit: nameOf(near.row), lasso: "", list: "" });
  });
  frame(el("h1", {}, "Map"), el("div", { class: "map-page" }, canvas, el("div", { class: "map-side" },
    el("p", { class: "muted" }, `Units whose strongest clips are alike lie near each other (${map.method}).${left ? ` ${count(left, "unit")} that never responded ${left === 1 ? "is" : "are"} left out.` : ""}`),
    el("label", { class: "field inline" }, el("span", {}, "Colour by"), colour), legend,
    el("p", { class: "muted" }, "Click a unit to open it; drag a loop around some to list them."), tip)));
  draw();
  new ResizeObserver(draw).observe(canvas);
}

function key(colour, name) {
  const dot = el("span", { class: "swatch" });
  dot.style.background = colour;
  return el("span", { class: "key-plain" }, dot, name);
}

function paint(canvas, places, colourOf, loop) {
  const scale = window.devicePixelRatio || 1;
  const size = Math.round(canvas.clientWidth * scale);
  if (canvas.width !== size) { canvas.width = size; canvas.height = size; }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, size, size);
  const to = (value) => ((value + 1.05) / 2.1) * size;
  const many = places.length > FEW;
  context.globalAlpha = many ? 0.35 : 0.75;
  const radius = many ? 0 : Math.max(1.5, (places.length < SPARSE ? 5 : 3.2) - places.length / 8000) * scale;
  for (const place of places) {
    context.fillStyle = colourOf(place.row);
    if (many) context.fillRect(to(place.x), to(place.y), scale, scale);
    else { context.beginPath(); context.arc(to(place.x), to(place.y), radius, 0, 7); context.fill(); }
  }
  context.globalAlpha = 1;
  if (loop.length > 1) {
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = 2 * scale;
    context.beginPath();
    loop.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](to(x), to(y)));
    context.closePath();
    context.stroke();
  }
}
