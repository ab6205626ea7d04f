// The units of a run as a virtual table: only the rows that are seen exist, and their pages come from the server.

import { asks, go, state } from "./address.js";
import { get } from "./api.js";
import { sparkline } from "./charts.js";
import { byId, count, el, failed, fixed, frame, KINDS, options, waiting } from "./elements.js";
import { listBar, readLists } from "./lists.js";
import { clipResults, labelOf, unitName, verdict } from "./results.js";
import { aboutSound } from "./sound.js";
import { showUnit } from "./unit.js";

const ROW = 60; // pixels
const PAGE = 100;
const KEPT_PAGES = 40; // that the tab holds; others are asked for again
const CLIPS = 60; // that a search shows at a time
const STARRED = "starred";
const LIST = "list:";
const MATCHES = 1000; // of a query that the server pages through
const TALLEST = 15_000_000; // pixels that browsers draw; beyond it rows are reached through filters
const SORTS = [["", "Clearest first"], ["unit", "Layer and unit"], ["score", "Label score"], ["faithfulness", "Faithfulness"],
  ["-polysemanticity", "Most alike clips"], ["polysemanticity", "Most varied clips"]];
const BEST_FIRST = [["", "Best match first"]];
const FILTERS = ["run", "q", "minus", "like", "sound", "layer", "reliable", "kind", "words", "starred", "list", "sort", "lasso"];

let shown = "";
let pages = new Map();
let total = 0;
let active = 0;
let asked = null;
let chosen = new Set(); // units that are ticked
let ticked = 0; // the row that was ticked last
let news = ""; // what the last change of a list came to

export async function unitsView(now, { run, again, current }) {
  if (now.for === "clips" && asks(now)) {
    shown = "";
    clipSearch(now, current);
    return;
  }
  const key = JSON.stringify(FILTERS.map((name) => now[name]));
  if (!again || !byId("rows")) layOut(now, run);
  const other = key !== shown || !again;
  shown = key;
  byId("split").classList.toggle("one-unit", Boolean(now.unit));
  showUnit(byId("unit"), now.run, now.unit); // its unit need not wait for the list
  if (other) await restart(now);
  if (current()) markActive(now.unit);
}

async function clipSearch(now, current) {
  frame(el("h1", {}, "Clips"), waiting("Searching…"));
  const asked = { index: now.run.split("/")[0], q: now.q, minus: now.minus, like: now.like, sound: now.sound, limit: CLIPS };
  try {
    const answer = await get("/api/clips", asked);
    if (!current()) return;
    const list = el("div", {}, clipResults(now.run, answer));
    const total = el("p", { class: "muted", role: "status" });
    const more = el("button", { type: "button", onclick: async () => {
      more.disabled = true;
      try {
        const next = await get("/api/clips", { ...asked, offset: list.querySelectorAll(".clip").length });
        list.querySelector(".clips").append(...clipResults(now.run, next).at(-1).children);
      } catch (error) {
        list.append(failed(error));
      }
      more.disabled = false;
      tell();
    } }, "Show more");
    const tell = () => {
      const seen = list.querySelectorAll(".clip").length;
      total.textContent = `The ${count(seen, "nearest clip")}, best first`;
      more.hidden = seen >= answer.total;
    };
    tell();
    frame(el("h1", {}, "Clips"), total, aboutSound(now), list, more);
  } catch (error) {
    if (current()) frame(el("h1", {}, "Clips"), failed(error));
  }
}

function layOut(now, run) {
  const field = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);
  const select = (name, pairs) => {
    const control = el("select", { "data-filter": name, onchange: () => go({ [name]: control.value }) });
    options(control, pairs, now[name]);
    return control;
  };
  let typing = 0;
  const words = el("input", { type: "search", "data-filter": "words", value: now.words, placeholder: "in labels", title: "Words that labels or sentences contain", maxlength: 200,
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => { if (words.isConnected) go({ words: words.value }, { replace: true }); }, 200);
    } });
  const kept = el("select", { id: "kept", onchange: () => go({
    starred: kept.value === STARRED ? "true" : "", list: kept.value.startsWith(LIST) ? kept.value.slice(LIST.length) : "" }) });
  frame(el("h1", { class: "sr" }, "Units"), el("div", { id: "split", class: "split" },
    el("section", { class: "list", "aria-label": "Units" },
      el("div", { class: "filters" },
        field("Words", words),
        field("Layer", select("layer", [["", "all"], ...run.layers.map(({ name, units }) => [name, `${name} (${units})`])])),
        field("Explained by", select("kind", [["", "anything"], ...Object.entries(KINDS)])),
        field("Label", select("reliable", [["", "any"], ["holds", "holds"], ["fails", "fails"], ["untested", "untested"]])),
        field("Kept", kept),
        field("Order", select("sort", SORTS))),
      el("p", { id: "count", class: "muted", role: "status" }),
      el("div", { id: "list-bar", class: "buttons small" }),
      el("div", { id: "said" }),
      el("div", { class: "row-heads", "aria-hidden": "true" }, el("span", {}, "unit"), el("span", {}, "explained by"), el("span", { class: "row-spark" }, "tuning"), el("span", { class: "row-figure" }, "")),
      el("div", { id: "rows", class: "rows", role: "listbox", "aria-multiselectable": "true", tabindex: "0", "aria-label": "Units", onscroll: drawRows, onkeydown: stepped },
        el("div", { id: "space", role: "presentation" }))),
    el("section", { id: "unit", class: "unit", "aria-label": "Unit", tabindex: "-1" })));
}

