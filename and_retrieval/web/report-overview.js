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
    byId("several").checked = false;
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
  byId("spread").hidden = units.every((unit) => unit.spread === null);
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

// A part of the page with a heading, text, a table and pictures.
function drawSection({ title, paragraphs, table, pictures }) {
  const [heads, ...rows] = table;
  const row = (kind, cells) => el("tr", {}, ...cells.map((cell) => el(kind, {}, cell)));
  byId("sections").append(el("section", {}, el("h2", {}, title),
    ...paragraphs.map((text) => el("p", { class: "prose" }, text)),
    heads ? el("div", { class: "sheet" }, el("table", {}, el("thead", {}, row("th", heads)),
      el("tbody", {}, ...rows.map((cells) => row("td", cells))))) : null,
    ...pictures.map(([source, description]) => el("img", { class: "plate", src: source, alt: description }))));
}

const EXPLAINED_BY = [["concept", "concepts"], ["acoustic", "measured sound"], ["both", "either"], ["none", "neither"]];

function explainedBy(kinds) {
  const whole = Object.values(kinds).reduce((sum, n) => sum + n, 0);
  return EXPLAINED_BY.filter(([name]) => kinds[name]).map(([name, words]) => `${words} ${percent(kinds[name], whole)}`).join(", ");
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
      layer.kinds && number("Explained by", explainedBy(layer.kinds)),
      layer.spread === null ? null : number("Several meanings", `${layer.several.toLocaleString("en")} of ${layer.units.toLocaleString("en")}`),
      layer.spread === null ? null : number("Median polysemanticity", `${fixed(layer.spread)}${data.randomSpread === null ? "" : `, random ${fixed(data.randomSpread)}`}`),
      ...layer.facts.map(([name, value]) => number(name, value))),
      layer.frequent.length ? el("div", {}, kind("Most frequent best labels"),
        el("ol", { class: "bars" }, ...layer.frequent.map(([concept, n]) => bar(concept, String(n), n / most, "Find units for this label")))) : null,
      layer.scores ? el("figure", {}, el("figcaption", {}, "Score of the best label, over units; dashed: median"), histogram(layer.scores)) : null));
  });
  const more = data.layers.length - FIRST_LAYERS;
  byId("more-layers").hidden = more <= 0;
  byId("more-layers").firstElementChild.textContent = count(more, "more layer");
}

