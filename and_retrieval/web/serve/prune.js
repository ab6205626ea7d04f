// Prune a concept: choose how, watch the progress, see the curve and what else is lost, hear what changes, take the
// weights along.

import { addressWith, go, NO_QUERY } from "./address.js";
import { download, get, hasToken, send, watch } from "./api.js";
import { lines } from "./charts.js";
import { clipTile } from "./clips.js";
import { count, el, failed, fixed, frame, percent } from "./elements.js";
import { scaleBox } from "./scale.js";

const SELECTORS = ["selective", "soft-wpmi", "cos-cubed", "captions", "retrieval", "open", "oracle", "random"];
const MOST_LINKS = 100; // units of a layer that are named
const FINISHED = ["done", "failed", "cancelled"];
let open = null; // the job of this page, with the box it is shown in

export function pruneView({ run, concept, job }, { run: facts, again }) {
  if (again && document.getElementById("pruned")) return;
  const concepts = el("input", { type: "text", required: true, maxlength: 400, value: concept, placeholder: "dog bark, siren" });
  const selector = el("select", {}, SELECTORS.map((name) => el("option", { value: name }, name)));
  const layer = el("select", {}, el("option", { value: "" }, "all but the class units"), facts.layers.map(({ name }) => el("option", { value: name }, name)));
  const budgets = el("input", { type: "text", placeholder: "six shares", pattern: "[0-9., ]*", inputmode: "decimal" });
  const weights = el("input", { type: "checkbox", checked: true });
  const out = el("div", { id: "pruned" });
  const field = (label, control, hint = null) => el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", { class: "muted" }, hint));
  const form = el("form", { class: "order", onsubmit: (event) => {
    event.preventDefault();
    const order = {
      run, concepts: concepts.value.split(",").map((text) => text.trim()).filter(Boolean), selector: selector.value,
      layers: layer.value ? [layer.value] : [], budget: budgets.value.split(/[,\s]+/).filter(Boolean).map(Number), export: weights.checked,
    };
    follow(out, run, () => send("POST", "/api/prune", order));
  } },
  field("Concepts", concepts, "separated by commas"), field("Units found by", selector),
  field("Layers", layer), field("Budgets", budgets, "numbers of units, or shares below 1"),
  el("label", { class: "check" }, weights, "write the weights without these units"),
  el("button", { disabled: !hasToken() }, "Prune"));
  frame(el("h1", {}, "Prune a concept"), el("p", { class: "muted" }, "The concept's units are set to zero, and what the concept and everything else lose is measured on held-out clips. The recorded network stays as it is."),
    hasToken() ? null : el("p", { class: "note" }, "Open the address that and-retrieval serve printed to prune."), form, out);
  if (open?.run === run && (!job || open.job.job === job)) show(out, open.job);
  else if (job && hasToken()) follow(out, run, () => get(`/api/jobs/${job}`));
}

// Shows a job until it ends; its name is in the address, so that a page that is loaded again goes on with it.
async function follow(out, run, begin) {
  out.replaceChildren(el("p", { class: "waiting" }, "Starting…"));
  try {
    const shown = { run, job: await begin() };
    open = shown;
    if (out.isConnected) go({ job: shown.job.job }, { quiet: true }); // else another run or view was opened meanwhile
    show(out, shown.job);
    if (FINISHED.includes(shown.job.state)) return;
    await watch(`/api/jobs/${shown.job.job}/events`, (job) => {
      shown.job = job;
      const box = document.getElementById("pruned");
      if (box && open === shown) show(box, job);
    });
  } catch (error) {
    out.replaceChildren(failed(error));
  }
}

function show(out, job) {
  if (job.state === "waiting" || job.state === "running") {
    const what = job.state === "waiting" ? "Another job is running; this one waits." : job.total ? `${job.done} of ${job.total} batches of clips` : "Loading the network and finding the units…";
    if (!out.querySelector("progress")) {
      out.replaceChildren(el("progress", { "aria-label": "Progress" }), el("p", { class: "muted", role: "status" }),
        el("button", { type: "button", onclick: () => send("DELETE", `/api/jobs/${job.job}`).catch(() => {}) }, "Cancel"));
    }
    const bar = out.querySelector("progress");
    if (job.total) { bar.max = job.total; bar.value = job.done; }
    out.querySelector("p").textContent = what;
  } else if (job.state === "cancelled") out.replaceChildren(el("p", { class: "none", role: "status" }, "Cancelled; nothing was written."));
  else if (job.state === "failed") out.replaceChildren(failed(new Error(job.error)));
  else out.replaceChildren(...result(job));
}

