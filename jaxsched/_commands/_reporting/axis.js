// Numbers and their positions, independent of the page.
"use strict";

// Decodes an array of the page: evenly spaced numbers, or bytes of floats in base 64.
function numbers({ first, every, count, width, text }) {
  if (!width) return Float64Array.from({ length: count }, (_, i) => first + i * every);
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return new (width === 4 ? Float32Array : Float64Array)(bytes.buffer);
}

// Counts the increasing steps up to a given one.
function until(x, step) {
  let [a, b] = [0, x.length];
  while (a < b) {
    const middle = (a + b) >> 1;
    if (x[middle] <= step) a = middle + 1; else b = middle;
  }
  return a;
}

// Returns x on another axis, which is known at some steps: linear between them and beyond.
function placed(x, map) {
  if (!map) return x;
  const last = map.x.length - 1;
  return Float64Array.from(x, (step) => {
    const i = Math.min(Math.max(until(map.x, step), 1), last), [a, b] = [map.x[i - 1], map.x[i]];
    return map.y[i - 1] + (step - a) / (b - a) * (map.y[i] - map.y[i - 1]);
  });
}

// Returns all numbers of several increasing arrays, increasing, each once.
function merged(arrays) {
  if (arrays.length === 1) return arrays[0];
  const all = Float64Array.from(arrays.flatMap((x) => [...x])).sort();
  return all.filter((v, i) => !i || v !== all[i - 1]);
}

function nearest(x, step) {
  const i = until(x, step);
  return i && (i === x.length || step - x[i - 1] <= x[i] - step) ? i - 1 : i;
}

// Returns the points in view, and one more at each side. If there are many, it keeps the first, the
// lowest, the highest and the last of every column of pixels.
function seen({ x, y }, [low, high], columns) {
  const start = Math.max(until(x, low) - 1, 0), end = Math.min(until(x, high) + 1, x.length);
  if (end - start <= 4 * columns) return Array.from({ length: end - start }, (_, i) => start + i);
  const kept = [], wide = (high - low) / columns;
  for (let i = start, next; i < end; i = next) {
    const edge = low + (Math.floor((x[i] - low) / wide) + 1) * wide;
    let least = i, most = i;
    next = Math.min(Math.max(until(x, edge), i + 1), end);
    for (let j = i + 1; j < next; j++) {
      if (y[j] < y[least] || Number.isNaN(y[least])) least = j;
      if (y[j] > y[most] || Number.isNaN(y[most])) most = j;
    }
    kept.push(...new Set([i, least, most, next - 1].sort((a, b) => a - b)));
  }
  return kept;
}

// Returns the ends of a vertical axis: the visible values, with a small margin.
function upright(values, log) {
  const there = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  if (!there.length) return [0.1, 1];
  let [low, high] = [there[0], there[0]];
  for (const v of there) [low, high] = [Math.min(low, v), Math.max(high, v)];
  const ratio = Math.max(high / low, 1.5) ** 0.05;
  if (log) return [low / ratio, high * ratio];
  const from = low >= 0 && low < 0.3 * high ? 0 : low; // a curve that comes near zero is shown from zero
  const room = 0.05 * (high - from || Math.abs(high) || 1);
  return [from && from - room, high + room];
}

// Returns round numbers on an axis, about `most` of them at most.
function ticks([low, high], most, log, least = 0) {
  if (log && high / low >= 5) {
    const first = Math.floor(Math.log10(low)), powers = Math.ceil(Math.log10(high)) - first;
    const each = Math.ceil(powers / most), digits = powers <= 2 ? [1, 2, 5] : [1];
    return Array.from({ length: powers + 1 }, (_, i) => first + i)
      .filter((n) => n % each === 0)
      .flatMap((n) => digits.map((d) => +`${d}e${n}`))
      .filter((v) => v >= low && v <= high);
  }
  const wide = Math.max((high - low) / most, least), size = 10 ** Math.floor(Math.log10(wide));
  const each = size * [1, 2, 5, 10].find((n) => n * size >= wide * (1 - 1e-9));
  const start = Math.ceil(low / each), count = Math.floor(high / each) - start + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => (start + i) * each);
}

function written(v, digits = 6) {
  if (!Number.isFinite(v)) return "not finite";
  if (Number.isInteger(v) && Math.abs(v) < 1e15) return String(v);
  if (Math.abs(v) >= 1e-3 && Math.abs(v) < 1e9) return String(+v.toPrecision(digits));
  return v.toExponential(digits - 1).replace(/\.?0*e\+?/, "e");
}
