// Searching by a sound: a file, a drop, or five seconds of the microphone.

import { go, NO_QUERY, state } from "./address.js";
import { get, sendSound } from "./api.js";
import { byId, el, failed, waiting } from "./elements.js";

const RECORDED = 5; // seconds
const BITS = 256_000; // a second
const AS_IT_IS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false }; // made for speech, they remove sounds
const names = new Map(); // of sounds that are searched by
let sent = 0; // sounds so far

// The server keeps what the search needs of a sound, under a name that goes into the address.
export async function soundSearch(sound) {
  const { run, for: want } = state();
  const name = sound.name ?? "recording";
  sent += 1;
  const number = sent;
  byId("banner").replaceChildren(waiting(`Listening to ${name}…`));
  try {
    const kept = await sendSound("/api/sounds", sound, { index: indexOf(run), name });
    names.set(kept.sound, kept.name);
    if (number !== sent) return; // another one was sent meanwhile
    byId("banner").replaceChildren();
    // The index that keeps the sound is shown again if another one was opened meanwhile.
    const back = indexOf(state().run) === indexOf(run) ? {} : { run, layer: "", list: "", job: "" };
    go({ ...NO_QUERY, ...back, view: "units", for: want, sound: kept.sound, unit: "", lasso: "", sort: "" });
    byId("view").focus({ preventScroll: true });
  } catch (error) {
    if (number === sent) byId("banner").replaceChildren(failed(error));
  }
}

const indexOf = (run) => run.split("/")[0];

// What a sound of an address is called, where it is still kept and the server answers.
async function nameOf({ run, sound }) {
  if (!names.has(sound)) {
    try {
      names.set(sound, (await get(`/api/sounds/${sound}`, { index: indexOf(run) })).name);
    } catch (error) {
      return error.status === 404 ? "a sound that is gone" : "a sound";
    }
  }
  return names.get(sound);
}

// Beside the search box: the sound that is searched by, and a way to search without it.
export async function drawSound(now) {
  const place = byId("by-sound");
  if (!now.sound) {
    place.replaceChildren();
    return;
  }
  const name = await nameOf(now);
  const text = `♪ ${name} ×`;
  if (state().sound !== now.sound || place.textContent === text) return;
  place.replaceChildren(el("button", { type: "button", title: "Search without this sound", "aria-label": `Search without ${name}`,
    onclick: () => go({ sound: "", unit: "" }) }, text));
}

export const aboutSound = ({ sound }) => (sound ? el("p", { class: "muted" }, "The sound itself is deleted. This address shows the same again, "
  + "because what the search needs of the sound is kept.") : null);

// Records from the microphone and calls `done` with a WAV file, which every decoder reads.
export async function recordSound(button, done) {
  const text = button.textContent;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
    const recorder = new MediaRecorder(stream, { audioBitsPerSecond: BITS });
    const parts = [];
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    const stopped = new Promise((resolve) => { recorder.addEventListener("stop", resolve, { once: true }); });
    recorder.start();
    button.disabled = true;
    button.style.minWidth = `${button.offsetWidth}px`; // what stands beside it stays in place
    for (let left = RECORDED; left > 0; left -= 1) {
      button.textContent = `${left} s`;
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
    }
    recorder.stop();
    await stopped;
    stream.getTracks().forEach((one) => one.stop());
    const context = new AudioContext();
    const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
    context.close();
    done(new File([wav(sound.getChannelData(0), sound.sampleRate)], "recording", { type: "audio/wav" }));
  } catch {
    byId("banner").replaceChildren(el("p", { class: "note", role: "alert" }, "There is no microphone, or the browser may not use it. Choose a sound file instead."));
  } finally {
    button.disabled = false;
    button.textContent = text;
  }
}

// Mono samples as a WAV file of 16 bits.
function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return view.buffer;
}
