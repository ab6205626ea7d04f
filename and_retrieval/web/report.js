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

// ---------- words ----------

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const words = (text) => fold(text).match(/[\p{L}\p{N}]+/gu) ?? [];
const sameConcept = (text) => fold(text).replace(/_/g, " ").replace(/\s+/g, " ").trim();

// Word -> [unit, weight, unit, weight, ...] for what is said about a unit, and word -> clips for
// captions: a caption is shared by many units, so it is indexed once.
function buildIndex() {
  const said = new Map();
  const heard = new Map();
  const put = (map, word, ...entry) => {
    const list = map.get(word);
    if (list) list.push(...entry);
    else map.set(word, [...entry]);
  };
  const clipUnits = data.clips.map(() => []);
  units.forEach((unit, i) => {
    const best = new Map();
    const add = (text, weight) => {
      for (const word of words(text)) best.set(word, Math.max(best.get(word) ?? 0, weight));
    };
    if (unit.text) add(unit.text, 3);
    add(`${data.layers[unit.layer].name} ${unit.unit}`, 4);
    unit.labels.forEach(([concept], rank) => add(data.concepts[concept], 6 / (1 + 0.15 * rank)));
    for (const [word, weight] of best) put(said, word, i, weight);
    for (const [clip] of unit.top) clipUnits[clip].push(i);
  });
  data.clips.forEach((clip, i) => {
    if (clip.caption) for (const word of new Set(words(clip.caption))) put(heard, word, i);
  });
  const vocabulary = [...new Set([...said.keys(), ...heard.keys()])].sort();
  return { said, heard, clipUnits, vocabulary };
}

let index = null;

function* withPrefix(vocabulary, prefix) {
  let low = 0;
  let high = vocabulary.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (vocabulary[middle] < prefix) low = middle + 1;
    else high = middle;
  }
  for (; low < vocabulary.length && vocabulary[low].startsWith(prefix); low += 1) yield vocabulary[low];
}

// Score of every unit for one word of the query: whole words count twice as much as prefixes.
function scoreWord(term) {
  const scores = new Float64Array(units.length);
  for (const word of withPrefix(index.vocabulary, term)) {
    const share = word === term ? 1 : 0.5;
    const said = index.said.get(word) ?? [];
    for (let i = 0; i < said.length; i += 2) scores[said[i]] = Math.max(scores[said[i]], share * said[i + 1]);
  }
  const clips = new Map();
  for (const word of withPrefix(index.vocabulary, term)) {
    const share = word === term ? 1 : 0.5;
    for (const clip of index.heard.get(word) ?? []) clips.set(clip, Math.max(clips.get(clip) ?? 0, share));
  }
  for (const [clip, share] of clips) {
    for (const unit of index.clipUnits[clip]) scores[unit] += share / units[unit].top.length;
  }
  return scores;
}

