// The shell: runs, search, views, keys; says what is loading and when a run was recorded anew.

import { addressWith, asks, go, onChange, parsed, state, written } from "./address.js";
import { get, hasToken } from "./api.js";
import { compareView } from "./compare.js";
import { byId, el, failed, frame, options, waiting } from "./elements.js";
import { hearView } from "./hear.js";
import { mapView } from "./map.js";
import { overviewView } from "./overview.js";
import { key } from "./player.js";
import { pruneView } from "./prune.js";
import { drawSound, recordSound, soundSearch } from "./sound.js";
import { unitsView } from "./units.js";

const VIEWS = {
  overview: ["Overview", overviewView],
  units: ["Units", unitsView],
  map: ["Map", mapView],
  hear: ["Hear", hearView],
  prune: ["Prune", pruneView],
  compare: ["Compare", compareView],
};
const KEYS = [
  ["/", "search"], ["j, k", "next and previous unit"], ["Space", "play or pause"], ["← →", "seek by half a second"],
  ["x", "choose the unit, to add it to a list"], ["s", "star the unit"], ["Esc", "close the unit, or leave the search box"], ["?", "these keys"],
];
const LOOK = 700; // milliseconds between two looks at what is loading
const LOOK_LATER = 15_000; // and at whether a run was recorded anew

let runs = [];
let drawn = "";
let drawings = 0;
const identities = new Map();

async function start() {
  byId("views").append(...Object.entries(VIEWS).map(([view, [name]]) => el("a", { href: addressWith({ view }), "data-view": view }, name)));
  frame(waiting("Loading…"));
  listen();
  try {
    runs = (await get("/api/runs")).indexes.flatMap((index) => index.runs.map((run) => ({ ...run, index: index.name })));
  } catch (error) {
    frame(failed(error));
    return;
  }
  const { start: first } = await watchStatus();
  const usable = runs.filter((run) => !run.problem);
  if (!runs.length) {
    frame(el("h1", {}, "No run yet"), el("p", {}, "Record a network first: ", el("code", {}, "and-retrieval index SOUNDS --name NAME"), ", then ",
      el("code", {}, "and-retrieval record NAME --target TARGET"), " and ", el("code", {}, "and-retrieval explain NAME/RUN"), "."));
    return;
  }
  options(byId("run"), runs.map((run) => [run.run, run.problem ? `${run.run} (cannot be opened)` : run.run]), "");
  if (!runs.some((run) => run.run === state().run)) go({ run: first ?? (usable[0] ?? runs[0]).run }, { quiet: true });
  onChange(draw);
  draw();
  setInterval(lookAgain, LOOK_LATER);
}

// Says what is loading until everything is; returns the first status.
async function watchStatus() {
  const first = await get("/api/status");
  const look = async (status) => {
    if (status.state === "failed") banner(el("p", { class: "note", role: "alert" }, status.problem));
    else if (status.state === "loading") {
      banner(el("p", { class: "loading" }, `Loading ${status.loading}…`));
      setTimeout(async () => look(await get("/api/status").catch(() => status)), LOOK);
    } else banner(hasToken() ? null : el("p", { class: "note" }, "You can look, but not compute: open the address that and-retrieval serve printed to hear, prune, compare and star."));
  };
  look(first);
  return first;
}

const banner = (node) => byId("banner").replaceChildren(...(node ? [node] : []));

function draw() {
  const now = state();
  if (!VIEWS[now.view]) now.view = "overview";
  byId("run").value = now.run;
  byId("want").value = now.for;
  if (document.activeElement !== byId("box")) byId("box").value = written(now);
  drawSound(now);
  for (const link of document.querySelectorAll("[data-view]")) {
    link.href = addressWith({ view: link.dataset.view });
    if (link.dataset.view === now.view && link.closest("nav")) {
      link.setAttribute("aria-current", "page");
      link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.clientWidth / 2; // on a phone not all fit
    } else link.removeAttribute("aria-current");
  }
  const [name, view] = VIEWS[now.view];
  document.title = `${now.unit && now.view === "units" ? `${now.unit} · ` : ""}${name} · ${now.run} · and_retrieval`;
  const again = drawn === `${now.view} ${now.run}`;
  drawn = `${now.view} ${now.run}`;
  const run = runs.find((one) => one.run === now.run);
  drawings += 1;
  const drawing = drawings;
  const current = () => drawing === drawings; // a view asks this before it draws an answer that it waited for
  if (run?.problem) frame(el("h1", {}, now.run), el("p", { class: "note", role: "alert" }, run.problem));
  else view(now, { run, runs, again, current });
  if (!again) window.scrollTo(0, 0);
}

// A run that was recorded anew is drawn anew, and the page says so.
async function lookAgain() {
  const { run } = state();
  if (!run || document.hidden) return;
  try {
    const { recorded } = await get("/api/units", { run, limit: 1 });
    if (identities.has(run) && identities.get(run) !== recorded) {
      banner(el("p", { class: "note" }, `${run} was recorded anew; this is what it says now.`));
      drawn = "";
      draw();
    }
    identities.set(run, recorded);
  } catch (error) {
    banner(failed(error));
  }
}

function listen() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || link.target || link.origin !== location.origin || !link.getAttribute("href").startsWith("/") || link.pathname !== "/"
      || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    draw();
    if (link.closest("nav")) byId("view").focus({ preventScroll: true });
  });
  byId("run").addEventListener("change", () => go({ run: byId("run").value, unit: "", layer: "", lasso: "", list: "", job: "", sound: "" }));
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = parsed(byId("box").value);
    go({ ...query, view: "units", for: byId("want").value, unit: "", lasso: "", sort: "" });
    byId("box").blur();
    byId("view").focus({ preventScroll: true });
  });
  byId("want").addEventListener("change", () => { if (asks(state()) || state().view === "units") byId("search").requestSubmit(); });
  byId("box").addEventListener("search", () => { if (!byId("box").value && asks(state())) byId("search").requestSubmit(); });
  byId("sound").addEventListener("change", () => { const [file] = byId("sound").files; byId("sound").value = ""; if (file) soundSearch(file); });
  byId("record").addEventListener("click", () => recordSound(byId("record"), soundSearch));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer?.files ?? [];
    if (file && state().view !== "hear") soundSearch(file);
  });
  document.addEventListener("keydown", pressed);
}

function pressed(event) {
  const { target } = event;
  const typing = target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (typing) target.blur();
    else if (state().unit) go({ unit: "" });
    return;
  }
  if (typing || (event.key === " " && target.matches("button, summary, a, [role=slider], input"))) return;
  if (event.key === "/") byId("box").focus();
  else if (event.key === "?") showKeys();
  else if (event.key === "j" || event.key === "k") document.dispatchEvent(new CustomEvent("step", { detail: event.key === "j" ? 1 : -1 }));
  else if (event.key === "x") document.dispatchEvent(new CustomEvent("tick"));
  else if (event.key === "s") document.querySelector(".star")?.click();
  else if (target.matches("[role=listbox], [type=range]") || !key(event.key)) return;
  event.preventDefault();
}

function showKeys() {
  const box = byId("keys");
  box.replaceChildren(el("h2", { id: "keys-title" }, "Keys"),
    el("dl", {}, KEYS.map(([name, what]) => el("div", {}, el("dt", {}, el("kbd", {}, name)), el("dd", {}, what)))),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  box.showModal();
}

start();
