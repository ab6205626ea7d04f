// One audio element for all clips: played from the peak, in a loop, at half speed, levelled.

import { byId, el, seconds } from "./elements.js";

const audio = byId("audio");
const LEVEL = -23; // dB re full scale, root mean square, that levelled clips are brought to
const MOST_GAIN = 24; // dB
const LEAD = 0.3; // seconds before the peak at which a clip begins
const settings = { loop: false, slow: false, level: false };
let playing = null;
let context = null;
let gain = null;

// A part that can be played: {source, name, peak, tile, at(time)}.
export function play(part, from) {
  if (playing !== part) {
    stopped();
    playing = part;
    audio.src = part.source;
    level(part);
  }
  const go = () => {
    if (playing !== part) return;
    if (from !== null && from !== undefined) audio.currentTime = Math.max(0, from);
    audio.playbackRate = settings.slow ? 0.5 : 1;
    audio.loop = settings.loop;
    audio.play().then(() => drawBar(), () => { say("This browser could not play the clip."); stopped(); });
  };
  if (audio.readyState > 0) go();
  else audio.addEventListener("loadedmetadata", go, { once: true });
}

export const fromPeak = (part) => play(part, part.peak === null ? 0 : part.peak - LEAD);
export const toggle = (part) => (playing === part && !audio.paused ? audio.pause() : play(part, playing === part ? null : 0));

// Space and arrow keys of the page: pause or go on, or begin with the first clip of the view; seek by half a second.
export function key(name) {
  if (name === " ") {
    const first = document.querySelector("[data-clip] .play");
    if (playing?.tile.isConnected) toggle(playing);
    else first?.click();
    return true;
  }
  const step = { ArrowLeft: -0.5, ArrowRight: 0.5 }[name];
  if (step === undefined || !playing) return false;
  audio.currentTime = Math.max(0, audio.currentTime + step);
  return true;
}

function stopped() {
  audio.pause();
  playing?.tile.classList.remove("playing");
  mark(playing, false);
  playing = null;
}

function mark(part, on) {
  part?.tile.querySelector(".play")?.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${part.name}`);
}

function move() {
  if (!playing) return;
  playing.at(audio.currentTime);
  if (!audio.paused) requestAnimationFrame(move);
}

audio.addEventListener("playing", () => { playing?.tile.classList.add("playing"); mark(playing, true); move(); drawBar(); });
audio.addEventListener("seeked", move);
for (const event of ["pause", "ended"]) {
  audio.addEventListener(event, () => { playing?.tile.classList.remove("playing"); mark(playing, false); drawBar(); });
}
audio.addEventListener("error", () => { if (playing && audio.error) say("This clip cannot be played; its file may be gone."); });

// ---------- loudness ----------

async function level(part) {
  if (!settings.level) {
    if (gain) gain.gain.value = 1;
    return;
  }
  if (!context) {
    context = new AudioContext();
    gain = context.createGain();
    context.createMediaElementSource(audio).connect(gain).connect(context.destination);
  }
  context.resume();
  try {
    const sound = await context.decodeAudioData(await (await fetch(part.source)).arrayBuffer());
    const samples = sound.getChannelData(0);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    if (playing === part) gain.gain.value = 10 ** (Math.min(MOST_GAIN, LEVEL - 10 * Math.log10(power + 1e-12)) / 20);
  } catch {
    gain.gain.value = 1; // it plays as it is
  }
}

// ---------- bar ----------

const say = (text) => { byId("player-bar").querySelector(".says")?.replaceChildren(text); };

function drawBar() {
  const bar = byId("player-bar");
  if (!playing) return;
  if (bar.hidden) {
    bar.hidden = false;
    bar.replaceChildren(
      el("button", { class: "play", type: "button", onclick: () => key(" ") }, "▶"),
      el("span", { class: "says", role: "status" }),
      choice("loop", "Loop", () => { audio.loop = settings.loop; }),
      choice("slow", "Half speed", () => { audio.playbackRate = settings.slow ? 0.5 : 1; }),
      choice("level", "Level loudness", () => playing && level(playing)),
    );
  }
  const button = bar.querySelector("button");
  button.textContent = audio.paused ? "▶" : "❚❚";
  button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  const peak = playing.peak === null ? "" : `, peak at ${seconds(playing.peak)}`;
  say(`${playing.name}${peak}`);
}

const choice = (name, text, apply) => el("label", { class: "check" },
  el("input", { type: "checkbox", onchange: (event) => { settings[name] = event.target.checked; apply(); } }), text);