function rankByWords(query) {
  index ??= buildIndex();
  const terms = [...new Set(words(query))];
  const perTerm = terms.map(scoreWord);
  const wanted = fold(query).trim();
  const found = [];
  units.forEach((unit, i) => {
    if (!perTerm.length || perTerm.some((scores) => scores[i] === 0)) return;
    const name = fold(data.layers[unit.layer].name);
    const exact = [":", "/", " "].some((mark) => wanted === name + mark + unit.unit);
    found.push([i, perTerm.reduce((sum, scores) => sum + scores[i], exact ? 1000 : 0)]);
  });
  return found.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

// ---------- what is listed ----------

const hitsOf = new Map(data.hits.map(([concept, list]) => [sameConcept(concept), { concept, list }]));
const bestScore = (i) => units[i].labels[0]?.[1] ?? -Infinity;
const plainOrder = units.map((_, i) => i).sort((a, b) => units[a].layer - units[b].layer || units[a].unit - units[b].unit);
const scoreOrder = [...plainOrder].sort((a, b) => (bestScore(b) === bestScore(a) ? 0 : bestScore(b) - bestScore(a)));
const tier = (i) => [true, null, false].indexOf(units[i].reliable);
const clearOrder = [...scoreOrder].sort((a, b) => tier(a) - tier(b));
const orders = { clear: clearOrder, unit: plainOrder, score: scoreOrder };
const tested = units.some((unit) => unit.reliable !== null);

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
  const kept = ranked.filter(([i]) => (layer === "" || units[i].layer === Number(layer)) && (!only || units[i].reliable));
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
    status.replaceChildren(el("b", {}, "Ranked by vector score"), ` for “${known.concept}”: ${shown}, the best the run kept for this concept`);
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

// ---------- clips ----------

const player = byId("player");
let playing = null;

function media(clip) {
  if (clip.row < 0) return null;
  const block = byId(`clip-${clip.row}`);
  return block ? JSON.parse(block.textContent) : null;
}

function stop() {
  player.pause();
  playing?.stopped();
  playing = null;
}

function start(part, from) {
  if (playing !== part) {
    stop();
    playing = part;
    player.src = part.source;
  }
  const go = () => {
    if (playing !== part) return;
    if (from !== null) player.currentTime = Math.max(0, from);
    player.play().then(part.started, part.failed);
  };
  if (player.readyState > 0) go();
  else player.addEventListener("loadedmetadata", go, { once: true });
}

function moveHead() {
  if (!playing) return;
  playing.at(player.currentTime);
  if (!player.paused) requestAnimationFrame(moveHead);
}
player.addEventListener("playing", moveHead);
player.addEventListener("seeked", moveHead);
player.addEventListener("ended", stop);
player.addEventListener("error", () => playing?.failed());

function icon() {
  const shape = (name, d) => svg("svg", { class: name, viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("path", { d }));
  return [shape("start", "M2.5 1v10l8-5z"), shape("pause", "M2 1h3v10H2zM7 1h3v10H7z")];
}

function clipWithSound(clip, sound, peak, activation) {
  const name = clip.caption ?? clip.path;
  const line = el("span", { class: "peak" });
  const head = el("span", { class: "head" });
  const picture = el("div", {
    class: "picture", role: "slider", tabindex: "0", "aria-label": `Position in ${name}`,
    "aria-valuemin": "0", "aria-valuemax": sound.duration.toFixed(2), "aria-valuenow": "0",
    "aria-valuetext": peak === null ? "start" : `start; peak at ${seconds(peak)}`,
  }, el("img", { alt: "", src: `data:image/png;base64,${sound.image}`, decoding: "async" }), peak === null ? null : line, head);
  const place = (node, time) => { node.style.left = `${Math.min(100, (100 * time) / sound.duration)}%`; };
  if (peak !== null) place(line, peak);
  const play = el("button", { class: "play", type: "button", "aria-label": `Play ${name}` }, ...icon());
  const tile = el("li", { class: "clip" }, picture);
  const part = {
    source: `data:audio/mpeg;base64,${sound.audio}`,
    started: () => { tile.classList.add("playing"); play.setAttribute("aria-label", `Pause ${name}`); },
    stopped: () => { tile.classList.remove("playing"); play.setAttribute("aria-label", `Play ${name}`); },
    failed: () => { if (tile.isConnected && player.error) tile.append(el("span", { class: "muted" }, "This browser could not play the clip.")); part.stopped(); },
    at: (time) => {
      place(head, time);
      picture.setAttribute("aria-valuenow", time.toFixed(2));
      picture.setAttribute("aria-valuetext", `${seconds(time)} of ${seconds(sound.duration)}`);
    },
  };
  const toggle = () => (playing === part && !player.paused ? (player.pause(), part.stopped()) : start(part, playing === part ? null : 0));
  play.addEventListener("click", toggle);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    start(part, (sound.duration * (event.clientX - box.left)) / box.width);
  });
  picture.addEventListener("keydown", (event) => {
    const now = playing === part ? player.currentTime : 0;
    const step = sound.duration / 20;
    const to = { ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, Home: 0, End: sound.duration - step }[event.key];
    if (event.key === " " || event.key === "Enter") toggle();
    else if (to !== undefined) start(part, Math.min(to, sound.duration - 0.05));
    else return;
    event.preventDefault();
  });
  const at = peak === null ? null : el("button", {
    type: "button", class: "at", title: "Play from just before the peak", onclick: () => start(part, peak - 0.3),
    "aria-label": `Play ${name} from just before the peak at ${seconds(peak)}`,
  }, `at ${seconds(peak)}`);
  tile.append(el("div", { class: "keys" }, play, strength(activation), at), ...clipText(clip));
  return tile;
}

const strength = (activation) => el("span", { class: "strength", title: "Activation" }, figure(activation));

function clipText(clip) {
  return [
    clip.caption === null ? null : el("span", { class: "caption" }, ...marked(clip.caption)),
    pathLine(clip),
  ].filter(Boolean);
}

// The last two parts of the path; the whole of it is the tooltip and what is copied.
function pathLine({ path, start }) {
  const [, folder, file] = path.match(/([^/\\]*[/\\])?([^/\\]*)$/);
  const shown = (folder ?? "") + file;
  const line = el("span", { class: "path", title: path }, folder ?? "", el("span", {}, file),
    start ? el("span", {}, `\u00a0from\u00a0${Number(start.toFixed(2))}\u00a0s`) : null);
  line.addEventListener("copy", (event) => {
    const copied = getSelection().toString();
    if (!copied.includes(shown)) return;
    event.clipboardData.setData("text/plain", copied.replace(shown, () => path));
    event.preventDefault();
  });
  return line;
}

