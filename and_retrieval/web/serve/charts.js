// Small drawings: histograms, tuning curves, profiles, curves over time.

import { el, figure, fixed, minus, svg } from "./elements.js";

export function histogram({ low, high, seen, held_out: held, mean }) {
  const width = 300;
  const height = 80;
  const most = Math.max(...seen, ...held, 1);
  const x = (value) => (high > low ? ((value - low) / (high - low)) * width : width / 2);
  const bar = (counts, name) => counts.map((n, i) => (n ? svg("rect", {
    class: name, x: (i * width) / counts.length + (name === "held" ? width / counts.length / 2 : 0),
    y: height - Math.max(1, (height * n) / most), width: width / counts.length / (name === "held" ? 2 : 1) - 0.5,
    height: Math.max(1, (height * n) / most) }) : null)).filter(Boolean);
  const text = (at, anchor, value) => svg("text", { x: at, y: height + 14, "text-anchor": anchor }, figure(value));
  const spoken = `Activations from ${figure(low)} to ${figure(high)}, mean ${figure(mean)}; `
    + `${seen.reduce((a, b) => a + b, 0)} seen and ${held.reduce((a, b) => a + b, 0)} held-out clips`;
  return el("figure", { class: "chart" }, el("figcaption", {}, "Activations: seen clips, ", el("span", { class: "held-key" }, "held-out clips")),
    svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height + 18}`, role: "img", "aria-label": spoken },
      ...bar(seen, "seen"), ...bar(held, "held"),
      svg("line", { class: "median", x1: x(mean), x2: x(mean), y1: 0, y2: height }), text(0, "start", low), text(width, "end", high)));
}

const inUnit = (axis, value) => `${minus(String(Number(value.toPrecision(2))))}\u00a0${axis.unit}`;

export function tuningCurve(tuning, axis) {
  const width = 220;
  const height = 44;
  const { centres, means, margins } = tuning;
  const scale = axis.logarithmic ? Math.log : (value) => value;
  const [from, to] = [centres[0], centres.at(-1)].map(scale);
  const bottom = Math.min(...means.map((mean, i) => mean - margins[i]));
  const top = Math.max(...means.map((mean, i) => mean + margins[i]));
  const x = (value) => width * Math.min(1, Math.max(0, (scale(value) - from) / (to - from || 1)));
  const y = (value) => 1 + (height - 2) * (1 - (value - bottom) / (top - bottom || 1));
  const points = (side) => means.map((mean, i) => `${x(centres[i]).toFixed(1)},${y(mean + side * margins[i]).toFixed(1)}`);
  const words = tuning.shape === "rising" || tuning.shape === "falling"
    ? `${axis.words}: ${tuning.shape}` : `${axis.words}: ${tuning.shape} at ${inUnit(axis, tuning.best)}`;
  const share = `${tuning.effect < 0.005 ? "<1" : Math.round(100 * tuning.effect)} % of variance`;
  const end = (at, anchor, value) => svg("text", { x: at, y: height + 12, "text-anchor": anchor }, inUnit(axis, value));
  return el("figure", { class: "curve" }, el("figcaption", {}, words, el("span", {}, share)),
    svg("svg", { viewBox: `0 0 ${width} ${height + 14}`, role: "img",
      "aria-label": `${words}, ${share}. Mean activation: ${means.map((m, i) => `${figure(m)} at ${inUnit(axis, centres[i])}`).join(", ")}` },
    svg("rect", { x: x(tuning.low), y: 0, width: Math.max(1, x(tuning.high) - x(tuning.low)), height }),
    svg("polygon", { points: [...points(1), ...points(-1).reverse()].join(" ") }),
    svg("polyline", { points: points(0).join(" ") }), end(0, "start", centres[0]), end(width, "end", centres.at(-1))));
}

export function profile(values) {
  const width = 220;
  const height = 50;
  const most = Math.max(...values.map(Math.abs), 0.01);
  const step = width / values.length;
  return el("figure", { class: "chart" }, el("figcaption", {}, "Spectral profile, 50 Hz to 8 kHz"),
    svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Partial correlation with the level of 24 mel bands: ${values.map((v) => fixed(v)).join(", ")}` },
    ...values.map((value, i) => svg("rect", { class: value < 0 ? "held" : "seen", x: i * step,
      y: value < 0 ? height / 2 : height / 2 - (height / 2) * (value / most), width: step - 1, height: Math.max(0.5, (height / 2) * Math.abs(value / most)) })),
    svg("line", { x1: 0, x2: width, y1: height / 2, y2: height / 2 })));
}

export function sparkline(values, { width = 64, height = 22, low = Math.min(...values), high = Math.max(...values) } = {}) {
  const points = values.map((value, i) => `${((width * i) / (values.length - 1 || 1)).toFixed(1)},${(1 + (height - 2) * (1 - (value - low) / (high - low || 1))).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("polyline", { points: points.join(" ") }));
}

// Lines over a shared axis: [{name, x: [], y: [], class}], with the middle of each line named for readers of the table beside it.
export function lines(series, { label, unit }) {
  const width = 420;
  const height = 180;
  const pad = { left: 40, bottom: 24, top: 8, right: 8 };
  const xs = series.flatMap((one) => one.x);
  const ys = series.flatMap((one) => one.y).concat(0);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (value) => pad.left + ((width - pad.left - pad.right) * (value - x0)) / (x1 - x0 || 1);
  const y = (value) => pad.top + (height - pad.top - pad.bottom) * (1 - (value - y0) / (y1 - y0 || 1));
  const text = (at, anchor, up, value) => svg("text", { x: at, y: up, "text-anchor": anchor }, value);
  return el("figure", { class: "chart lines" }, el("figcaption", {}, label, ...series.map((one) => el("span", { class: `key ${one.class}` }, one.name))),
    svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}: ${series.map((one) => `${one.name} ${one.y.map((v) => fixed(v)).join(", ")}`).join("; ")}` },
      svg("line", { x1: pad.left, x2: width - pad.right, y1: y(0), y2: y(0) }),
      text(pad.left - 4, "end", y(y1) + 8, fixed(y1)), text(pad.left - 4, "end", y(y0), fixed(y0)),
      text(pad.left, "start", height - 6, `${figure(x0)} ${unit}`), text(width - pad.right, "end", height - 6, `${figure(x1)} ${unit}`),
      ...series.flatMap((one) => [svg("polyline", { class: `line ${one.class}`, points: one.x.map((v, i) => `${x(v).toFixed(1)},${y(one.y[i]).toFixed(1)}`).join(" ") }),
        ...one.x.map((v, i) => svg("circle", { class: `dot ${one.class}`, cx: x(v), cy: y(one.y[i]), r: 3 }))])));
}