// What was kept of units: the choices of the filter, read anew after each change.
async function drawKept(now) {
  const lists = await readLists(now.run).catch(() => []);
  const select = byId("kept");
  const { run, list, starred } = state();
  if (!select || run !== now.run) return;
  options(select, [["", "all units"], [STARRED, "star, label or note"], ...lists.map(({ name, units }) => [LIST + name, `list: ${name} (${units})`])],
    list ? LIST + list : starred ? STARRED : "");
}

function drawBar() {
  const now = state();
  const bar = byId("list-bar");
  if (!bar) return;
  const shown = Object.fromEntries(FILTERS.filter((name) => name !== "sort").map((name) => [name, now[name]]));
  const matches = asks(now) && total === MATCHES;
  const of = matches ? `The ${total.toLocaleString("en")} best matches` : count(total, "unit");
  byId("count").textContent = [total ? of : "", chosen.size ? `${chosen.size.toLocaleString("en")} chosen` : "", news].filter(Boolean).join(" · ");
  document.querySelector(".row-heads").hidden = !total;
  document.querySelector(".row-heads .row-figure").textContent = asks(now) ? "match" : "faithful";
  bar.replaceChildren(...(total || now.list ? listBar({ run: now.run, shown, total, chosen, done: listChanged, failed: (error) => byId("said").replaceChildren(failed(error)) }) : []));
}

// After a change of lists: `list` is the one to show now, if it was renamed or deleted.
function listChanged(said, list = state().list) {
  if (list !== state().list) go({ list }, { replace: true });
  else if (list) restart(state());
  else {
    chosen = new Set();
    drawKept(state());
  }
  news = said; // what is drawn anew begins without any
  markChosen();
}

function markChosen() {
  for (const node of byId("space").children) node.setAttribute("aria-selected", String(chosen.has(node.dataset.unit)));
  drawBar();
}

document.addEventListener("step", (event) => { if (byId("rows")) choose(active + event.detail); });

async function restart(now) {
  for (const control of document.querySelectorAll("[data-filter]")) {
    if (control !== document.activeElement) control.value = now[control.dataset.filter];
  }
  const order = document.querySelector("[data-filter=sort]");
  order.disabled = asks(now);
  options(order, asks(now) ? BEST_FIRST : SORTS, asks(now) ? "" : now.sort);
  asked?.abort();
  asked = new AbortController();
  pages = new Map();
  chosen = new Set();
  news = "";
  active = 0;
  byId("rows").scrollTop = 0;
  drawKept(now);
  await fetchPage(0);
}

async function fetchPage(page) {
  if (pages.has(page)) return;
  pages.set(page, null);
  const now = state();
  const parameters = Object.fromEntries(FILTERS.map((name) => [name, now[name]]));
  const { signal } = asked;
  let answer;
  try {
    answer = await get("/api/units", { ...parameters, offset: page * PAGE, limit: PAGE }, signal);
  } catch (error) {
    if (error.name === "AbortError" || !byId("rows")) return;
    total = 0;
    drawBar();
    byId("said").replaceChildren(failed(error));
    drawRows();
    return;
  }
  if (signal.aborted || !byId("rows")) return;
  pages.set(page, answer.results);
  for (const old of [...pages.keys()]) {
    if (pages.size > KEPT_PAGES && Math.abs(old - page) > KEPT_PAGES / 2) pages.delete(old);
  }
  if (page === 0) {
    ({ total } = answer);
    byId("space").style.height = `${Math.min(TALLEST, total * ROW)}px`;
    drawBar();
    byId("said").replaceChildren(...[aboutSound(now), verdict(answer), total ? null : el("p", { class: "none" }, emptyWords(now))].filter(Boolean));
  }
  drawRows();
  markActive(now.unit);
}

function emptyWords(now) {
  if (now.list) return "No unit of this list is in this run and passes the filters. Add units from the table, the map, or a unit's page.";
  if (now.starred) return "No unit has a star, a label or a note of yours yet. Open a unit and star it.";
  return "No unit passes these filters. Loosen one of them.";
}

function drawRows() {
  const rows = byId("rows");
  if (!rows) return;
  const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 5);
  const last = Math.min(total, Math.floor(TALLEST / ROW), first + Math.ceil(rows.clientHeight / ROW) + 10);
  const space = byId("space");
  const kept = new Map([...space.children].map((node) => [Number(node.dataset.place), node]));
  const wanted = [];
  for (let place = first; place < last; place += 1) {
    const page = Math.floor(place / PAGE);
    if (!pages.has(page)) fetchPage(page);
    const unit = pages.get(page)?.[place % PAGE];
    const old = kept.get(place);
    wanted.push(old && (old.dataset.unit || !unit) && old.dataset.unit === (unit ? unitName(unit) : "") ? old : unitRow(place, unit));
  }
  space.replaceChildren(...wanted);
  rows.hidden = total === 0;
  setActive();
}

