// Handles input: drag to zoom; double click or Esc to reset; arrows to move the cursor.
"use strict";

const DRAG = 5; // pixels; less is a click
const [copy, reset, where, stage, said] =
  ["copy", "whole", "where", "stage", "said"].map((id) => document.getElementById(id));
const over = document.getElementById("axis"), switches = document.querySelectorAll("input.run");
let row = Infinity, drag = null, speech = 0;

// Shows the cursor at a row, and the values of the curves there: the last ones until then.
function point(to) {
  row = Math.min(Math.max(to, 0), end);
  const step = steps[row], spoken = [];
  const ends = view.map((v) => (axis === axes[0] ? Math.round(v) : written(v, 4)));
  where.textContent = `${axis.name} ${written(step)}, in view ${ends.join(" to ")}`;
  for (const { svg, outputs, series } of panels) {
    const line = svg.querySelector(".cursor"), room = svg.viewBox.baseVal.width - RIGHT - LEFT;
    const x = LEFT + (step - view[0]) / (view[1] - view[0]) * room;
    for (const key of ["x1", "x2"]) line.setAttribute(key, x);
    line.classList.toggle("away", step < view[0] || step > view[1]);
    series.forEach((s, n) => {
      const i = until(s.x, step) - 1, old = s.x[i] < step ? ` (${written(s.x[i])})` : "";
      outputs[n].textContent = i < 0 || !isShown(s) ? "–" : written(s.y[i]) + old;
      if (isShown(s)) spoken.push(`${s.name} ${outputs[n].textContent}`);
    });
  }
  clearTimeout(speech); // only the place where the cursor comes to rest is spoken
  speech = setTimeout(() => { said.textContent = `${axis.name} ${written(step)}: ${spoken.join(", ")}`; }, 300);
}

function zoom([a, b]) {
  const wide = Math.min(Math.max(b - a, narrowest()), whole[1] - whole[0]);
  const low = Math.min(Math.max((a + b - wide) / 2, whole[0]), whole[1] - wide);
  view = [low, low + wide];
  reset.disabled = view[0] === whole[0] && view[1] === whole[1];
  panels.forEach(draw);
  point(row);
}

function around(step, ratio) {
  zoom(view.map((edge) => step + (edge - step) * ratio));
}

// Returns the panel under a pointer, its place in it, and the step there.
function under(svg, event) {
  const box = svg.getBoundingClientRect(), right = box.width - RIGHT;
  const x = Math.min(Math.max(event.clientX - box.left, LEFT), right);
  return { svg, x, step: view[0] + (x - LEFT) / (right - LEFT) * (view[1] - view[0]) };
}

function moved(svg, event) {
  const here = under(svg, event);
  point(nearest(steps, here.step));
  if (!drag) return;
  for (const { svg } of panels) {
    const dragged = svg.querySelector(".dragged");
    dragged.setAttribute("x", Math.min(here.x, drag.x));
    dragged.setAttribute("width", Math.abs(here.x - drag.x));
  }
}

function released(svg, event) {
  const [from, to] = [drag, under(svg, event)];
  drag = null;
  if (from && Math.abs(to.x - from.x) >= DRAG) zoom([from.step, to.step].sort((a, b) => a - b));
  else panels.forEach((panel) => panel.svg.querySelector(".dragged").setAttribute("width", 0));
}

function pressed(event) {
  const jump = event.shiftKey ? Math.ceil((until(steps, view[1]) - until(steps, view[0])) / 20) : 1;
  const keys = {
    ArrowLeft: () => point(row - jump), ArrowRight: () => point(row + jump),
    Home: () => point(nearest(steps, view[0])), End: () => point(nearest(steps, view[1])),
    "+": () => around(steps[row], 0.5), "-": () => around(steps[row], 2), Escape: () => zoom(whole),
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
  const shift = Math.min(steps[row] - view[0], 0) + Math.max(steps[row] - view[1], 0);
  if (shift) zoom(view.map((edge) => edge + shift)); // the view follows the cursor
}

async function copied() {
  const text = document.getElementById("learning-rate");
  getSelection().selectAllChildren(text); // if copying is not allowed, the text is at least selected
  await navigator.clipboard?.writeText(text.textContent).then(() => (copy.textContent = "Copied"), () => {});
}

for (const { svg, log } of panels) {
  log?.addEventListener("change", () => zoom(view));
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = under(svg, event);
    svg.setPointerCapture(event.pointerId);
    moved(svg, event); // a tap moves the cursor too
  });
  svg.addEventListener("pointermove", (event) => moved(svg, event));
  svg.addEventListener("pointerup", (event) => released(svg, event));
  svg.addEventListener("pointercancel", () => { drag = null; zoom(view); });
  svg.addEventListener("dblclick", () => zoom(whole));
  svg.addEventListener("wheel", (event) => { // a pinch on a touchpad is a wheel event with the control key
    if (!event.ctrlKey) return;
    event.preventDefault();
    around(under(svg, event).step, 2 ** (event.deltaY / 100));
  }, { passive: false });
}
stage?.addEventListener("keydown", pressed);
reset?.addEventListener("click", () => zoom(whole));
smooth?.addEventListener("change", () => zoom(view));
over?.addEventListener("change", () => begin(axes[over.selectedIndex]));
switches.forEach((box, n) => box.addEventListener("change", () => {
  shown[n] = box.checked;
  if (shown.some(Boolean)) begin(axis);
  else panels.forEach(draw);
}));
copy?.addEventListener("click", copied);
function begin(axis) {
  along(axis);
  row = end;
  zoom(whole);
}

if (stage) {
  addEventListener("resize", () => zoom(view));
  begin(axes[0]);
}