function clipTile([number, peak, activation]) {
  const clip = data.clips[number];
  const sound = media(clip);
  if (sound) return clipWithSound(clip, sound, peak, activation);
  const at = peak === null ? null : el("span", { class: "at" }, `at ${seconds(peak)}`);
  return el("li", { class: "clip silent" }, el("div", { class: "keys" }, strength(activation), at), ...clipText(clip));
}

const clipList = (shown) => el("ol", { class: "clips" }, ...shown.map(clipTile));

function folded(title, shown) {
  const box = el("details", {}, el("summary", {}, title));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) {
      const clips = clipList(shown);
      clips.classList.add("more");
      box.append(clips);
    }
  });
  return box;
}

// ---------- cards ----------

function marked(text) {
  if (!state.terms.length) return [text];
  return text.split(/([\p{L}\p{N}\p{M}]+)/u).map((piece, i) =>
    i % 2 && state.terms.some((term) => fold(piece).startsWith(term)) ? el("mark", {}, piece) : piece);
}

function ask(concept) {
  byId("query").value = concept;
  state.wordsOnly = false;
  refresh();
  toResults();
}

function bar(concept, value, share, hint) {
  return el("li", {}, el("button", { type: "button", title: hint, onclick: () => ask(concept) },
    el("span", { class: "name" }, ...marked(concept)), el("span", { class: "value" }, value), track(share)));
}

const kind = (title, made = "automatic") =>
  el("p", { class: "kind" }, el("span", {}, title), el("span", { class: `tag ${made}` }, made));
const [scoreLow, scoreHigh] = data.scoreRange;
const scoreShare = (score) => (score === null || scoreHigh <= scoreLow ? 0 : (score - scoreLow) / (scoreHigh - scoreLow));

function summaryOf(unit) {
  const raw = unit.raw === null ? null
    : el("details", {}, el("summary", {}, "Raw answer of the model"), el("pre", {}, unit.raw));
  if (unit.text !== null) {
    // A composed sentence was put together from the evidence by rule; the model's own answers were refused.
    const made = unit.origin === "composed" ? "composed" : "automatic";
    return el("div", {}, kind("Summary", made), el("p", { class: "sentence" }, ...marked(unit.text)), raw);
  }
  const failed = unit.reliable === false;
  return el("div", { class: failed ? "abstained" : "unsaid" }, el("b", {}, failed ? "No reliable explanation" : "No sentence"),
    unit.reason ? `: ${unit.reason}` : "", raw);
}

const VERDICTS = [
  [true, "holds", "holds on unseen clips"],
  [false, "fails", "does not hold on unseen clips"],
  [null, "untested", "not tested on unseen clips"],
];

function trustOf(unit) {
  if (!unit.labels.length) return null;
  const [, style, text] = VERDICTS.find(([verdict]) => verdict === unit.reliable);
  return el("div", { class: "trust" }, el("p", { class: `badge ${style}`, title: "Verdict on the first label" }, text),
    unit.faithfulness && el("p", { class: "muted" }, ...figuresOf(unit)));
}

function figuresOf(unit) {
  const [clips, correlation, random, best, auprc, base, q] = unit.faithfulness;
  const chance = q !== null && q < 0.001 ? "q < 0.001" : `q\u00a0${q === null ? "–" : q.toFixed(3)}`;
  return [
    `On ${count(clips, "unseen clip")}: correlation `, el("b", {}, fixed(correlation)),
    ` (random label ${fixed(random)}, best of ten ${fixed(best)}), AUPRC `, el("b", {}, fixed(auprc)),
    ` (base rate ${fixed(base)}), ${chance.replaceAll(" ", "\u00a0")}`,
  ];
}

function acousticsOf(unit) {
  if (unit.acoustics === null) return null;
  return el("div", {}, kind("Acoustics", "measured"),
    el("p", { class: "acoustics", title: "rho: rank correlation of a measured quality of the clips and the activation, −1 to 1" },
      unit.acoustics.replace(/-(?=\d)/g, "−")));
}

function labelsOf(unit) {
  if (!unit.labels.length) return el("p", { class: "muted" }, "No label.");
  return el("div", {}, kind("Labels and scores"), el("ol", { class: "bars" }, ...unit.labels.map(([concept, score]) =>
    bar(data.concepts[concept], figure(score), scoreShare(score), "Find units for this label"))));
}

