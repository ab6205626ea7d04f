// One unit: what it is said to listen for, how far that holds, its curves, its clips, its neighbours.

import { addressWith, go, NO_QUERY } from "./address.js";
import { get, hasToken, send, unitPath } from "./api.js";
import { histogram, profile, tuningCurve } from "./charts.js";
import { clipList } from "./clips.js";
import { badge, count, el, failed, figure, fixed, KIND_WORDS, percent, track, waiting } from "./elements.js";
import { listBoxes } from "./lists.js";
import { scaleBox } from "./scale.js";

const FIRST = 6; // clips shown at once
const STEM = 4; // letters in which a word of the sentence and of a caption agree

let asked = "";

export async function showUnit(box, run, name) {
  if (!box) return;
  const key = `${run} ${name}`;
  if (key === asked && box.firstChild) return;
  asked = key;
  if (!name) {
    box.replaceChildren(el("p", { class: "none" }, "Choose a unit to see and hear what it responds to."));
    return;
  }
  const cut = name.lastIndexOf(":");
  if (!box.querySelector("article")) box.replaceChildren(waiting("Loading the unit…"));
  let unit;
  try {
    unit = await get(unitPath(name.slice(0, cut), name.slice(cut + 1)), { run });
  } catch (error) {
    if (key === asked) box.replaceChildren(back(), failed(error));
    return;
  }
  if (key !== asked) return;
  const facts = { run, index: run.split("/")[0], unit: name };
  box.replaceChildren(back(), el("article", { class: "unit-page" },
    head(unit, facts), sentence(unit), ownWords(unit, facts), labels(unit), test(unit), meanings(unit, facts),
    clips(unit, facts), curves(unit), neighbours(unit),
    unit.top.length && hasToken() ? scaleBox(run, [name], unit.top) : null));
  box.scrollTop = 0;
}

const back = () => el("button", { type: "button", class: "back", onclick: () => go({ unit: "" }) }, "← All units");

function head(unit, { unit: name, run }) {
  const label = unit.note?.label || unit.labels[0]?.concept;
  const star = el("button", { type: "button", class: "star", "aria-pressed": String(Boolean(unit.note?.star)), disabled: !hasToken(),
    title: hasToken() ? "Star this unit (s)" : "Open the printed address to star units",
    "aria-label": "Star this unit", onclick: () => save(unit, run, name, { star: !(unit.note?.star) }, star) }, unit.note?.star ? "★" : "☆");
  return el("header", { class: "unit-head" },
    el("div", {}, el("h2", {}, label ?? "No label"), el("p", { class: "mono" }, name)), star,
    el("div", { class: "badges" }, badge(unit.reliable), unit.kind ? el("p", { class: "muted" }, KIND_WORDS[unit.kind]) : null));
}

function sentence(unit) {
  if (!unit.summary) return unit.reason ? el("p", { class: "unsaid" }, `No sentence: ${unit.reason}.`) : null;
  const shown = unit.top.map((clip) => ({ row: clip.row, text: `${clip.caption ?? ""} ${clip.path}`.toLowerCase() }));
  const pieces = unit.summary.split(/([\p{L}]+)/u).map((piece, i) => {
    const stem = piece.toLowerCase().slice(0, Math.max(STEM, piece.length - 2));
    const rows = i % 2 && piece.length >= STEM ? shown.filter((clip) => clip.text.includes(stem)).map((clip) => clip.row) : [];
    if (!rows.length) return piece;
    return el("button", { type: "button", class: "evidence", title: `Evidence: ${count(rows.length, "of the strongest clips", "of the strongest clips")}`,
      onclick: (event) => highlight(event.target, rows) }, piece);
  });
  return el("p", { class: "sentence" }, pieces);
}

function highlight(button, rows) {
  const page = button.closest("article");
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of page.querySelectorAll(".evidence")) other.setAttribute("aria-pressed", String(on && other === button));
  for (const tile of page.querySelectorAll("[data-clip]")) tile.classList.toggle("is-evidence", on && rows.includes(Number(tile.dataset.clip)));
}

function ownWords(unit, { unit: name, run }) {
  const label = el("input", { type: "text", maxlength: 200, value: unit.note?.label ?? "" });
  const note = el("textarea", { maxlength: 4000, rows: 3, value: unit.note?.note ?? "" });
  const status = el("span", { class: "muted", role: "status" });
  const form = el("form", { class: "own", onsubmit: async (event) => {
    event.preventDefault();
    status.textContent = await save(unit, run, name, { label: label.value, note: note.value }) ? "Saved" : "";
  } }, el("label", { class: "field" }, el("span", {}, "Your label"), label), el("label", { class: "field" }, el("span", {}, "Your note"), note),
  el("div", { class: "buttons" }, el("button", { disabled: !hasToken() }, "Save"), status));
  const lists = el("fieldset", { class: "buttons in-lists" });
  const draw = async () => lists.replaceChildren(el("legend", {}, "Lists"), ...await listBoxes(run, Object.assign(unit, { name }), draw));
  const box = el("details", { open: Boolean(unit.note?.label || unit.note?.note || unit.lists.length), ontoggle: () => { if (box.open) draw(); } },
    el("summary", {}, "Your label, note and lists"), form, lists);
  if (unit.note?.earlier) form.prepend(el("p", { class: "note" }, "This was written of an earlier recording of this run; its unit may have been another."));
  return box;
}

