"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const el = id => document.getElementById(id);
const view = el("view"), canvas = el("canvas"), space = el("space"), tip = el("tip");
const pen = canvas.getContext("2d");
const STATES = { 2: ["masked", "masked"], 3: ["pending", "masked and pending"], 4: ["live", "unmasked"] };
const BANDS = [["unknown", "control bits not known"], ["disabled", "MSI-X disabled"],
  ["fmask", "function mask set"], ["nobme", "bus master off"], ["enabled", "enabled"]];
const MESSAGE = 0, LATCHED = 1, OPEN = 2, MISMATCH = 3;
const NOTHING = { spans: [], marks: [] }; // a vector of which nothing is recorded
const AXIS = 26, HEAD = 26, ROW = 20;
let LABELS = 236; // less on a narrow screen

if (data.cut !== null) { el("cut").hidden = false; el("cut").querySelector("b").textContent = data.cut[1]; }
const KNOWN = data.cut === null ? data.end : data.cut[0]; // nothing but mismatches is recorded past it

let rows = [], flags = [], from = 0, to = data.end, at = -1, width = 0, height = 0, colours = {};
const MIN = data.unit === "seconds" ? 20 : 4;

function layout() {
  rows = []; flags = [];
  data.devices.forEach((device, d) => {
    const head = { device, y: 0, height: HEAD, marks: device.marks, flags: 0 };
    rows.push(head);
    let idle = 0;
    const lanes = new Map(device.lanes.map(lane => [lane.vector, lane]));
    for (let vector = 0; vector < device.vectors; vector++) {
      const lane = lanes.get(vector) || NOTHING;
      const busy = lane.marks.length || lane.spans.some(span => span[3] !== 2);
      if (!busy && !el("idle").checked) { idle++; continue; }
      rows.push({ device, lane, vector, y: 0, height: ROW, marks: lane.marks });
    }
    head.idle = idle;
    for (let r = rows.length - 1; rows[r] !== head; r--)
      for (const mark of rows[r].marks) if (mark[2] === MISMATCH) { flags.push([mark[0], rows[r], mark]); head.flags++; }
    for (const mark of device.marks) if (mark[2] === MISMATCH) { flags.push([mark[0], head, mark]); head.flags++; }
  });
  let y = AXIS;
  for (const row of rows) { row.y = y; y += row.height; }
  flags.sort((a, b) => a[0] - b[0]);
  el("next").disabled = el("previous").disabled = flags.length === 0;
  space.dataset.height = y + 12;
  resize();
}

function resize() {
  width = view.clientWidth; height = view.clientHeight;
  LABELS = width < 640 ? 112 : 236;
  const scale = window.devicePixelRatio || 1;
  canvas.width = width * scale; canvas.height = height * scale;
  canvas.style.width = width + "px"; canvas.style.height = height + "px";
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  space.style.height = Math.max(0, space.dataset.height - height) + "px";
  const style = getComputedStyle(document.documentElement);
  for (const name of ["back", "panel", "ink", "soft", "line", "stripe", "live", "masked", "pending", "message", "latched",
    "bad", "enabled", "fmask", "nobme", "disabled"]) colours[name] = style.getPropertyValue("--" + name).trim();
  draw();
}

const x = place => LABELS + (place - from) / (to - from) * (width - LABELS - 8);
const place = px => from + (px - LABELS) / (width - LABELS - 8) * (to - from);
const named = p => data.unit === "seconds" ? (p / 1e6).toFixed(to - from < 20000 ? 6 : 3) + " s" : "line " + Math.round(p);

// Index of the first item whose key is not below the limit; items are sorted by it.
function first(items, limit, key) {
  let low = 0, high = items.length;
  while (low < high) { const mid = low + high >> 1; if (items[mid][key] < limit) low = mid + 1; else high = mid; }
  return low;
}

