// A slider that multiplies what units put out by 0 to 3, and the network's answer on a clip before and after.

import { send } from "./api.js";
import { el, failed, fixed, track } from "./elements.js";

const WAIT = 150; // milliseconds after the slider last moved

export function scaleBox(run, units, clips) {
  const value = el("output", {}, "1.0");
  const slider = el("input", { type: "range", min: 0, max: 3, step: 0.1, value: 1, "aria-label": "Factor" });
  const clip = el("select", { "aria-label": "Clip" }, clips.slice(0, 20).map((one) => el("option", { value: one.row }, [one.caption ?? one.label, one.path.split("/").pop()].filter(Boolean).join(" · "))));
  const answer = el("div", { "aria-live": "polite" });
  let timer = 0;
  let latest = 0;
  const ask = async () => {
    latest += 1;
    const request = latest;
    try {
      const scaled = await send("POST", "/api/scale", { run, units, factor: Number(slider.value), row: Number(clip.value) });
      if (request === latest) answer.replaceChildren(answerTable(scaled.classes));
    } catch (error) {
      if (request === latest) answer.replaceChildren(failed(error));
    }
  };
  const soon = () => {
    value.textContent = Number(slider.value).toFixed(1);
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT);
  };
  slider.addEventListener("input", soon);
  clip.addEventListener("change", soon);
  const what = units.length === 1 ? "this unit" : `these ${units.length} units`;
  return el("section", { class: "part scale" }, el("h3", {}, `Turn ${what} down or up`),
    el("p", { class: "muted" }, "0 silences, 1 changes nothing, 3 triples; the network's answer on the clip, before and after."),
    el("div", { class: "scale-row" }, clip, slider, el("span", { class: "muted" }, "× ", value)), answer);
}

const answerTable = (classes) => el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "Answer before and after" }, el("table", {},
  el("thead", {}, el("tr", {}, ["class", "before", "after", ""].map((name) => el("th", { scope: "col" }, name)))),
  el("tbody", {}, classes.map((one) => el("tr", {}, el("th", { scope: "row" }, one.class), el("td", {}, fixed(one.before, 3)), el("td", {}, fixed(one.after, 3)),
    el("td", { class: "both-bars" }, track(one.before), track(one.after)))))));
