// Clips as tiles: a spectrogram with the unit's activation over time drawn on it, played from its peak.

import { clipPath, get, hasToken } from "./api.js";
import { el, figure, seconds, svg } from "./elements.js";
import { fromPeak, play, toggle } from "./player.js";

const WIDTH = 200;
const HEIGHT = 100;

// `activation` and `peak` may be null; `unit` is LAYER:UNIT whose activation is drawn, or null; `facts` stand below.
export function clipTile({ run, index, unit, clip, note = null, facts = null }) {
  const name = clip.caption ?? clip.label ?? clip.path.split("/").pop();
  const peak = clip.peak ?? null;
  const head = el("span", { class: "head" });
  const picture = el("div", {
    class: "picture", role: "slider", tabindex: "0", "aria-label": `Position in ${name}`,
    "aria-valuemin": "0", "aria-valuemax": clip.seconds.toFixed(2), "aria-valuenow": "0", "aria-valuetext": "start",
  }, el("img", { alt: "", src: clipPath(index, clip.row, "png"), loading: "lazy", decoding: "async", width: WIDTH, height: HEIGHT }),
  momentOf(clip), peak === null ? null : el("span", { class: "peak" }), head);
  const place = (node, time) => { node.style.left = `${Math.min(100, (100 * time) / clip.seconds)}%`; };
  if (peak !== null) place(picture.querySelector(".peak"), peak);
  const tile = el("li", { class: "clip", "data-clip": clip.row });
  const part = {
    source: clipPath(index, clip.row, "mp3"), name, peak, tile,
    at: (time) => {
      place(head, time);
      picture.setAttribute("aria-valuenow", time.toFixed(2));
      picture.setAttribute("aria-valuetext", `${seconds(time)} of ${seconds(clip.seconds)}`);
    },
  };
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    play(part, (clip.seconds * (event.clientX - box.left)) / box.width);
  });
  picture.addEventListener("keydown", (event) => {
    const now = Number(picture.getAttribute("aria-valuenow"));
    const step = clip.seconds / 20;
    const to = { ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, Home: 0, End: clip.seconds - step }[event.key];
    if (event.key === " " || event.key === "Enter") toggle(part);
    else if (to !== undefined) play(part, Math.min(Math.max(to, 0), clip.seconds - 0.05));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const begin = () => {
    if (tile.classList.contains("playing")) toggle(part);
    else if (clip.begin) play(part, clip.begin);
    else fromPeak(part);
  };
  tile.append(picture, el("div", { class: "keys" },
    el("button", { class: "play", type: "button", "aria-label": `Play ${name}`, onclick: begin }, el("span", { class: "shape", "aria-hidden": "true" })),
    clip.activation === null || clip.activation === undefined ? null : el("span", { class: "strength", title: "Activation" }, figure(clip.activation)),
    note && el("span", { class: "muted" }, note),
    peak === null ? null : el("span", { class: "at" }, `peak ${seconds(peak)}`)),
  el("span", { class: "caption" }, name), ...otherCaptions(clip), ...(facts ? [facts] : []), pathLine(clip));
  if (unit && hasToken()) whenSeen(tile, () => drawActivation(picture, run, unit, clip));
  return tile;
}

// Captions of a clip beside the typical one, which is its name, perhaps without the words that all captions begin with.
function otherCaptions({ caption, captions = [] }) {
  const typical = captions.findIndex((text) => caption && text.toLowerCase().includes(caption.toLowerCase()));
  return captions.filter((_, place) => place !== typical).map((text) => el("span", { class: "caption muted" }, text));
}

// The moment that a search found in a clip, where it is shorter than the clip.
function momentOf({ moment, duration, seconds: whole }) {
  if (typeof moment !== "number" || duration >= whole) return null;
  const band = el("span", { class: "moment" });
  band.style.left = `${(100 * moment) / whole}%`;
  band.style.width = `${(100 * duration) / whole}%`;
  return band;
}

export const clipList = (facts, clips, note = () => null) =>
  el("ol", { class: "clips" }, clips.map((clip) => clipTile({ ...facts, clip, note: note(clip) })));

function pathLine({ path, start }) {
  const parts = path.split("/");
  return el("span", { class: "path", title: path }, parts.slice(-2, -1).map((folder) => `${folder}/`), el("span", {}, parts.at(-1)),
    start ? ` from ${Number(start.toFixed(2))} s` : null);
}

// ---------- activation over time ----------

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    wanted.get(target)?.();
  }
}, { rootMargin: "200px" });
const wanted = new WeakMap();

function whenSeen(node, act) {
  wanted.set(node, act);
  seen.observe(node);
}

async function drawActivation(picture, run, unit, clip) {
  let curve;
  try {
    curve = await get("/api/activations", { run, unit, row: clip.row });
  } catch (error) {
    picture.parentElement.append(el("span", { class: "muted" }, `No activation over time: ${error.message}`));
    return;
  }
  if (curve.values.length < 2) return; // a layer without time
  const low = Math.min(...curve.values);
  const high = Math.max(...curve.values);
  const points = curve.values.map((value, i) => {
    const y = high > low ? 96 - (92 * (value - low)) / (high - low) : 96;
    return `${((100 * curve.seconds[i]) / clip.seconds).toFixed(2)},${y.toFixed(1)}`;
  }).join(" ");
  picture.append(svg("svg", { class: "over-time", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("polyline", { class: "under", points }), svg("polyline", { points })));
}