function drawAxis() {
  pen.fillStyle = colours.panel; pen.fillRect(0, 0, width, AXIS);
  pen.fillStyle = colours.soft; pen.strokeStyle = colours.line; pen.textAlign = "center";
  const raw = (to - from) / Math.max(2, (width - LABELS) / 120);
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = Math.max(data.unit === "seconds" ? power : 1, [1, 2, 5, 10].map(n => n * power).find(n => n >= raw));
  const bottom = Math.max(AXIS, Number(space.dataset.height) - 12 - view.scrollTop);
  for (let p = Math.ceil(from / step) * step; p <= to; p += step) {
    const px = Math.round(x(p)) + .5;
    pen.beginPath(); pen.moveTo(px, AXIS - 5); pen.lineTo(px, bottom); pen.stroke();
    if (px < width - 40) pen.fillText(named(p), px, 15);
  }
  pen.textAlign = "left"; label(data.unit === "seconds" ? "time" : "line of the log", 12, 15);
}

// A text left of the lanes, cut where they begin.
function label(text, px, y) {
  pen.save(); pen.beginPath(); pen.rect(0, 0, LABELS - 4, height); pen.clip(); pen.fillText(text, px, y); pen.restore();
}

function drawBand(row, y) {
  pen.fillStyle = colours.panel; pen.fillRect(0, y, width, row.height);
  const bands = row.device.band;
  for (let i = 0; i < bands.length; i++) {
    const end = i + 1 < bands.length ? bands[i + 1][0] : KNOWN;
    const a = Math.max(LABELS, x(bands[i][0])), b = Math.min(width - 8, x(end));
    if (b < LABELS || a > width || bands[i][2] === 0) continue;
    pen.fillStyle = colours[BANDS[bands[i][2]][0]];
    pen.fillRect(a, y + row.height - 10, Math.max(b - a, 1), 6);
  }
  const roomy = LABELS > 200;
  pen.fillStyle = row.flags && !roomy ? colours.bad : colours.ink; pen.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
  label(row.device.title, 12, y + 17);
  const used = Math.min(pen.measureText(row.device.title).width, LABELS - 60);
  pen.font = FONT;
  if (!roomy) return;
  if (row.flags) {
    pen.fillStyle = colours.bad; flag(26 + used, y + 7); label(row.flags, 38 + used, y + 17);
  } else if (row.idle) {
    pen.fillStyle = colours.soft; label("+" + row.idle + " idle", 22 + used, y + 17);
  }
}

function flag(px, y) { pen.beginPath(); pen.moveTo(px - 6, y); pen.lineTo(px + 6, y); pen.lineTo(px, y + 10); pen.fill(); }

function drawLane(row, y, index) {
  if (index % 2) { pen.fillStyle = colours.stripe; pen.fillRect(0, y, width, row.height); }
  const spans = row.lane.spans;
  for (let i = first(spans, from, 1); i < spans.length && spans[i][0] <= to; i++) {
    const a = Math.max(LABELS, x(spans[i][0])), b = Math.min(width - 8, x(spans[i][1]));
    pen.fillStyle = colours[STATES[spans[i][3]][0]];
    pen.fillRect(a, y + 4, Math.max(b - a, .6), row.height - 8);
  }
  pen.fillStyle = row.marks.some(mark => mark[2] === MISMATCH) ? colours.bad : colours.soft;
  label("vector " + row.vector, 26, y + 14);
  drawMarks(row, y);
}

function drawMarks(row, y) {
  const start = first(row.marks, from, 0);
  for (const kind of [MESSAGE, LATCHED, OPEN]) {
    let last = -9;
    pen.fillStyle = pen.strokeStyle = kind === MESSAGE ? colours.message : colours.latched;
    for (let i = start; i < row.marks.length && row.marks[i][0] <= to; i++) {
      if (row.marks[i][2] !== kind) continue;
      const px = x(row.marks[i][0]);
      if (px - last < .75) continue; // it would fall on the one before
      last = px;
      if (kind === MESSAGE) pen.fillRect(px - .75, y + 2, 1.5, row.height - 4);
      else if (kind === OPEN) { pen.beginPath(); pen.arc(px, y + row.height / 2, 6, 0, 7); pen.lineWidth = 2; pen.stroke(); pen.lineWidth = 1; }
      else { pen.beginPath(); pen.moveTo(px, y + 2); pen.lineTo(px + 5, y + row.height / 2); pen.lineTo(px, y + row.height - 2); pen.lineTo(px - 5, y + row.height / 2); pen.fill(); }
    }
  }
}

