// Two runs side by side, layer by layer, with intervals and chance.

import { go } from "./address.js";
import { get, hasToken } from "./api.js";
import { el, failed, fixed, frame, options, waiting } from "./elements.js";

export async function compareView(now, { runs, current }) {
  const explained = runs.filter((run) => run.explained);
  if (explained.length < 2) {
    frame(el("h1", {}, "Compare"), el("p", { class: "none" }, "Two explained runs are needed. Record another network on the same index and explain it."));
    return;
  }
  const a = now.a || now.run;
  const b = now.b || explained.find((run) => run.run !== a)?.run;
  const choice = (name, value) => {
    const select = el("select", { "aria-label": `Run ${name}`, onchange: () => go({ [name]: select.value }) });
    options(select, explained.map((run) => [run.run, run.run]), value);
    return select;
  };
  const out = el("div");
  frame(el("h1", {}, "Compare"), el("p", { class: "buttons" }, choice("a", a), " with ", choice("b", b)), out);
  if (!hasToken()) {
    out.replaceChildren(el("p", { class: "note" }, "Open the address that and-retrieval serve printed to compare runs."));
    return;
  }
  out.replaceChildren(waiting("Comparing; this takes some seconds…"));
  let comparison;
  try {
    comparison = await get("/api/compare", { a, b });
  } catch (error) {
    out.replaceChildren(failed(error));
    return;
  }
  if (!current()) return;
  out.replaceChildren(
    el("h2", {}, "Findings"),
    comparison.findings.length ? el("ul", {}, comparison.findings.map((finding) => el("li", {}, finding))) : el("p", { class: "none" }, "No difference exceeds chance."),
    layers(comparison.a, comparison.target_a, comparison.layers_a), ...(comparison.a === comparison.b ? [] : [layers(comparison.b, comparison.target_b, comparison.layers_b)]),
    comparison.left_out.length ? el("h2", {}, "Left out") : "", el("ul", {}, comparison.left_out.map((line) => el("li", {}, line))),
    el("h2", {}, "Limits"), el("ul", { class: "muted" }, comparison.caveats.map((line) => el("li", {}, line))));
}

const range = (interval) => (interval === null ? "–" : `${fixed(interval.value)} (${fixed(interval.low)} to ${fixed(interval.high)})`);
const chance = (value) => (value === null ? "" : `, chance ${fixed(value)}`);

function layers(run, target, all) {
  const heads = ["layer", "units", "labels that hold", "faithfulness", "polysemanticity", "concepts"];
  return el("section", {}, el("h2", {}, `${run} (${target})`), el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": `Layers of ${run}` }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, all.map((layer) => el("tr", {}, el("th", { scope: "row" }, layer.name),
      ...[layer.units, range(layer.reliable), range(layer.correlation) + chance(layer.best_correlation), range(layer.polysemanticity) + chance(layer.random_polysemanticity),
        `${layer.concepts} (effective ${fixed(layer.effective_concepts, 1)})`].map((cell) => el("td", {}, cell))))))));
}
