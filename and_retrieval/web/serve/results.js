// Results of a search: the verdict in words, and units or clips best first.

import { addressWith, state } from "./address.js";
import { el, fixed, KINDS } from "./elements.js";
import { clipList } from "./clips.js";

export const unitName = (unit) => `${unit.layer}:${unit.unit}`;
export const labelOf = (unit) => unit.note?.label || unit.labels?.[0]?.concept || null;

// What a search says of itself, where it says anything.
export function verdict(answer) {
  if (!answer.query || answer.nothing === false) return null;
  const whole = answer.for === "clips" ? ["Nothing here sounds like", "any clip here sounds like"] : ["No unit here listens for", "any unit here listens for"];
  const what = answer.nothing ? whole[0] : `It cannot be told whether ${whole[1]}`;
  return el("p", { class: "note" }, `${what} “${answer.query}”: ${answer.reason}. The nearest are listed.`);
}

export function unitResults(answer) {
  return [verdict(answer), el("ol", { class: "plain-list" }, answer.results.map((unit) => el("li", {},
    el("a", { href: addressWith({ view: "units", unit: unitName(unit), q: [], minus: [], like: [] }) }, labelOf(unit) ?? "no label"),
    el("span", { class: "muted" }, ` ${unitName(unit)} · ${KINDS[unit.label_kind] ?? KINDS.none} · z ${fixed(unit.z, 1)} of ${fixed(unit.needed, 1)}`),
    unit.summary && el("p", {}, unit.summary))))];
}

// A clip's own z, and the moment in it that matches best, where the search names one.
const noteOf = (clip) => (clip.z === undefined ? null : `z ${fixed(clip.z, 1)}${clip.matches ? "" : `, below ${fixed(clip.needed, 1)}`}`);

export function clipResults(run, answer) {
  const index = run.split("/")[0];
  const clips = answer.results.map((clip) => ({ ...clip, peak: null, begin: typeof clip.moment === "number" && clip.duration < clip.seconds ? clip.moment : 0 }));
  return [verdict(answer), clips.length ? clipList({ run, index, unit: null }, clips, noteOf)
    : el("p", { class: "none" }, "There is no clip.")];
}

export const query = () => { const { q, minus, like } = state(); return { q, minus, like }; };
