// The network as a column of layers: what explains their units, how far labels hold, what they listen for.

import { addressWith, NO_QUERY } from "./address.js";
import { get } from "./api.js";
import { count, el, failed, fixed, frame, KINDS, percent, waiting } from "./elements.js";

const ORDER = ["concept", "both", "acoustic", "none"];

export async function overviewView({ run }, { again, current }) {
  if (!again) frame(el("h1", {}, run), waiting("Loading the layers…"));
  let network;
  try {
    network = await get("/api/overview", { run });
  } catch (error) {
    if (current()) frame(el("h1", {}, run), failed(error));
    return;
  }
  if (!current()) return;
  const units = network.layers.reduce((sum, layer) => sum + layer.units, 0);
  const most = Math.max(...network.layers.map((layer) => layer.units));
  frame(
    el("h1", {}, `What ${network.target} listens for`),
    el("p", { class: "muted" }, `${count(units, "unit")} in ${count(network.layers.length, "layer")}; ${count(network.clips, "clip")} heard, ${network.held_out} of them held out. `,
      "Choose a layer, a colour or a label to see its units."),
    network.problem ? el("p", { class: "note" }, network.problem) : null,
    network.explained || network.problem ? null : el("p", { class: "note" }, `The units have no labels yet: and-retrieval explain ${run}`),
    el("p", { class: "legend" }, ...ORDER.map((kind) => el("span", { class: `key kind-${kind}` }, KINDS[kind]))),
    el("ol", { class: "column" }, network.layers.map((layer) => layerRow(layer, most, network.chance))),
  );
}

function layerRow(layer, most, chance) {
  const to = (changes) => addressWith({ ...NO_QUERY, view: "units", layer: layer.layer, words: "", kind: "", reliable: "", unit: "", lasso: "", starred: "", list: "", ...changes });
  const shares = el("div", { class: "shares" });
  shares.style.width = `${Math.max(12, 100 * Math.sqrt(layer.units / most))}%`;
  for (const kind of ORDER) {
    const part = layer.kinds[kind];
    if (!part) continue;
    const link = el("a", { class: `share kind-${kind}`, href: to({ kind }), title: `${KINDS[kind]}: ${count(part, "unit")}`,
      "aria-label": `${layer.layer}, ${KINDS[kind]}: ${percent(part, layer.units)} of units` });
    link.style.flexGrow = String(part);
    shares.append(link);
  }
  const tested = layer.reliable.holds + layer.reliable.fails;
  const facts = [
    count(layer.units, "unit"),
    tested ? `${percent(layer.reliable.holds, tested)} of tested labels hold` : "labels not tested",
    layer.faithfulness === null ? null : `faithfulness ${fixed(layer.faithfulness)}`,
    layer.polysemanticity === null ? null : `polysemanticity ${fixed(layer.polysemanticity)}${chance === null ? "" : ` (random ${fixed(chance)})`}`,
    layer.acoustics ? `R² by measured sound ${fixed(layer.acoustics.r2)} (shuffled ${fixed(layer.acoustics.shuffled)})` : null,
  ].filter(Boolean);
  return el("li", { class: "layer-row" },
    el("h2", {}, el("a", { href: to({}) }, layer.layer)), shares,
    el("p", { class: "muted" }, facts.join(" · ")),
    layer.frequent.length ? el("p", { class: "frequent" }, layer.frequent.map(({ concept, units }) => el("a", { href: to({ words: concept }) }, concept, el("span", { class: "muted" }, ` ${units}`)))) : null);
}
