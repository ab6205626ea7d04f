// ---------- what is listed ----------

const hitsOf = new Map(data.hits.map(([concept, list]) => [sameConcept(concept), { concept, list }]));
const bestScore = (i) => units[i].labels[0]?.[1] ?? -Infinity;
const plainOrder = units.map((_, i) => i).sort((a, b) => units[a].layer - units[b].layer || units[a].unit - units[b].unit);
const scoreOrder = [...plainOrder].sort((a, b) => (bestScore(b) === bestScore(a) ? 0 : bestScore(b) - bestScore(a)));
const tier = (i) => ["holds", "untested", "fails"].indexOf(units[i].reliable);
const clearOrder = [...scoreOrder].sort((a, b) => tier(a) - tier(b));
const orders = { clear: clearOrder, unit: plainOrder, score: scoreOrder };
const tested = units.some((unit) => unit.reliable !== "untested");

const state = { page: 0, wordsOnly: false, listed: [], scores: new Map(), terms: [], concept: null };

function list() {
  const query = byId("query").value;
  const known = hitsOf.get(sameConcept(query));
  const byVectors = known && !state.wordsOnly;
  const asked = words(query).length > 0;
  let ranked;
  if (byVectors) ranked = known.list;
  else if (asked) ranked = rankByWords(query);
  else ranked = orders[byId("order").value].map((i) => [i, 0]);
  const layer = byId("layer").value;
  const only = byId("reliable").checked;
  const several = byId("several").checked;
  const kept = ranked.filter(([i]) => (layer === "" || units[i].layer === Number(layer))
    && (!only || units[i].reliable === "holds") && (!several || units[i].meanings.length));
  state.listed = kept.map(([i]) => i);
  state.scores = new Map(byVectors ? kept : []);
  state.concept = byVectors ? known.concept : null;
  state.terms = asked && !byVectors ? words(query) : [];
  byId("order").disabled = asked;
  byId("overview").hidden = asked;
  showStatus(known, byVectors, asked);
}

function showStatus(known, byVectors, asked) {
  const status = byId("status");
  const shown = count(state.listed.length, "unit");
  if (byVectors) {
    const ranked = known.list.some(([, score]) => score === null) ? "Ranked by measured sound, then by vector score" : "Ranked by vector score";
    status.replaceChildren(el("b", {}, ranked), ` for “${known.concept}”: ${shown}, the best the run kept for this concept`);
  } else if (asked) {
    status.replaceChildren(el("b", {}, "Matched by words"), ` in labels, summaries and captions of top clips: ${shown}`);
  } else {
    status.replaceChildren(`${shown} of ${units.length.toLocaleString("en")}`);
  }
  const swap = byId("swap");
  swap.hidden = !known;
  swap.textContent = byVectors ? "Match words instead" : "Rank by vector score instead";
}

function refresh() {
  state.page = 0;
  list();
  drawPage();
}