// Last, over everything: a mismatch is never hidden.
function drawFlags(top) {
  pen.fillStyle = colours.bad; pen.strokeStyle = colours.bad;
  flags.forEach(([where, row], i) => {
    const y = row.y - top, px = x(where);
    if (px < LABELS || px > width || y < AXIS - row.height || y > height) return;
    pen.fillRect(px - 1, y + 1, 2, row.height - 2); flag(px, y + 1);
    if (i === at) { pen.beginPath(); pen.arc(px, y + row.height / 2, 13, 0, 7); pen.lineWidth = 2; pen.stroke(); pen.lineWidth = 1; }
  });
}

const FONT = "12px system-ui, 'DejaVu Sans', sans-serif";
function draw() {
  const top = view.scrollTop;
  pen.font = FONT; pen.fillStyle = colours.back; pen.fillRect(0, 0, width, height);
  drawAxis();
  pen.save(); pen.beginPath(); pen.rect(0, AXIS, width, height); pen.clip();
  rows.forEach((row, index) => {
    const y = row.y - top;
    if (y + row.height < AXIS || y > height) return;
    if (row.lane) drawLane(row, y, index); else drawBand(row, y);
  });
  if (KNOWN < data.end && x(KNOWN) < width) {
    pen.fillStyle = colours.soft; pen.fillRect(Math.max(LABELS, x(KNOWN)), AXIS, 2, height);
    pen.fillText("not recorded", Math.max(LABELS, x(KNOWN)) + 8, AXIS + 17);
  }
  drawFlags(top);
  pen.restore();
  el("where").textContent = named(from) + " to " + named(to);
}

function show(a, b) {
  const span = Math.min(Math.max(b - a, MIN), data.end);
  from = Math.min(Math.max(0, a), data.end - span); to = from + span;
  draw();
}
function zoom(factor, around) { show(around - (around - from) * factor, around + (to - around) * factor); }
function pan(part) { const by = (to - from) * part; show(from + by, to + by); }

function step(by) {
  if (flags.length) jump(at < 0 ? (by > 0 ? 0 : flags.length - 1) : (at + by + flags.length) % flags.length);
}

function jump(to_flag) {
  at = to_flag;
  const [where, row, mark] = flags[at];
  const span = Math.min(to - from, Math.max(MIN, data.end / 40));
  view.scrollTop = Math.max(0, row.y - height / 2);
  show(where - span / 2, where + span / 2);
  tell(x(where), row.y - view.scrollTop, about(row, mark));
}

const about = (row, mark) => (row.lane ? row.device.title + " vector " + row.vector : row.device.title) +
  "\nline " + mark[1] + (data.unit === "seconds" ? " (" + (mark[0] / 1e6).toFixed(6) + " s)" : "") +
  ": " + (mark[2] === MISMATCH ? "MISMATCH: " : "") + data.texts[mark[3]];

