// ---------- words ----------

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const words = (text) => fold(text).match(/[\p{L}\p{N}]+/gu) ?? [];
const sameConcept = (text) => fold(text).replace(/_/g, " ").replace(/\s+/g, " ").trim();

// Word -> [unit, weight, unit, weight, ...] for what is said about a unit, and word -> clips for
// captions: a clip is shared by many units, so its captions are indexed once.
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
    for (const meaning of unit.meanings) {
      if (meaning.text) add(meaning.text, 2);
      meaning.labels.forEach(([concept], rank) => add(data.concepts[concept], 4 / (1 + 0.15 * rank)));
    }
    for (const word of unit.words) add(word, 3);
    for (const [word, weight] of best) put(said, word, i, weight);
    for (const [clip] of unit.top) clipUnits[clip].push(i);
  });
  data.clips.forEach((clip, i) => {
    for (const word of new Set(words(clip.captions.join(" ")))) put(heard, word, i);
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