async function save(unit, run, name, changes, star = null) {
  try {
    const answer = await send("PATCH", `/api/notes/${encodeURIComponent(name)}`, changes, { run });
    unit.note = answer.note;
    if (star) {
      star.textContent = unit.note.star ? "★" : "☆";
      star.setAttribute("aria-pressed", String(unit.note.star));
    }
    document.dispatchEvent(new CustomEvent("noted", { detail: { name, note: unit.note } }));
    return true;
  } catch (error) {
    document.getElementById("banner").replaceChildren(failed(error));
    return false;
  }
}

// The score of a measured label is a correlation, that of others is on the scale of the run.
const isMeasured = (label) => label.evidence === "measured";
const SOURCES = { captions: "by captions", both: "by both", measured: "measured" };

function labels(unit) {
  if (!unit.labels.length) return el("p", { class: "muted" }, "No label.");
  const best = Math.max(...unit.labels.filter((label) => !isMeasured(label)).map((label) => label.score), 1e-9);
  return section("Labels", el("ol", { class: "bars" }, unit.labels.map((label) => el("li", {}, el("a", {
    class: "bar-link", title: "Units for this label", href: addressWith({ ...NO_QUERY, view: "units", q: [label.concept], unit: "", words: "", lasso: "" }),
  }, el("span", { class: "name" }, label.concept, SOURCES[label.evidence] && el("span", { class: "source" }, SOURCES[label.evidence])),
  el("span", { class: "value" }, figure(label.score)), track(isMeasured(label) ? label.score : label.score / best))))),
  el("p", { class: "buttons" }, el("a", { href: addressWith({ view: "prune", concept: unit.labels[0].concept }) }, `Prune “${unit.labels[0].concept}”`)));
}

const figures = (test) => `On ${count(test.clips, "unseen clip")}: correlation ${fixed(test.correlation)} (random label ${fixed(test.random_correlation)}, `
  + `best of ten ${fixed(test.best_correlation)}), AUPRC ${fixed(test.auprc)} (base rate ${fixed(test.base_rate)}), `
  + `${chance(test.q_value)}.`;

const chance = (q) => `q ${q < 0.001 ? "< 0.001" : q.toFixed(3)}`;

const FOLLOWS = new Map([
  [true, "the concept is there when the unit fires"],
  [false, "the concept is there at other times than those at which the unit fires"],
  [null, "it is not shown that the concept is there just when the unit fires"],
]);

const overTime = (test) => `Within ${count(test.clips, "clip")}: ${FOLLOWS.get(test.follows)} `
  + `(score ${fixed(test.score)} of 1, chance 0, ${chance(test.q_value)}).`;

function test(unit) {
  const lines = [unit.faithfulness && figures(unit.faithfulness), unit.caption_faithfulness && `By their captions. ${figures(unit.caption_faithfulness)}`,
    unit.over_time && overTime(unit.over_time),
    unit.polysemanticity === null || unit.polysemanticity === undefined ? null
      : `Polysemanticity ${fixed(unit.polysemanticity)}${unit.chance === null ? "" : ` (random clips ${fixed(unit.chance)})`}.`].filter(Boolean);
  return lines.length ? section("Tests, with chance", ...lines.map((line) => el("p", { class: "muted" }, line))) : null;
}

function meanings(unit, facts) {
  if (!unit.meanings.length) return null;
  return section(`${unit.meanings.length} meanings`, ...unit.meanings.map((meaning) => el("div", { class: "meaning" },
    el("p", {}, el("b", {}, meaning.labels.map((label) => label.concept).slice(0, 3).join(", ") || "no label"), " ", badge(meaning.reliable)),
    meaning.summary && el("p", { class: "sentence" }, meaning.summary),
    clipList(facts, meaning.clips.slice(0, 3).map((place) => unit.top[place])))));
}

function clips(unit, facts) {
  if (!unit.top.length) return section("Clips", el("p", { class: "none" }, "No clip was kept for this unit."));
  const rest = unit.top.slice(FIRST);
  return section("Strongest clips", clipList(facts, unit.top.slice(0, FIRST)),
    rest.length ? folded(count(rest.length, "more strong clip"), () => clipList(facts, rest)) : null,
    folded("Clips by quantile of activation", () => clipList(facts, unit.quantiles, (clip) => `${percent(clip.quantile, 1)} respond less`)),
    unit.low.length ? folded(count(unit.low.length, "weakest clip"), () => clipList(facts, unit.low)) : null);
}

function curves(unit) {
  const drawn = unit.tuning.filter((tuning) => tuning.centres.length > 1);
  const parts = [
    unit.activations && histogram(unit.activations),
    ...drawn.map((tuning) => tuningCurve(tuning, unit.axes[tuning.quality])),
    unit.profile?.length ? profile(unit.profile) : null,
    unit.acoustics && el("p", { class: "muted" }, unit.acoustics.replaceAll(/ -(?=\d)/g, " −")),
  ].filter(Boolean);
  return parts.length ? section("Measured", el("div", { class: "charts" }, parts)) : null;
}

function neighbours(unit) {
  const list = (title, units, what) => (units.length ? el("div", {}, el("h4", {}, title), el("ul", { class: "plain-list" }, units.map((other) => el("li", {},
    el("a", { href: addressWith({ view: "units", unit: `${other.layer}:${other.unit}` }) }, other.label ?? "no label"),
    el("span", { class: "muted" }, ` ${other.layer}:${other.unit} · ${what} ${fixed(other.score)}`))))) : null);
  const parts = [list("Strongest clips alike", unit.nearest, "cosine"), list("Fire together", unit.together, "correlation")].filter(Boolean);
  return parts.length ? section("Other units", el("div", { class: "two" }, parts)) : null;
}

const section = (title, ...children) => el("section", { class: "part" }, el("h3", {}, title), ...children);

function folded(title, make) {
  const box = el("details", {}, el("summary", {}, title));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(make()); });
  return box;
}
