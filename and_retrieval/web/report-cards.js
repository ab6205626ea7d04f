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

function bar(concept, value, share, hint, source = null) {
  return el("li", {}, el("button", { type: "button", title: hint, onclick: () => ask(concept) },
    el("span", { class: "name" }, ...marked(concept), source && el("span", { class: "source" }, source)),
    el("span", { class: "value" }, value), track(share)));
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
  if (unit.kind === "acoustic" && unit.reliable !== "fails" && unit.acoustics !== null) {
    return el("div", { class: "unsaid" }, el("b", {}, "Measured sound explains it"), `: ${signed(unit.acoustics)}`, raw);
  }
  const failed = unit.reliable === "fails" && !unit.meanings.some((meaning) => meaning.reliable === "holds");
  return el("div", { class: failed ? "abstained" : "unsaid" }, el("b", {}, failed ? "No reliable explanation" : "No sentence"),
    unit.reason ? `: ${unit.reason}` : "", raw);
}

const VERDICTS = [
  ["holds", "holds on unseen clips"],
  ["fails", "does not hold on unseen clips"],
  ["untested", "not tested on unseen clips"],
];

const KINDS = {
  concept: "Its label says more of it than measured sound does.",
  acoustic: "Qualities of sound explain it, whatever makes the sound.",
  both: "Its label and measured sound explain it equally well.",
};

function trustOf(unit) {
  if (!unit.labels.length) return null;
  const [style, text] = VERDICTS.find(([state]) => state === unit.reliable);
  return el("div", { class: "trust" }, el("p", { class: `badge ${style}`, title: "Verdict on the first label" }, text),
    unit.kind && el("p", { class: "muted" }, KINDS[unit.kind]),
    unit.faithfulness && el("p", { class: "muted" }, ...figuresOf(unit)),
    unit.byCaptions && el("p", { class: "muted" }, "By their captions. ", ...figuresOf({ faithfulness: unit.byCaptions })),
    unit.overTime && el("p", { class: "muted" }, ...overTimeOf(unit.overTime)));
}

const FOLLOWS = new Map([
  [true, "the concept is there when the unit fires"],
  [false, "the concept is there at other times than those at which the unit fires"],
  [null, "it is not shown that the concept is there just when the unit fires"],
]);

function overTimeOf([clips, score, q, follows]) {
  return [`Within ${count(clips, "clip")}: ${FOLLOWS.get(follows)} (score `, el("b", {}, fixed(score)), ` of 1, chance 0, ${chanceOf(q)})`];
}

const chanceOf = (q) => (q !== null && q < 0.001 ? "q < 0.001" : `q\u00a0${q === null ? "–" : q.toFixed(3)}`).replaceAll(" ", "\u00a0");

function figuresOf({ faithfulness }) {
  const [clips, correlation, random, best, auprc, base, q] = faithfulness;
  return [
    `On ${count(clips, "unseen clip")}: correlation `, el("b", {}, fixed(correlation)),
    ` (random label ${fixed(random)}, best of ten ${fixed(best)}), AUPRC `, el("b", {}, fixed(auprc)),
    ` (base rate ${fixed(base)}), ${chanceOf(q)}`,
  ];
}

// With minus signs before numbers; the hyphen of a range stays.
const signed = (text) => text.replace(/(?<!\d)-(?=\d)/g, "−");

function acousticsOf(unit) {
  if (unit.acoustics === null) return null;
  return el("div", {}, kind("Acoustics", "measured"),
    el("p", { class: "acoustics", title: "rho: rank correlation of a measured quality of the clips and the activation, −1 to 1" },
      signed(unit.acoustics)));
}

// ---------- tuning ----------

const CURVE = { width: 220, height: 44, axis: 14 };

function tuningOf(unit) {
  if (!unit.tuning.length) return null;
  return el("div", {}, kind("Tuning", "measured"), ...unit.tuning.map(curveOf));
}