function unitRow(place, unit) {
  const node = el("div", { class: "row", role: "option", id: `row-${place}`, "data-place": place, "data-unit": unit ? unitName(unit) : "",
    "aria-posinset": place + 1, "aria-setsize": total, "aria-selected": String(Boolean(unit) && chosen.has(unitName(unit))), onclick: (event) => {
      if (event.target.closest(".row-tick")) tick(place, event.shiftKey);
      else choose(place);
    } });
  node.style.top = `${place * ROW}px`;
  if (!unit) return node;
  const label = labelOf(unit);
  const kind = unit.label_kind ?? "none";
  node.append(
    el("span", { class: "row-tick", title: "Choose, to add to a list (x)" }),
    el("span", { class: "row-star", "aria-hidden": unit.note?.star ? null : "true" }, unit.note?.star ? "★" : ""),
    el("span", { class: "row-main" },
      el("b", { class: label ? "" : "muted" }, label ?? "no label"),
      el("span", { class: "muted row-place" }, el("span", {}, unit.layer), `:${unit.unit}`)),
    el("span", { class: "row-facts" }, el("span", { class: `dot-kind kind-${kind}` }, KINDS[kind]), el("span", { class: `row-verdict ${unit.verdict}` }, unit.verdict)),
    unit.tuning ? el("span", { class: "row-spark", title: `${unit.tuning.quality}: ${unit.tuning.shape}` }, sparkline(unit.tuning.means)) : el("span", { class: "row-spark" }),
    matchOf(unit));
  return node;
}

// How well a unit matches the search, paler where it does not listen for it; without a search, how faithful its label is.
function matchOf(unit) {
  if (unit.z === null) return el("span", { class: "row-figure" }, fixed(unit.faithfulness));
  const short = unit.listens === false;
  return el("span", { class: `row-figure${short ? " muted" : ""}`, title: `${short ? "Below" : "At least"} the z of ${fixed(unit.needed, 1)} that is needed` },
    `z ${fixed(unit.z, 1)}`, short && el("span", { class: "sr" }, " does not match"));
}

function stepped(event) {
  const visible = Math.max(1, Math.floor(byId("rows").clientHeight / ROW) - 1);
  const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + visible, PageUp: active - visible, Home: 0, End: total - 1 }[event.key];
  if (event.key === "Enter") {
    choose(active);
    byId("unit").focus();
  } else if (to === undefined) return;
  else choose(to);
  event.preventDefault();
  event.stopPropagation();
}

// Chooses a row, or no longer; with `range` all rows from the one before. Rows that were never loaded are left out.
function tick(place, range = false) {
  const at = (row) => pages.get(Math.floor(row / PAGE))?.[row % PAGE];
  if (!at(place)) return;
  const on = !chosen.has(unitName(at(place)));
  const [first, last] = range ? [Math.min(ticked, place), Math.max(ticked, place)] : [place, place];
  for (let row = first; row <= last; row += 1) {
    if (at(row)) chosen[on ? "add" : "delete"](unitName(at(row)));
  }
  ticked = place;
  news = "";
  markChosen();
}

document.addEventListener("tick", () => { if (byId("rows")) tick(active); });

let opening = 0;

// Makes a row the active one and opens its unit, a moment later so that stepping through many stays quick.
function choose(place) {
  if (!total) return;
  active = Math.max(0, Math.min(total - 1, place));
  const rows = byId("rows");
  const top = active * ROW;
  if (top < rows.scrollTop) rows.scrollTop = top;
  else if (top + ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW - rows.clientHeight;
  drawRows();
  clearTimeout(opening);
  const wanted = active;
  const { signal } = asked;
  opening = setTimeout(async () => {
    await fetchPage(Math.floor(wanted / PAGE));
    const unit = pages.get(Math.floor(wanted / PAGE))?.[wanted % PAGE];
    if (unit && rows.isConnected && !signal.aborted) go({ unit: unitName(unit) }, { replace: Boolean(state().unit) });
  }, 120);
}

function markActive(name) {
  if (name) {
    for (const [page, units] of pages) {
      const place = units?.findIndex((unit) => unitName(unit) === name) ?? -1;
      if (place >= 0) active = page * PAGE + place;
    }
  }
  setActive();
}

function setActive() {
  const rows = byId("rows");
  if (!rows) return; // another view was opened meanwhile
  const opened = state().unit;
  for (const node of rows.querySelectorAll(".row")) {
    const on = Number(node.dataset.place) === active;
    node.classList.toggle("active", on);
    node.classList.toggle("open", node.dataset.unit === opened);
    if (on) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
    if (on) rows.setAttribute("aria-activedescendant", node.id);
  }
}

// A note that was changed is shown in its row too.
document.addEventListener("noted", ({ detail: { name, note } }) => {
  for (const units of pages.values()) {
    const unit = units?.find((one) => unitName(one) === name);
    if (unit) unit.note = note;
  }
  byId("space")?.replaceChildren();
  drawRows();
});