function result(job) {
  const pruned = job.result;
  const best = pruned.budgets[pruned.chosen];
  const chosen = Object.entries(best.chosen).flatMap(([layer, units]) => units.map((unit) => `${layer}:${unit}`));
  const parts = [el("h2", {}, `${pruned.concept}: ${count(best.units, "unit")} at the knee`)];
  if (pruned.unmeasured) parts.push(el("p", { class: "note" }, `The effect is not measured: ${pruned.unmeasured}.`));
  else {
    parts.push(el("p", {}, `On ${pruned.clips[0]} held-out clips of the concept the mean probability of its class changes by ${fixed(best.delta_target, 3)}, on ${pruned.clips[1]} others by ${fixed(best.delta_rest, 3)}. `,
      `The gap between the two is ${fixed(best.gap, 3)}; with as many random units it is ${fixed(best.random_gap, 3)}.`,
      best.beats_random === false ? " That is no less: the network does not keep this concept in these layers alone." : ""));
    if (pruned.budgets.length > 1) parts.push(curve(pruned));
    parts.push(table(pruned));
  }
  parts.push(prunedUnits(best.chosen));
  if (pruned.lost.length) parts.push(el("p", {}, "Other classes that lost most: ", pruned.lost.map(([name, change]) => `${name} ${fixed(change, 3)}`).join(", ")));
  if (pruned.removed.length) parts.push(el("p", {}, "Nearest concepts of the pruned units: ", pruned.removed.map(([name, units]) => `${name} (${units})`).join(", ")));
  parts.push(...pruned.notes.map((note) => el("p", { class: "note" }, note)));
  if (job.export) {
    parts.push(el("p", { class: "buttons" },
      el("button", { type: "button", onclick: () => download(`/api/jobs/${job.job}/export`, `without-${pruned.concept.replace(/\W+/g, "-")}.safetensors`) }, "Download the weights"),
      el("button", { type: "button", onclick: () => download(`/api/jobs/${job.job}/card`, `without-${pruned.concept.replace(/\W+/g, "-")}.json`) }, "Download the card")));
  }
  if (!pruned.unmeasured) parts.push(changes(pruned));
  const turn = el("div");
  parts.push(turn);
  if (pruned.changed.length) turn.append(scaleBox(pruned.run, chosen, pruned.changed));
  else {
    get("/api/clips", { index: pruned.run.split("/")[0], q: pruned.concepts, limit: 20 }).then((answer) => {
      if (answer.results.length) turn.append(scaleBox(pruned.run, chosen, answer.results));
    }, () => {});
  }
  return parts;
}

// The units that were found, layer by layer; each opens its page.
function prunedUnits(chosen) {
  const layers = Object.entries(chosen).filter(([, units]) => units.length);
  return el("details", {}, el("summary", {}, `The units, in ${count(layers.length, "layer")}`), layers.map(([layer, units]) => el("div", {},
    el("h4", {}, `${layer} (${units.length})`), el("p", { class: "unit-links" }, units.slice(0, MOST_LINKS).map((unit) => el("a", {
      href: addressWith({ ...NO_QUERY, view: "units", unit: `${layer}:${unit}`, lasso: "", words: "", layer: "", list: "" }) }, String(unit))),
    units.length > MOST_LINKS && el("span", { class: "muted" }, `and ${units.length - MOST_LINKS} more`)))));
}

function changes(pruned) {
  const list = (title, clips, none) => [el("h4", {}, title), clips.length
    ? el("ol", { class: "clips" }, clips.map((clip) => clipTile({
      run: pruned.run, index: pruned.run.split("/")[0], unit: null, clip: { ...clip, peak: null, activation: null }, facts: answers(clip) })))
    : el("p", { class: "none" }, none)];
  return el("section", { class: "part changes" }, el("h3", {}, "Listen to what changes"),
    el("p", { class: "muted" }, "The held-out clips whose answer changes most, with the probability of their class and the network's first answer, before and after."),
    ...list("Clips of the concept", pruned.changed.filter((clip) => clip.of_concept), "The network answers the same to every clip of the concept."),
    ...list("Other clips (side effects)", pruned.changed.filter((clip) => !clip.of_concept), "The network answers the same to every other clip."));
}

const answers = (clip) => el("dl", { class: "answers" },
  el("div", {}, el("dt", {}, clip.class_name), el("dd", {}, `${fixed(clip.before, 3)} → ${fixed(clip.after, 3)}`)),
  el("div", {}, el("dt", {}, "first answer"), el("dd", {}, clip.answer_before === clip.answer_after ? `still ${clip.answer_after}` : `${clip.answer_before} → ${clip.answer_after}`)));

function curve(pruned) {
  const x = pruned.budgets.map((budget) => 100 * budget.share);
  const series = [["gap", "gap"], ["random units", "random_gap"], ["by labels", "oracle_gap"]]
    .map(([name, field]) => ({ name, class: field, x, y: pruned.budgets.map((budget) => budget[field]) }))
    .filter((one) => one.y.every((value) => value !== null));
  return lines(series, { label: "Loss of the concept less loss of the rest", unit: "% of units" });
}

function table(pruned) {
  const heads = ["units", "share", "concept", "others", "gap", "random gap", "by labels"];
  const cells = (budget, place) => [`${budget.units}${place === pruned.chosen ? " (knee)" : ""}`, percent(budget.share, 1), ...["delta_target", "delta_rest", "gap", "random_gap", "oracle_gap"].map((field) => fixed(budget[field], 3))];
  return el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "Budgets" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, pruned.budgets.map((budget, place) => el("tr", { class: place === pruned.chosen ? "knee" : "" }, cells(budget, place).map((cell) => el("td", {}, cell)))))));
}