const anchor = (unit) => `${encodeURIComponent(data.layers[unit.layer].name)}/${unit.unit}`;

function card(i) {
  const unit = units[i];
  const hit = state.scores.has(i) ? el("p", { class: "hit" }, `vector score ${figure(state.scores.get(i))}`) : null;
  const rest = unit.top.slice(FIRST_CLIPS);
  const heading = el("h3", {}, el("a", { href: `#${anchor(unit)}`, title: "Link to this unit" },
    `${data.layers[unit.layer].name} `, el("b", {}, `unit\u00a0${unit.unit}`)));
  return el("article", { class: "card", "data-unit": i, tabindex: "-1",
    "aria-label": `${data.layers[unit.layer].name} unit ${unit.unit}` },
  el("div", { class: "about" }, heading, hit, summaryOf(unit), labelsOf(unit), trustOf(unit), acousticsOf(unit)),
  el("div", { class: "sounds" },
    el("p", { class: "muted" }, unit.top.length ? "Strongest clips, with activation and time of the peak" : "No clip was kept for this unit."),
    clipList(unit.top.slice(0, FIRST_CLIPS)),
    rest.length ? folded(`${count(rest.length, "more strong clip")}`, rest) : null,
    unit.low.length ? folded(`${count(unit.low.length, "weakest clip")}`, unit.low) : null));
}

function drawPage() {
  stop();
  const from = state.page * PAGE;
  const cards = state.listed.slice(from, from + PAGE).map(card);
  byId("cards").replaceChildren(...(cards.length ? cards : [el("p", { class: "none" }, byId("reliable").checked
    ? "No reliable unit matches. Untick “Only reliable”, or try other words or another layer."
    : "No unit matches. Try fewer or shorter words, or another layer.")]));
  drawPages();
}

function turnTo(page) {
  state.page = page;
  drawPage();
  toResults();
}

function toResults() {
  byId("results").scrollIntoView();
  byId("results").focus({ preventScroll: true });
}

function drawPages() {
  const last = Math.ceil(state.listed.length / PAGE) - 1;
  const nav = byId("pages");
  nav.replaceChildren();
  if (last < 1) return;
  const button = (text, page, attributes = {}) => el("button", { type: "button", onclick: () => turnTo(page), ...attributes }, text);
  const near = [...new Set([0, state.page - 1, state.page, state.page + 1, last])].filter((page) => page >= 0 && page <= last);
  nav.append(button("Previous", state.page - 1, { disabled: state.page === 0 }));
  near.forEach((page, i) => {
    if (i && page - near[i - 1] > 1) nav.append(el("span", { "aria-hidden": "true" }, "…"));
    nav.append(button(String(page + 1), page, { "aria-current": page === state.page ? "page" : null, "aria-label": `Page ${page + 1}` }));
  });
  nav.append(button("Next", state.page + 1, { disabled: state.page === last }));
}

// ---------- links to a unit ----------

function readAnchor() {
  const text = location.hash.slice(1);
  const cut = text.lastIndexOf("/");
  if (cut < 0) return -1;
  let layer;
  try { layer = decodeURIComponent(text.slice(0, cut)); } catch { return -1; }
  return units.findIndex((unit) => data.layers[unit.layer].name === layer && String(unit.unit) === text.slice(cut + 1));
}

function goToAnchor() {
  const i = readAnchor();
  if (i < 0) return;
  let place = state.listed.indexOf(i);
  if (place < 0) {
    byId("query").value = "";
    byId("layer").value = "";
    byId("reliable").checked = false;
    list();
    place = state.listed.indexOf(i);
    state.page = -1;
  }
  if (state.page !== Math.floor(place / PAGE)) {
    state.page = Math.floor(place / PAGE);
    drawPage();
  }
  document.querySelector(".card.found")?.classList.remove("found");
  const found = document.querySelector(`[data-unit="${i}"]`);
  found.classList.add("found");
  found.scrollIntoView();
  found.focus({ preventScroll: true });
}

// ---------- header and overview ----------

