// Drop a sound: which units fire, and when; what fires at a moment; what the network answers.

import { addressWith, NO_QUERY } from "./address.js";
import { hasToken, sendSound } from "./api.js";
import { sparkline } from "./charts.js";
import { count, el, failed, fixed, frame, seconds, svg, waiting } from "./elements.js";
import { play } from "./player.js";
import { recordSound } from "./sound.js";

let sounds = 0; // that were given so far
let kept = null; // the last sound and what was heard in it, while the page is open

export function hearView({ run }) {
  const out = el("div", { id: "heard" });
  const input = el("input", { type: "file", accept: "audio/*,video/*", class: "sr", onchange: () => input.files[0] && hear(run, input.files[0], out) });
  const zone = el("div", { class: "drop" }, el("p", {}, "Drop a sound here (up to 10 minutes), or"),
    el("p", { class: "buttons" }, el("label", { class: "file" }, input, el("span", {}, "Choose a file")),
      el("button", { type: "button", onclick: (event) => recordSound(event.currentTarget, (sound) => hear(run, sound, out)) }, "Record 5 s")));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    zone.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) hear(run, file, out);
  });
  frame(el("h1", {}, "Hear"), hasToken() ? zone : el("p", { class: "note" }, "Open the address that and-retrieval serve printed to hear sounds."), out);
  if (kept?.run === run) draw(out, kept);
}

async function hear(run, sound, out) {
  sounds += 1;
  const number = sounds;
  out.replaceChildren(waiting(`The network listens to ${sound.name}…`));
  try {
    const heard = await sendSound("/api/hear", sound, { run });
    if (number !== sounds) return; // another one was given meanwhile
    if (kept) URL.revokeObjectURL(kept.source);
    kept = { run, name: sound.name, source: URL.createObjectURL(sound), heard };
    draw(out, kept);
  } catch (error) {
    if (number === sounds) out.replaceChildren(failed(error));
  }
}

function draw(out, { name, source, heard }) {
  const here = el("div", { class: "here", "aria-live": "polite" });
  const line = el("span", { class: "head" });
  const picture = el("div", { class: "picture wide", role: "slider", tabindex: "0", "aria-label": `Position in ${name}`, "aria-valuemin": "0",
    "aria-valuemax": heard.duration.toFixed(2), "aria-valuenow": "0" }, el("img", { alt: "", src: `data:image/png;base64,${heard.picture}` }), line);
  const tile = el("div", { class: "heard-sound", "data-clip": "sound" }, picture);
  const lines = [line];
  const part = { source, name, peak: null, tile, at: (time) => show(time) };
  let stretch = -1;
  function show(time) {
    for (const node of lines) node.style.left = `${Math.min(100, (100 * time) / heard.duration)}%`;
    picture.setAttribute("aria-valuenow", time.toFixed(2));
    picture.setAttribute("aria-valuetext", seconds(time));
    const now = Math.min(heard.here.length - 1, Math.floor((time / heard.duration) * heard.here.length));
    if (now === stretch) return;
    stretch = now;
    here.replaceChildren(el("h3", {}, `What fires at ${seconds(time)}`), el("ul", { class: "plain-list" }, heard.here[now].filter((unit) => unit.strength > 0).map((unit) => el("li", {},
      el("a", { href: unitAddress(unit) }, unit.label ?? "no label"), el("span", { class: "muted" }, ` ${unit.layer}:${unit.unit} · ${fixed(unit.strength)}`)))));
  }
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    const time = (heard.duration * (event.clientX - box.left)) / box.width;
    show(time);
    play(part, time);
  });
  picture.addEventListener("keydown", (event) => {
    const now = Number(picture.getAttribute("aria-valuenow"));
    const to = { ArrowRight: now + heard.duration / 60, ArrowLeft: now - heard.duration / 60, Home: 0, End: heard.duration }[event.key];
    if (event.key === " " || event.key === "Enter") play(part, now);
    else if (to === undefined) return;
    else show(Math.max(0, Math.min(heard.duration, to)));
    event.preventDefault();
    event.stopPropagation();
  });
  const drawn = el("p", { class: "muted" });
  const curve = svg("svg", { class: "over-time", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("polyline", { class: "under" }), svg("polyline", {}));
  picture.append(curve);
  const most = Math.max(...heard.fires.flatMap((unit) => unit.curve), 1);
  const low = Math.min(0, ...heard.fires.flatMap((unit) => unit.curve));
  const drawOn = (unit) => {
    const points = unit.curve.map((value, i) => `${((100 * heard.seconds[i]) / heard.duration).toFixed(2)},${(97 - (94 * (value - low)) / (most - low)).toFixed(1)}`).join(" ");
    curve.querySelectorAll("polyline").forEach((line) => line.setAttribute("points", points));
    drawn.textContent = `Drawn on it: ${unit.labels[0]?.concept ?? "no label"} (${unit.layer}:${unit.unit}). Point at a unit below, or go to its link, to draw that one.`;
  };
  const rows = heard.fires.map((unit) => {
    const mark = el("span", { class: "head" });
    lines.push(mark);
    return el("li", { onmouseenter: () => drawOn(unit), onfocusin: () => drawOn(unit) }, el("div", {}, el("a", { href: unitAddress(unit) }, unit.labels[0]?.concept ?? "no label"),
      el("span", { class: "muted" }, ` ${unit.layer}:${unit.unit} · ${fixed(unit.strength)} at ${seconds(unit.peak)}${unit.alike ? ` · ${count(unit.alike, "more unit")} like it` : ""}`)),
    el("div", { class: "strip" }, sparkline(unit.curve, { width: 600, height: 34, low: Math.min(0, ...unit.curve), high: most }), mark));
  });
  out.replaceChildren(
    el("h2", {}, name), tile,
    el("p", { class: "keys" }, el("button", { type: "button", class: "play", "aria-label": `Play ${name}`, onclick: () => play(part, 0) }, el("span", { class: "shape", "aria-hidden": "true" })),
      el("span", { class: "muted" }, `${heard.duration.toFixed(1)} s; click a moment to hear it and to see what fires there`)),
    heard.fires.length ? drawn : "", here,
    el("h2", {}, "Units that fire most"), el("p", { class: "muted" }, "How strongly each unit fires: 1 is as far above its mean as its strongest recorded clip."),
    el("ol", { class: "strips" }, rows),
    heard.answer ? el("h2", {}, "The network's answer") : null,
    heard.answer ? el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "The network's answer" }, el("table", {}, el("thead", {}, el("tr", {}, ["class", "mean probability", "largest in a window"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, heard.answer.map((one) => el("tr", {}, el("th", { scope: "row" }, one.class), el("td", {}, fixed(one.mean, 3)), el("td", {}, fixed(one.most, 3))))))) : "");
  if (heard.fires.length) drawOn(heard.fires[0]);
  show(heard.fires[0]?.peak ?? 0);
}

const unitAddress = (unit) => addressWith({ ...NO_QUERY, view: "units", unit: `${unit.layer}:${unit.unit}`, lasso: "", words: "", layer: "" });
