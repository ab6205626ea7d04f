// Units in two dimensions on a canvas; draw a loop around some to list them. Of very many units, how many lie where.

import { go, NO_QUERY } from "./address.js";
import { get } from "./api.js";
import { count, el, failed, frame, KINDS, waiting } from "./elements.js";

const SPARSE = 500; // units drawn as larger circles
const MOST_POINTS = 60; // corners of a loop in the address
const REACH = 0.03; // of the map, which spans -1 to 1: how near the pointer must be to a unit
const EDGE = 1.05; // what the canvas shows of it
const WEAKEST = 0.2; // strength of the colour of a cell with one unit
const COLOURS = ["#b83280", "#2b6cb0", "#2f855a", "#b7791f", "#6b46c1", "#c05621", "#2c7a7b", "#9b2c2c", "#4a5568", "#97266d"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export async function mapView({ run }, { again, current }) {
  if (again && document.querySelector("canvas")) return;
  frame(el("h1", {}, "Map"), waiting("Loading the map…"));
  let map;
  try {
    map = await get("/api/map", { run });
  } catch (error) {
    if (current()) frame(el("h1", {}, "Map"), failed(error));
    return;
  }
  if (!current()) return;
  const places = map.x.flatMap((x, at) => (x === null ? [] : [{ at, x, y: map.y[at] }])); // units, or cells
  const chart = { map, places, colour: "kind", loop: [], marked: null };
  const canvas = el("canvas", { class: "map", tabindex: "0", role: "img",
    "aria-label": `Map of ${count(map.placed, "unit")}. Arrow keys go from one to the next, Enter opens it; the list under Units holds the same units` });
  const colour = el("select", { "aria-label": "Colour by" }, el("option", { value: "kind" }, "what explains them"), el("option", { value: "layer" }, "layer"));
  const tip = el("p", { class: "tip", role: "status" });
  const legend = el("p", { class: "legend" });
  const draw = () => {
    paint(canvas, chart);
    legend.replaceChildren(...legendOf(chart));
  };
  colour.addEventListener("change", () => { chart.colour = colour.value; draw(); });
  listen(canvas, chart, draw, (place) => tip.replaceChildren(...words(map, place)));
  const left = map.total - map.placed;
  frame(el("h1", {}, "Map"), el("div", { class: "map-page" }, canvas, el("div", { class: "map-side" },
    el("p", { class: "muted" }, `Units whose strongest clips are alike lie near each other (${map.method}).${left ? ` ${count(left, "unit")} that never responded ${left === 1 ? "is" : "are"} left out.` : ""}`),
    map.cells && el("p", { class: "muted" }, `Each square has the colour of most of its units, the stronger the more they are: up to ${Math.max(...map.units).toLocaleString("en")}.`),
    el("label", { class: "field inline" }, el("span", {}, "Colour by"), colour), legend,
    el("p", { class: "muted" }, `Click a ${map.cells ? "square to list its units" : "unit to open it"}; drag a loop around some to list them.`), tip)));
  draw();
  new ResizeObserver(draw).observe(canvas);
}

// ---------- what lies where ----------

function nameOf(map, at) {
  let first = 0;
  for (const layer of map.layers.slice(0, map.layer[at])) first += layer.units;
  return `${map.layers[map.layer[at]].name}:${at - first}`;
}

function words(map, { at }) {
  const label = map.labels[map.label[at]];
  if (!map.cells) return [el("b", {}, label ?? "no label"), el("span", { class: "muted" }, nameOf(map, at))];
  const most = label === undefined ? "most have no label" : `${map.labelled[at].toLocaleString("en")} of them “${label}”`;
  return [el("b", {}, count(map.units[at], "unit")), el("span", { class: "muted" }, most)];
}

function nearest({ map, places }, [x, y]) {
  let best = null;
  let least = (map.cells ? map.cells.size : REACH) ** 2;
  for (const place of places) {
    const far = (place.x - x) ** 2 + (place.y - y) ** 2;
    if (far < least) { least = far; best = place; }
  }
  return best;
}

// The nearest place in a direction, within 45 degrees of it; the one in the middle to begin with.
function next({ places, marked }, [right, down]) {
  const [x, y] = marked ? [marked.x, marked.y] : [0, 0];
  let best = marked;
  let least = Infinity;
  for (const place of places) {
    const [dx, dy] = [place.x - x, place.y - y];
    const along = dx * right + dy * down;
    const far = dx ** 2 + dy ** 2;
    if (far < least && (!marked || (place !== marked && along > 0 && along ** 2 * 2 >= far))) { least = far; best = place; }
  }
  return best;
}

const listed = (corners) => go({ ...NO_QUERY, view: "units", unit: "", words: "", layer: "", kind: "", reliable: "", starred: "", list: "",
  lasso: corners.map((corner) => corner.map((value) => String(Number(value.toFixed(3)))).join(",")).join(";") });

function open({ map }, { at, x, y }) {
  if (!map.cells) go({ ...NO_QUERY, view: "units", unit: nameOf(map, at), lasso: "", list: "" });
  else {
    const half = map.cells.size / 2;
    const side = (value, way) => (Math.abs(value + way * half) > 0.999 ? way * EDGE : value + way * half); // units on the rim too
    listed([[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([right, down]) => [side(x, right), side(y, down)]));
  }
}

function listen(canvas, chart, draw, say) {
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 * EDGE - EDGE, ((event.clientY - box.top) / box.height) * 2 * EDGE - EDGE];
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); chart.loop = [at(event)]; });
  canvas.addEventListener("pointermove", (event) => {
    if (chart.loop.length) {
      chart.loop.push(at(event));
      draw();
      return;
    }
    const near = nearest(chart, at(event));
    if (near) say(near);
  });
  canvas.addEventListener("pointerup", (event) => {
    const corners = chart.loop;
    chart.loop = [];
    draw();
    const across = (axis) => Math.max(...corners.map((corner) => corner[axis])) - Math.min(...corners.map((corner) => corner[axis]));
    if (corners.length > 3 && across(0) + across(1) > 0.04) {
      const step = Math.ceil(corners.length / MOST_POINTS);
      listed(corners.filter((_, i) => i % step === 0));
      return;
    }
    const near = nearest(chart, at(event));
    if (near) open(chart, near);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && chart.marked) open(chart, chart.marked);
    else if (ARROWS[event.key]) {
      chart.marked = next(chart, ARROWS[event.key]);
      draw();
      if (chart.marked) say(chart.marked);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("blur", () => { chart.marked = null; draw(); });
}

// ---------- drawing ----------

const ofKinds = (map) => {
  const style = getComputedStyle(document.documentElement);
  return map.kinds.map((kind) => style.getPropertyValue(`--${kind}`));
};

function legendOf({ map, colour }) {
  const key = (background, name) => {
    const dot = el("span", { class: "swatch" });
    dot.style.background = background;
    return el("span", { class: "key-plain" }, dot, name);
  };
  if (colour === "layer") return map.layers.slice(0, 30).map((layer, i) => key(COLOURS[i % COLOURS.length], layer.name));
  return map.kinds.map((kind, i) => key(ofKinds(map)[i], KINDS[kind]));
}

function paint(canvas, { map, places, colour, loop, marked }) {
  const scale = window.devicePixelRatio || 1;
  const size = Math.round(canvas.clientWidth * scale);
  if (canvas.width !== size) { canvas.width = size; canvas.height = size; }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, size, size);
  const to = (value) => ((value + EDGE) / (2 * EDGE)) * size;
  const colours = colour === "kind" ? ofKinds(map) : map.layers.map((_, i) => COLOURS[i % COLOURS.length]);
  const codes = colour === "kind" ? map.kind : map.layer;
  if (map.cells) {
    const half = map.cells.size / 2;
    const most = Math.log(1 + Math.max(...map.units));
    for (const { at, x, y } of places) {
      const [left, top] = [Math.floor(to(x - half)), Math.floor(to(y - half))];
      context.fillStyle = colours[codes[at]];
      context.globalAlpha = WEAKEST + ((1 - WEAKEST) * Math.log(1 + map.units[at])) / most;
      context.fillRect(left, top, Math.floor(to(x + half)) - left, Math.floor(to(y + half)) - top);
    }
  } else {
    const radius = Math.max(1.5, (places.length < SPARSE ? 5 : 3.2) - places.length / 8000) * scale;
    context.globalAlpha = 0.75;
    for (const { at, x, y } of places) {
      context.fillStyle = colours[codes[at]];
      context.beginPath();
      context.arc(to(x), to(y), radius, 0, 7);
      context.fill();
    }
  }
  context.globalAlpha = 1;
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = 2 * scale;
  context.beginPath();
  if (loop.length > 1) {
    loop.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](to(x), to(y)));
    context.closePath();
  } else if (marked) context.arc(to(marked.x), to(marked.y), 8 * scale, 0, 7);
  context.stroke();
}
