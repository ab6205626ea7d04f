// ---------- clips ----------

const player = byId("player");
let playing = null;

function media(clip) {
  if (clip.row < 0) return null;
  const block = byId(`clip-${clip.row}`);
  return block ? JSON.parse(block.textContent) : null;
}

function stop() {
  player.pause();
  playing?.stopped();
  playing = null;
}

function start(part, from) {
  if (playing !== part) {
    stop();
    playing = part;
    player.src = part.source;
  }
  const go = () => {
    if (playing !== part) return;
    if (from !== null) player.currentTime = Math.max(0, from);
    player.play().then(part.started, part.failed);
  };
  if (player.readyState > 0) go();
  else player.addEventListener("loadedmetadata", go, { once: true });
}

function moveHead() {
  if (!playing) return;
  playing.at(player.currentTime);
  if (!player.paused) requestAnimationFrame(moveHead);
}
player.addEventListener("playing", moveHead);
player.addEventListener("seeked", moveHead);
player.addEventListener("ended", stop);
player.addEventListener("error", () => playing?.failed());

function icon() {
  const shape = (name, d) => svg("svg", { class: name, viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("path", { d }));
  return [shape("start", "M2.5 1v10l8-5z"), shape("pause", "M2 1h3v10H2zM7 1h3v10H7z")];
}

function clipWithSound(clip, sound, peak, activation) {
  const name = clip.captions[0] ?? clip.path;
  const line = el("span", { class: "peak" });
  const head = el("span", { class: "head" });
  const picture = el("div", {
    class: "picture", role: "slider", tabindex: "0", "aria-label": `Position in ${name}`,
    "aria-valuemin": "0", "aria-valuemax": sound.duration.toFixed(2), "aria-valuenow": "0",
    "aria-valuetext": peak === null ? "start" : `start; peak at ${seconds(peak)}`,
  }, el("img", { alt: "", src: `data:image/png;base64,${sound.image}`, decoding: "async" }), peak === null ? null : line, head);
  const place = (node, time) => { node.style.left = `${Math.min(100, (100 * time) / sound.duration)}%`; };
  if (peak !== null) place(line, peak);
  const play = el("button", { class: "play", type: "button", "aria-label": `Play ${name}` }, ...icon());
  const tile = el("li", { class: "clip" }, picture);
  const part = {
    source: `data:audio/mpeg;base64,${sound.audio}`,
    started: () => { tile.classList.add("playing"); play.setAttribute("aria-label", `Pause ${name}`); },
    stopped: () => { tile.classList.remove("playing"); play.setAttribute("aria-label", `Play ${name}`); },
    failed: () => { if (tile.isConnected && player.error) tile.append(el("span", { class: "muted" }, "This browser could not play the clip.")); part.stopped(); },
    at: (time) => {
      place(head, time);
      picture.setAttribute("aria-valuenow", time.toFixed(2));
      picture.setAttribute("aria-valuetext", `${seconds(time)} of ${seconds(sound.duration)}`);
    },
  };
  const toggle = () => (playing === part && !player.paused ? (player.pause(), part.stopped()) : start(part, playing === part ? null : 0));
  play.addEventListener("click", toggle);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    start(part, (sound.duration * (event.clientX - box.left)) / box.width);
  });
  picture.addEventListener("keydown", (event) => {
    const now = playing === part ? player.currentTime : 0;
    const step = sound.duration / 20;
    const to = { ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, Home: 0, End: sound.duration - step }[event.key];
    if (event.key === " " || event.key === "Enter") toggle();
    else if (to !== undefined) start(part, Math.min(to, sound.duration - 0.05));
    else return;
    event.preventDefault();
  });
  const at = peak === null ? null : el("button", {
    type: "button", class: "at", title: "Play from just before the peak", onclick: () => start(part, peak - 0.3),
    "aria-label": `Play ${name} from just before the peak at ${seconds(peak)}`,
  }, `at ${seconds(peak)}`);
  tile.append(el("div", { class: "keys" }, play, strength(activation), at), ...clipText(clip));
  return tile;
}

const strength = (activation) => el("span", { class: "strength", title: "Activation" }, figure(activation));

function clipText(clip) {
  return [
    ...clip.captions.map((caption, i) => el("span", { class: i ? "caption muted" : "caption" }, ...marked(caption))),
    pathLine(clip),
  ];
}

// The last two parts of the path; the whole of it is the tooltip and what is copied.
function pathLine({ path, start }) {
  const [, folder, file] = path.match(/([^/\\]*[/\\])?([^/\\]*)$/);
  const shown = (folder ?? "") + file;
  const line = el("span", { class: "path", title: path }, folder ?? "", el("span", {}, file),
    start ? el("span", {}, `\u00a0from\u00a0${Number(start.toFixed(2))}\u00a0s`) : null);
  line.addEventListener("copy", (event) => {
    const copied = getSelection().toString();
    if (!copied.includes(shown)) return;
    event.clipboardData.setData("text/plain", copied.replace(shown, () => path));
    event.preventDefault();
  });
  return line;
}

function clipTile([number, peak, activation]) {
  const clip = data.clips[number];
  const sound = media(clip);
  if (sound) return clipWithSound(clip, sound, peak, activation);
  const at = peak === null ? null : el("span", { class: "at" }, `at ${seconds(peak)}`);
  return el("li", { class: "clip silent" }, el("div", { class: "keys" }, strength(activation), at), ...clipText(clip));
}

const clipList = (shown) => el("ol", { class: "clips" }, ...shown.map(clipTile));

function folded(title, shown) {
  const box = el("details", {}, el("summary", {}, title));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) {
      const clips = clipList(shown);
      clips.classList.add("more");
      box.append(clips);
    }
  });
  return box;
}

