// Results of a search: the verdict in words, and units or clips best first.

import { el, fixed } from "./elements.js";
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

// A clip's own z, and the moment in it that matches best, where the search names one.
const noteOf = (clip) => (clip.z === undefined ? null : `z ${fixed(clip.z, 1)}${clip.matches ? "" : `, below ${fixed(clip.needed, 1)}`}`);

export function clipResults(run, answer) {
  const index = run.split("/")[0];
  const clips = answer.results.map((clip) => ({ ...clip, peak: null, begin: typeof clip.moment === "number" && clip.duration < clip.seconds ? clip.moment : 0 }));
  return [verdict(answer), clips.length ? clipList({ run, index, unit: null }, clips, noteOf)
    : el("p", { class: "none" }, "There is no clip.")];
}