function tell(px, y, text) {
  const box = view.getBoundingClientRect();
  tip.textContent = text; tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(box.left + px + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.min(box.top + y + 22, innerHeight - tip.offsetHeight - 8) + "px";
}

function hover(px, py) {
  const y = py + view.scrollTop;
  const row = py > AXIS && px > LABELS ? rows.find(row => y >= row.y && y < row.y + row.height) : null;
  if (!row) { tip.hidden = true; return; }
  const p = place(px), near = (to - from) / (width - LABELS) * 6;
  let best = null;
  for (let i = first(row.marks, p - near, 0); i < row.marks.length && row.marks[i][0] <= p + near; i++) {
    const mark = row.marks[i];
    if (!best || mark[2] > best[2] || mark[2] === best[2] && Math.abs(mark[0] - p) < Math.abs(best[0] - p)) best = mark;
  }
  if (best) { tell(px, py, about(row, best)); return; }
  if (row.lane) {
    const span = row.lane.spans[first(row.lane.spans, p, 1)];
    const state = span && span[0] <= p ? STATES[span[3]][1] + " since line " + span[2] : p > KNOWN ? "not recorded" : "MSI-X disabled, or not known";
    tell(px, py, row.device.title + " vector " + row.vector + "\n" + named(p) + ": " + state);
  } else {
    const band = row.device.band.filter(band => band[0] <= p).pop();
    tell(px, py, row.device.title + "\n" + named(p) + ": " + (band ? BANDS[band[2]][1] + " since line " + band[1] : "nothing known yet"));
  }
}

// What a pointer holds: where it began, and whether it moved since. Two of them zoom.
let held = null, fingers = new Map();
const apart = () => { const [a, b] = [...fingers.values()]; return Math.max(10, Math.abs(a - b)); };
const middle = () => { const [a, b] = [...fingers.values()]; return place((a + b) / 2); };
canvas.addEventListener("pointerdown", e => {
  fingers.set(e.pointerId, e.offsetX);
  canvas.setPointerCapture(e.pointerId); canvas.classList.add("held"); tip.hidden = true;
  held = fingers.size === 2 ? { apart: apart(), around: middle(), from, to, moved: true } : { x: e.offsetX, y: e.offsetY, from, to, moved: false };
});
function letGo(e) {
  const tapped = held && !held.moved && e.type === "pointerup";
  fingers.delete(e.pointerId); held = null; canvas.classList.remove("held");
  if (tapped) hover(e.offsetX, e.offsetY); // a finger does not hover
}
canvas.addEventListener("pointerup", letGo);
canvas.addEventListener("pointercancel", letGo);
canvas.addEventListener("pointermove", e => {
  if (!held) { if (e.pointerType === "mouse") hover(e.offsetX, e.offsetY); return; }
  fingers.set(e.pointerId, e.offsetX);
  if (fingers.size === 2) {
    if (held.apart === undefined) return;
    const factor = held.apart / apart();
    show(held.around - (held.around - held.from) * factor, held.around + (held.to - held.around) * factor);
    return;
  }
  if (held.x === undefined || Math.abs(e.offsetX - held.x) + Math.abs(e.offsetY - held.y) < 4 && !held.moved) return;
  held.moved = true;
  const by = (held.x - e.offsetX) / (width - LABELS - 8) * (held.to - held.from);
  show(held.from + by, held.to + by);
});
canvas.addEventListener("pointerleave", e => { if (e.pointerType === "mouse") tip.hidden = true; });
// The wheel scrolls as it does everywhere; sideways, or with shift, it pans; with ctrl, or by a pinch, it zooms.
canvas.addEventListener("wheel", e => {
  if (e.ctrlKey || e.metaKey) {
    e.preventDefault();
    zoom(Math.exp(e.deltaY / 300), Math.max(from, place(e.offsetX)));
  } else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
    e.preventDefault();
    pan((e.deltaX || e.deltaY) / 1000);
  } else tip.hidden = true;
}, { passive: false });
view.addEventListener("scroll", draw);
view.addEventListener("keydown", e => {
  const keys = { ArrowLeft: () => pan(-.1), ArrowRight: () => pan(.1), "+": () => zoom(.6, (from + to) / 2), "=": () => zoom(.6, (from + to) / 2),
    "-": () => zoom(1 / .6, (from + to) / 2), "0": () => show(0, data.end), n: () => step(1), p: () => step(-1), Escape: () => { tip.hidden = true; } };
  if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); keys[e.key](); }
});
el("in").onclick = () => zoom(.6, (from + to) / 2);
el("out").onclick = () => zoom(1 / .6, (from + to) / 2);
el("fit").onclick = () => show(0, data.end);
el("next").onclick = () => step(1);
el("previous").onclick = () => step(-1);
el("idle").onchange = layout;
new ResizeObserver(resize).observe(view);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resize);
layout();
for (const button of document.querySelectorAll("#mismatches .jump")) {
  const [line, device, vector] = [...button.closest("tr").cells].map(cell => cell.textContent);
  const found = () => flags.findIndex(([, row, mark]) => String(mark[1]) === line && row.device.title === device &&
    (row.lane ? String(row.vector) : "") === vector);
  button.disabled = found() < 0; // more of them are listed than are drawn
  button.onclick = () => { jump(found()); view.focus({ preventScroll: true }); };
}
if (location.hash === "#mismatch") step(1);