// Mean activation over the bins of a measured quality with its 95 % interval; the range that is named is shaded.
function curveOf([words, number, effect, means, margins, [low, high]]) {
  const axis = data.axes[number];
  const { width, height } = CURVE;
  const scale = axis.logarithmic ? Math.log : (value) => value;
  const [from, to] = [axis.centres[0], axis.centres.at(-1)].map(scale);
  const bottom = Math.min(...means.map((mean, i) => mean - margins[i]));
  const top = Math.max(...means.map((mean, i) => mean + margins[i]));
  const x = (value) => width * Math.min(1, Math.max(0, (scale(value) - from) / (to - from)));
  const y = (value) => 1 + (height - 2) * (1 - (value - bottom) / (top - bottom));
  const points = (side) => means.map((mean, i) => `${x(axis.centres[i]).toFixed(1)},${y(mean + side * margins[i]).toFixed(1)}`);
  const share = `${effect < 0.005 ? "<1" : Math.round(100 * effect)} % of variance`;
  const spoken = means.map((mean, i) => `${figure(mean)} at ${inUnit(axis, axis.centres[i])}`).join(", ");
  const end = (at, anchor, value) => svg("text", { x: at, y: height + CURVE.axis - 2, "text-anchor": anchor }, inUnit(axis, value));
  return el("figure", { class: "curve" }, el("figcaption", {}, signed(words), el("span", {}, share)),
    svg("svg", { viewBox: `0 0 ${width} ${height + CURVE.axis}`, role: "img",
      "aria-label": `${signed(words)}, ${share}. Mean activation over ${axis.name}: ${spoken}` },
    svg("rect", { x: x(low), y: 0, width: Math.max(1, x(high) - x(low)), height }),
    svg("polygon", { points: [...points(1), ...points(-1).reverse()].join(" ") }),
    svg("polyline", { points: points(0).join(" ") }),
    end(0, "start", axis.centres[0]), end(width, "end", axis.centres.at(-1))));
}

// ---------- spectral profile ----------

const PROFILE = { width: 220, height: 36, axis: 14 };
const STRONG = 0.1; // of the bands that are read out

// One bar per mel band: how the activation goes with the band's level while the other bands are held constant.
function profileOf(unit) {
  if (!unit.profile.length) return null;
  const { width, height } = PROFILE;
  const step = width / unit.profile.length;
  const size = Math.max(...unit.profile.map(Math.abs));
  const bars = unit.profile.map((value, i) => {
    const tall = Math.max(0.5, (height / 2 - 1) * Math.abs(value) / size);
    return svg("rect", { class: value < 0 ? "less" : "more", x: (i * step + 0.5).toFixed(1), width: (step - 1).toFixed(1),
      y: (height / 2 - (value < 0 ? 0 : tall)).toFixed(1), height: tall.toFixed(1) });
  });
  const hertz = (value) => `${Number(value.toPrecision(2)).toLocaleString("en")}\u00a0Hz`;
  const strongest = unit.profile.map((value, i) => [value, i]).filter(([value]) => Math.abs(value) >= STRONG)
    .sort(([a], [b]) => Math.abs(b) - Math.abs(a)).slice(0, 3);
  const spoken = strongest.map(([value, i]) => `${fixed(value)} at ${hertz(data.bands[i])}`).join(", ");
  const end = (at, anchor, value) => svg("text", { x: at, y: height + PROFILE.axis - 2, "text-anchor": anchor }, hertz(value));
  return el("div", {}, kind("Spectral profile", "measured"), el("figure", { class: "curve profile",
    title: "Partial correlation of the activation with the level of each mel band, the other bands held constant" },
  svg("svg", { viewBox: `0 0 ${width} ${height + PROFILE.axis}`, role: "img",
    "aria-label": `Spectral profile, partial correlation by mel band, strongest: ${spoken}` },
  svg("line", { x1: 0, x2: width, y1: height / 2, y2: height / 2 }), ...bars,
  end(0, "start", data.bands[0]), end(width, "end", data.bands.at(-1)))));
}

const inUnit = (axis, value) => `${minus(String(Number(value.toPrecision(2))))}\u00a0${axis.unit}`;

// Where labels come from more than one source each says which; otherwise the heading does.
const SOURCES = { audio: "by sound", captions: "by captions", both: "by both", measured: "measured" };
const sources = new Set(units.flatMap((unit) => unit.labels.map(([, , source]) => source)));
const sourceOf = (source) => (sources.size > 1 ? SOURCES[source] : null);
const labelsTitle = sources.size === 1 ? `Labels ${SOURCES[[...sources][0]]}` : "Labels and scores";

function labelsOf(unit) {
  if (!unit.labels.length) return el("p", { class: "muted" }, "No label.");
  return el("div", {}, kind(labelsTitle), el("ol", { class: "bars" }, ...unit.labels.map(([concept, score, source]) =>
    bar(data.concepts[concept], figure(score), source === "measured" ? score : scoreShare(score), "Find units for this label", sourceOf(source)))));
}

const besideRandom = data.randomSpread === null ? "" : ` (random clips ${fixed(data.randomSpread)})`;