function drawHeader() {
  byId("title").textContent = data.title;
  for (const [name, value] of data.facts) byId("facts").append(el("div", {}, el("dt", {}, name), el("dd", {}, ...withHashes(value))));
  if (!data.facts.length) byId("facts").remove();
  for (const note of data.notes) byId("notes").append(el("p", { class: "note" }, note));
  byId("trust").hidden = !tested;
  byId("level").textContent = String(data.level);
  const { stored, wanted, unreadable, megabytes } = data.sound;
  const whole = stored + unreadable.length === wanted;
  byId("sound").textContent = !wanted ? "No clips are attached to these explanations." : whole
    ? `Every shown clip that could be read can be played here (${count(stored, "clip")}).`
    : `To stay below ${megabytes} MB this page holds the sound of ${stored.toLocaleString("en")} of ${count(wanted, "clip")}, `
      + "taken from the clearest units of every layer first. "
      + `The overview says for how many units the ${FIRST_CLIPS} strongest can all be played; `
      + "other clips are listed with their path, whole in the tooltip and when copied.";
  if (unreadable.length) {
    const box = byId("unreadable");
    box.hidden = false;
    box.firstElementChild.textContent = `${count(unreadable.length, "clip")} could not be read and ${unreadable.length === 1 ? "is" : "are"} shown without sound`;
    box.lastElementChild.append(...unreadable.map((line) => el("li", { class: "mono" }, line)));
  }
}

function histogram(scores) {
  const width = 300;
  const height = 54;
  const top = Math.max(...scores.counts);
  const step = width / scores.counts.length;
  const bars = scores.counts.map((n, i) => {
    const tall = n ? Math.max(1.5, (height * n) / top) : 0;
    return svg("rect", { x: i * step + 0.5, y: height - tall, width: step - 1, height: tall, rx: 1 });
  });
  const x = scores.high > scores.low ? (width * (scores.median - scores.low)) / (scores.high - scores.low) : width / 2;
  const text = (at, end, content) => svg("text", { x: at, y: height + 14, "text-anchor": end }, content);
  return svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height + 18}`, role: "img",
    "aria-label": `Best label scores from ${figure(scores.low)} to ${figure(scores.high)}, median ${figure(scores.median)}` },
  ...bars, svg("line", { x1: 0, x2: width, y1: height, y2: height }),
  svg("line", { class: "median", x1: x, x2: x, y1: 0, y2: height }),
  text(0, "start", figure(scores.low)), text(width, "end", figure(scores.high)));
}

function drawLayers() {
  const number = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  data.layers.forEach((layer, i) => {
    byId("layer").append(el("option", { value: String(i) }, layer.name));
    const most = layer.frequent[0]?.[1] ?? 1;
    const place = i < FIRST_LAYERS ? byId("layers") : byId("more-layers").lastElementChild;
    place.append(el("article", { class: "layer" },
      el("h3", {}, el("button", { type: "button", class: "link", title: "Show only this layer", onclick: () => {
        byId("layer").value = String(i);
        refresh();
        toResults();
      } }, layer.name)),
      el("dl", { class: "numbers" }, number("units", layer.units.toLocaleString("en")),
        number("labelled", percent(layer.labelled, layer.units)), number("reliable", percent(layer.reliable, layer.tested)),
        number("sentences", percent(layer.sentences, layer.units)),
        layer.heard < layer.units ? number("playable", layer.heard.toLocaleString("en")) : null),
      el("dl", { class: "measures" }, number("Labels that hold", layer.tested
        ? `${layer.reliable.toLocaleString("en")} of ${layer.tested.toLocaleString("en")} tested` : "none tested"),
      ...layer.facts.map(([name, value]) => number(name, value))),
      layer.frequent.length ? el("div", {}, kind("Most frequent best labels"),
        el("ol", { class: "bars" }, ...layer.frequent.map(([concept, n]) => bar(concept, String(n), n / most, "Find units for this label")))) : null,
      layer.scores ? el("figure", {}, el("figcaption", {}, "Score of the best label, over units; dashed: median"), histogram(layer.scores)) : null));
  });
  const more = data.layers.length - FIRST_LAYERS;
  byId("more-layers").hidden = more <= 0;
  byId("more-layers").firstElementChild.textContent = count(more, "more layer");
}

// ---------- start ----------

function listen() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("query").addEventListener("input", () => { state.wordsOnly = false; refresh(); });
  for (const id of ["layer", "order", "reliable"]) byId(id).addEventListener("change", refresh);
  byId("swap").addEventListener("click", () => { state.wordsOnly = !state.wordsOnly; refresh(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("query").focus();
    } else if (event.key === "Escape" && event.target === byId("query") && byId("query").value) {
      byId("query").value = "";
      refresh();
    }
  });
  window.addEventListener("hashchange", goToAnchor);
}

drawHeader();
drawLayers();
byId("concepts").append(...data.hits.map(([concept]) => el("option", { value: concept })));
byId("reliable").disabled = !tested;
if (!tested) byId("reliable").parentElement.title = "No label was tested: too few clips were held out";
listen();
refresh();
goToAnchor();
setTimeout(() => { index ??= buildIndex(); }, 50);
