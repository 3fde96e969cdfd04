// Draws the panels of a run, all over the steps in view.
"use strict";

const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT, ROW] = [78, 14, 8, 22, 180, 22]; // pixels
const [DOT, GUIDES] = [12, 30]; // pixels per dot; largest number of events with a line each

const run = JSON.parse(document.getElementById("data").textContent);
const rows = run.steps.map(numbers);
const axes = run.axes.map(({ name, maps }) => (
  { name, maps: maps.map((m) => m && { x: numbers(m.x), y: numbers(m.y) }) }));
const unpack = (s) => ({ ...s, steps: s.x ? numbers(s.x) : rows[s.run], y: numbers(s.y) });
const happened = run.happened.map(unpack), shown = rows.map(() => true);
const isShown = (s) => shown[s.run];
const panels = [...document.querySelectorAll("figure")].map((figure, n) => ({
  id: figure.id, svg: figure.querySelector("svg.plot"), log: figure.querySelector("input.log"),
  outputs: figure.querySelectorAll("output"), series: run.panels[n].map(unpack),
}));
const smooth = document.getElementById("smooth");
let axis, steps, end, whole, view;

// Places all curves on another axis, for the whole run.
function along(chosen) {
  axis = chosen;
  steps = merged(rows.map((x, n) => placed(x, axis.maps[n])).filter((_, n) => shown[n]));
  end = steps.length - 1;
  for (const s of [...happened, ...panels.flatMap((p) => p.series)]) s.x = placed(s.steps, axis.maps[s.run]);
  whole = view = [steps[0], steps[end] > steps[0] ? steps[end] : steps[0] + 1];
}

// Returns the smallest width of a view: two steps, or the same part of another axis.
const narrowest = () => (axis === axes[0] ? 2 : (whole[1] - whole[0]) * 2 / Math.max(end, 2));

function add(parent, name, attributes, text = "") {
  const element = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, x] of Object.entries(attributes)) element.setAttribute(key, x);
  element.textContent = text;
  return element;
}

const upLine = (x, y1, y2, more) => ({ x1: x, x2: x, y1, y2, ...more });
const label = (x, y, anchor) => ({ x, y, "text-anchor": anchor });

function draw({ id, svg, log, series }) {
  const width = Math.max(svg.clientWidth, 240), right = width - RIGHT;
  const lanes = happened.filter(isShown);
  const height = log ? HEIGHT : TOP + ROW * lanes.length + BOTTOM, bottom = height - BOTTOM;
  svg.setAttribute("height", height);
  const across = (step) => LEFT + (step - view[0]) / (view[1] - view[0]) * (right - LEFT);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.dataset.steps = view.join(" ");
  svg.replaceChildren();
  const grid = add(svg, "g", { class: "grid" });
  for (const step of ticks(view, Math.max((right - LEFT) / 75, 2), false, axis === axes[0] ? 1 : 0)) {
    add(grid, "line", upLine(across(step), TOP, bottom));
    add(svg, "text", label(across(step), bottom + 16, "middle"), written(step, 9));
  }
  const clip = { x: LEFT - 4, y: 0, width: right - LEFT + 8, height };
  add(add(svg, "clipPath", { id: `${id}-clip` }), "rect", clip);
  const inside = add(svg, "g", { "clip-path": `url(#${id}-clip)` });
  if (log) curves(svg, inside, series.filter(isShown), log.checked, across, [right, bottom]);
  else lanes.forEach((h, n) => lane(svg, inside, h, TOP + ROW * n, across));
  add(svg, "rect", { class: "dragged", y: TOP, height: bottom - TOP, width: 0 });
  add(svg, "line", upLine(0, TOP, bottom, { class: "cursor" }));
}

function curves(svg, inside, series, log, across, [right, bottom]) {
  const points = series.map((s) => seen(s, view, right - LEFT));
  const within = ({ x, y }, n) =>
    points[n].filter((i) => x[i] >= view[0] && x[i] <= view[1]).map((i) => y[i]);
  const range = upright(series.flatMap(within), log), scale = log ? Math.log : (v) => v;
  const [low, high] = range.map(scale);
  const up = (v) => bottom - (scale(v) - low) / (high - low) * (bottom - TOP);
  svg.dataset.values = range.join(" ");
  for (const v of ticks(range, 5, log)) {
    add(svg.firstChild, "line", { x1: LEFT, x2: right, y1: up(v), y2: up(v) });
    add(svg, "text", label(LEFT - 8, up(v) + 4, "end"), written(v, 9));
  }
  const alone = shown.filter(Boolean).length === 1; // the events of several runs would be a forest
  for (const { colour, x } of alone ? happened.filter((h) => isShown(h) && h.guide && h.x.length <= GUIDES) : []) {
    for (const step of x) {
      add(inside, "line", upLine(across(step), TOP, bottom, { class: "guide", stroke: colour }));
    }
  }
  series.forEach((s, n) => {
    let pen = "M", line = "", dots = "";
    for (const i of points[n]) {
      const x = across(s.x[i]).toFixed(2), y = up(s.y[i]), here = `${x} ${y.toFixed(2)}`;
      if (Number.isFinite(y)) [line, dots] = [line + pen + here, `${dots}M${here}h0`];
      pen = Number.isFinite(y) ? "L" : "M"; // values that are not finite make a gap
    }
    const few = points[n].length * DOT < right - LEFT;
    const look = s.dashed ? "curve dashed" : few ? "curve" : "curve dense";
    const behind = smooth.checked && look === "curve dense";
    add(inside, "path", { class: look + (behind ? " behind" : ""), stroke: s.colour, d: line });
    if (behind) add(inside, "path", { class: "curve smooth", stroke: s.colour, d: smoothed(s, points[n], across, up) });
    if (few && !s.dashed) add(inside, "path", { class: "dots", stroke: s.colour, d: dots });
  });
}

// Draws the mean of the neighbours of each point: of a fiftieth of the points in view.
function smoothed({ x, y }, points, across, up) {
  const reach = Math.max(Math.floor((points.at(-1) - points[0]) / 100), 1);
  let pen = "M", line = "";
  for (const i of points) {
    let total = 0, count = 0;
    for (let k = Math.max(i - reach, 0); k <= Math.min(i + reach, y.length - 1); k++) {
      if (Number.isFinite(y[k])) [total, count] = [total + y[k], count + 1];
    }
    const height = up(total / count);
    if (Number.isFinite(height)) line += `${pen}${across(x[i]).toFixed(2)} ${height.toFixed(2)}`;
    pen = Number.isFinite(height) ? "L" : "M";
  }
  return line;
}

function lane(svg, inside, { name, kind, colour, whose, x, y }, top, across) {
  const marks = [], last = until(x, view[1]); // one per column of pixels
  for (let i = until(x, view[0] - 1e-9), mark; i < last; i++) {
    const at = Math.round(across(x[i]));
    if (mark?.at !== at) marks.push(mark = { at, count: 0, from: x[i] });
    mark.count += y[i];
    mark.to = x[i];
  }
  const many = (n) => `${n} ${n === 1 ? name.replace(/s$/, "") : name}`;
  add(svg, "text", label(LEFT - 8, top + 13, "end"), many(y.reduce((a, b) => a + b, 0)));
  for (const { at, count, from, to } of marks) {
    const size = { x: at - 1.5, y: top, width: 3, height: ROW - 6, fill: colour };
    const mark = add(inside, "rect", { class: "mark", "data-kind": kind, "data-count": count, ...size });
    add(mark, "title", {}, `${whose}${many(count)}, ${axis.name} ${written(from)}${to > from ? ` to ${written(to)}` : ""}`);
  }
}