function spreadOf(unit) {
  if (unit.spread === null) return null;
  return el("div", {}, kind("Polysemanticity", "measured"),
    el("p", { class: "spread", title: "How far apart the strongest clips lie: 0 identical, 1 as different as clips picked at random" },
      el("b", {}, fixed(unit.spread)), besideRandom, track(unit.spread)));
}

function wordsOf(unit) {
  return unit.words.length ? el("div", {}, kind("Words for it"), el("p", {}, ...marked(unit.words.join(", ")))) : null;
}

// ---------- meanings ----------

const NAMED = 3; // labels of a meaning that are shown

function meaningOf(unit, meaning, number) {
  const clips = meaning.clips.map((place) => unit.top[place]);
  const rest = clips.slice(FIRST_CLIPS);
  const [style, verdict] = VERDICTS.find(([state]) => state === meaning.reliable);
  const names = meaning.labels.slice(0, NAMED).map(([concept, , source]) => el("li", {}, el("button", {
    type: "button", class: "link", title: "Find units for this label", onclick: () => ask(data.concepts[concept]),
  }, ...marked(data.concepts[concept])), sourceOf(source) && el("span", { class: "source" }, sourceOf(source))));
  return el("section", { class: "meaning" },
    el("div", { class: "title" }, el("h4", {}, `Meaning ${number + 1} of ${unit.meanings.length}`),
      el("span", { class: "muted" }, count(clips.length, "clip")),
      el("span", { class: `badge ${style}`, title: meaning.faithfulness ? figuresText(meaning) : "Verdict on its first label" }, verdict)),
    meaning.text === null ? null : el("p", { class: "sentence" }, ...marked(meaning.text)),
    names.length ? el("ol", { class: "names" }, ...names) : null,
    clipList(clips.slice(0, FIRST_CLIPS)),
    rest.length ? folded(count(rest.length, "more clip"), rest) : null);
}

const figuresText = (meaning) => el("p", {}, ...figuresOf(meaning)).textContent;

// The strongest clips, group by group where there are several meanings.
function strongest(unit) {
  if (!unit.meanings.length) {
    const rest = unit.top.slice(FIRST_CLIPS);
    return [
      el("p", { class: "muted" }, unit.top.length ? "Strongest clips, with activation and time of the peak" : "No clip was kept for this unit."),
      clipList(unit.top.slice(0, FIRST_CLIPS)),
      rest.length ? folded(count(rest.length, "more strong clip"), rest) : null,
    ];
  }
  const grouped = new Set(unit.meanings.flatMap((meaning) => meaning.clips));
  const rest = unit.top.filter((_, place) => !grouped.has(place));
  return [
    el("p", { class: "muted" }, "Strongest clips in groups, with activation and time of the peak"),
    ...unit.meanings.map((meaning, number) => meaningOf(unit, meaning, number)),
    rest.length ? folded(count(rest.length, "strong clip of no group", "strong clips of no group"), rest) : null,
  ];
}

const anchor = (unit) => `${encodeURIComponent(data.layers[unit.layer].name)}/${unit.unit}`;

const hitWords = (score) => (score === null ? "explained by this measured quality" : `vector score ${figure(score)}`);

function card(i) {
  const unit = units[i];
  const hit = state.scores.has(i) ? el("p", { class: "hit" }, hitWords(state.scores.get(i))) : null;
  const heading = el("h3", {}, el("a", { href: `#${anchor(unit)}`, title: "Link to this unit" },
    `${data.layers[unit.layer].name} `, el("b", {}, `unit\u00a0${unit.unit}`)));
  return el("article", { class: "card", "data-unit": i, tabindex: "-1",
    "aria-label": `${data.layers[unit.layer].name} unit ${unit.unit}` },
  el("div", { class: "about" }, heading, hit, summaryOf(unit), labelsOf(unit), trustOf(unit), wordsOf(unit), acousticsOf(unit), tuningOf(unit), profileOf(unit), spreadOf(unit)),
  el("div", { class: "sounds" }, ...strongest(unit),
    unit.low.length ? folded(`${count(unit.low.length, "weakest clip")}`, unit.low) : null));
}

function drawPage() {
  stop();
  const from = state.page * PAGE;
  const cards = state.listed.slice(from, from + PAGE).map(card);
  byId("cards").replaceChildren(...(cards.length ? cards : [el("p", { class: "none" }, byId("reliable").checked || byId("several").checked
    ? "No such unit matches. Untick the boxes, or try other words or another layer."
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

