"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
// Everything that comes from files is set as text, never as markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (name === "text") node.textContent = value; else if (name === "style") node.style.cssText = value; else node.setAttribute(name, value);
  node.append(...children.filter(c => c !== null && c !== undefined));
  return node;
}
function svg(tag, attributes = {}, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
const percent = v => v === null || v === undefined ? "–" : Math.round(100 * v) + "%";
const metres = v => v === null || v === undefined ? "–" : v < 10 ? v.toFixed(1) : Math.round(v).toString();
const clock = s => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const dot = n => el("span", { class: "dot", style: `background:${data.levels[n].color}`, "aria-hidden": "true" });
const badge = n => el("span", { class: "badge", "data-n": n, style: `background:${data.levels[n].color}`, text: data.levels[n].name });

const state = { levels: new Set(data.levels.map(l => l.number)), confidence: 0, review: false, chosen: null, sort: "level_number", down: true };
const passes = f => state.levels.has(f.p.level_number) && f.p.confidence >= state.confidence && (!state.review || f.p.needs_review);
const hasMap = data.buildings.some(f => f.c) || data.tracks.some(t => t.length);
let map = null;

// Doubtful ones are not called damaged: the sentence on top is what gets passed on.
function headline() {
  const doubtful = data.buildings.filter(f => !f.p.level_number).length, names = data.videos.map(v => v.name);
  const where = names.length > 4 ? `${names.length} videos` : names.join(", ");
  return `${many(data.buildings.length - doubtful, "damaged building")}${doubtful ? `, and ${doubtful} too doubtful to assess,` : ""} found in ${where}`;
}

function head() {
  $("sources").textContent = headline();
  for (const text of data.doubts) $("warnings").append(el("p", { class: "problem", text: "Places may be wrong. " + text }));
  for (const text of data.problems) $("warnings").append(el("p", { class: "problem", text }));
  if (!hasMap) $("warnings").append(el("p", { text: "No flight log: nothing here has a place, so there is no map. A building that comes into view twice is counted twice." }));
  const notes = data.videos.flatMap(v => v.notes.map(note => `${v.name}: ${note}`));
  if (notes.length) $("warnings").append(el("details", {}, el("summary", { text: many(notes.length, "note") + " on the videos and flight logs" }), el("ul", {}, ...notes.map(text => el("li", { text })))));
  for (const level of [...data.levels].reverse()) {
    const number = data.buildings.filter(f => f.p.level_number === level.number).length;
    const box = el("input", { type: "checkbox", "data-level": level.number });
    box.checked = true;
    box.addEventListener("change", () => { if (box.checked) state.levels.add(level.number); else state.levels.delete(level.number); refresh(); });
    $("levels").append(el("label", { title: level.meaning }, box, dot(level.number), ` ${level.name} (${number})`));
  }
  $("confidence").addEventListener("input", e => { state.confidence = e.target.value / 100; $("confidence-value").textContent = e.target.value + "%"; refresh(); });
  $("review").addEventListener("change", e => { state.review = e.target.checked; refresh(); });
  $("print").addEventListener("click", () => window.print());
  $("scale").append(el("tr", {}, ...["ISBDA", "Meaning", "FEMA, indicative", "EMS-98 grade, indicative"].map(text => el("th", { text }))));
  for (const l of [...data.levels].reverse()) $("scale").append(el("tr", {}, el("td", {}, dot(l.number), " " + l.name), ...[l.meaning, l.fema || "–", l.ems98 || "–"].map(text => el("td", { text }))));
  const digests = [...new Set(data.videos.map(v => v.weights_sha256).filter(Boolean))];
  $("footer").textContent = `Made by msnet map ${data.version}.` + (digests.length ? ` Weights, SHA-256: ${digests.join(", ")}` : "");
}

const columns = [
  ["id", "Building", f => f.p.id], ["level_number", "Level", f => f.p.level], ["worst_level", "Worst part", f => f.p.worst_level],
  ["confidence", "Confidence", f => percent(f.p.confidence), 1], ["agreement", "Agreement", f => percent(f.p.agreement), 1],
  ["damaged_share", "Damaged share", f => percent(f.p.damaged_share), 1], ["observations", "Observations", f => f.p.observations, 1],
  ["passes", "Passes", f => f.p.passes, 1], ["first_time_s", "First seen", f => `${clock(f.p.first_time_s)} ${data.videos.length > 1 ? f.p.first_video : ""}`],
  ["ce90_m", "Error, m", f => metres(f.p.ce90_m), 1], ["grid_cell", "Area", f => f.p.grid_cell || "–"], ["needs_review", "Review", f => f.p.review_reasons || ""],
];
const order = Object.fromEntries(data.levels.map(l => [l.name, l.number]));
function sorted(list) {
  const key = f => state.sort === "worst_level" ? order[f.p.worst_level] : state.sort === "first_time_s" ? [f.p.first_video, String(f.p.first_time_s.toFixed(3)).padStart(12, "0")].join() : f.p[state.sort];
  const sign = state.down ? -1 : 1;
  return [...list].sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === null || y === null) return (x === null) - (y === null); // unknown ones last, either way
    return sign * (x < y ? -1 : x > y ? 1 : 0) || (a.p.id < b.p.id ? -1 : 1);
  });
}
function table() {
  const row = $("table").tHead.rows[0];
  if (!row.cells.length) for (const [key, title, , number] of columns) {
    const button = el("button", { type: "button", text: title });
    button.addEventListener("click", () => { state.down = state.sort === key ? !state.down : !["id", "grid_cell", "first_time_s"].includes(key); state.sort = key; refresh(); });
    row.append(el("th", { "data-key": key, class: (number ? "number " : "") + "c-" + key }, button));
  }
  for (const cell of row.cells) { if (cell.dataset.key === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending"); else cell.removeAttribute("aria-sort"); }
  const rows = sorted(data.buildings.filter(passes)).map(f => {
    const cells = columns.map(([key, , text, number]) => {
      if (key === "id") return el("td", {}, el("button", { type: "button", text: f.p.id }));
      const cell = el("td", { class: (number ? "number " : "") + "c-" + key });
      if (key === "level_number") cell.append(dot(f.p.level_number), " ");
      cell.append(String(text(f)));
      return cell;
    });
    const tr = el("tr", { "data-id": f.p.id, class: f.p.id === state.chosen ? "chosen" : "" }, ...cells);
    tr.addEventListener("click", () => choose(f.p.id, true));
    return tr;
  });
  $("table").tBodies[0].replaceChildren(...rows);
}

function chart(history) {
  const w = 360, h = 120, left = 26, bottom = 16, x = i => left + (w - left - 8) * (history.length > 1 ? i / (history.length - 1) : 0.5), y = s => 6 + (h - bottom - 6) * (1 - s);
  const node = svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "chart", role: "img", "aria-label": "Confidence in each observation" });
  for (const s of [0, 0.5, 1]) { node.append(svg("line", { x1: left, x2: w - 8, y1: y(s), y2: y(s), stroke: "#d8dde4" }), svg("text", { x: left - 4, y: y(s) + 3, "text-anchor": "end" }, percent(s))); }
  history.forEach((s, i) => {
    if (s.score_raw !== null && Math.abs(s.score_raw - s.score) > 0.005) node.append(svg("line", { x1: x(i), x2: x(i), y1: y(s.score_raw), y2: y(s.score), stroke: "#8a8f98" }), svg("circle", { cx: x(i), cy: y(s.score_raw), r: 2, fill: "none", stroke: "#8a8f98" }));
    const mark = svg("circle", { cx: x(i), cy: y(s.score), r: history.length > 60 ? 2 : 3.5, fill: data.levels[s.level].color, stroke: "#333", "stroke-width": 0.6 });
    mark.append(svg("title", {}, `${data.videos[s.video].name}, frame ${s.frame}, ${clock(s.time_s)}: ${data.levels[s.level].name}, ${percent(s.score)}`));
    node.append(mark);
  });
  const when = s => (data.videos.length > 1 ? data.videos[s.video].name + " " : "") + clock(s.time_s);
  node.append(svg("text", { x: left, y: h - 3 }, when(history[0])));
  if (history.length > 1) node.append(svg("text", { x: w - 8, y: h - 3, "text-anchor": "end" }, when(history[history.length - 1])));
  return node;
}

function detail() {
  const f = data.buildings.find(b => b.p.id === state.chosen), box = $("detail");
  if (!f) { box.replaceChildren(el("p", { class: "hint", text: data.buildings.length ? `Choose a building ${hasMap ? "on the map" : "in the chart"} or in the table to see its picture, level and history.` : "No damage was found. That does not mean that there is none." })); return; }
  const p = f.p, level = data.levels[p.level_number], rows = [];
  const add = (name, value) => { if (value !== null && value !== undefined && value !== "") rows.push(el("dt", { text: name }), el("dd", {}, value)); };
  add("Confidence", percent(p.confidence));
  if (!p.level_number) add("Indication", `${p.indication}, too doubtful to be called so`);
  add("Worst part", p.worst_level);
  add("FEMA, indicative", level.fema); add("EMS-98, indicative", level.ems98 && "grade " + level.ems98);
  add("Damaged share", p.damaged_share === null ? null : percent(p.damaged_share) + " of the outline");
  add("Seen", `${many(p.observations, "time")} in ${many(p.passes, "pass").replace("passs", "passes")}, ${clock(p.first_time_s)} (${p.first_video}) to ${clock(p.last_time_s)} (${p.last_video})`);
  if (p.latitude !== null) { add("Place", el("a", { href: `geo:${p.latitude},${p.longitude}`, text: `${p.latitude.toFixed(6)}, ${p.longitude.toFixed(6)}` })); add("Position error", `${metres(p.ce90_m)} m (dashed circle)`); }
  add("Best view", `${p.best_video}, frame ${p.best_frame}, ${clock(p.best_time_s)}`);
  const total = p.vote_slight + p.vote_severe + p.vote_debris;
  const votes = el("div", { class: "votes" }, ...[p.vote_slight, p.vote_severe, p.vote_debris].map((v, i) => el("span", { style: `width:${100 * v / total}%;background:${data.levels[i + 1].color}`, title: `${data.levels[i + 1].name} ${percent(v / total)}` })));
  box.replaceChildren(...[
    f.img ? el("img", { src: f.img, alt: `${p.id} in frame ${p.best_frame} of ${p.best_video}` }) : el("p", { class: "hint", text: "No picture." }),
    el("div", { class: "title" }, el("h2", { text: p.id }), badge(p.level_number)),
    p.needs_review ? el("p", { class: "review", text: `To review: ${p.review_reasons}` }) : null,
    el("dl", {}, ...rows),
    el("h3", { text: `Votes of the observations (${percent(p.agreement)} agree)` }), votes,
    el("h3", { text: "Confidence over its observations" }), chart(f.h),
    el("h3", { text: many(f.parts.length, "damaged part") }),
    el("ul", {}, ...f.parts.map(part => el("li", {}, dot(part.p.level_number), ` ${part.p.level}, ${percent(part.p.confidence)}, seen ${many(part.p.observations, "time")}`)))].filter(Boolean));
  box.scrollTop = 0;
}

// Without places: when each building was in view.
function timeline() {
  if (hasMap) return;
  $("map-box").hidden = true; $("timeline").hidden = false;
  const shown = data.buildings.filter(passes), parts = [el("h2", { text: "When each building was in view" })];
  data.videos.forEach((video, number) => {
    const rows = shown.filter(f => f.h[0].video === number), w = 640, left = 60, h = 26 + 18 * Math.max(rows.length, 1);
    const x = t => left + (w - left - 12) * t / Math.max(video.duration_s, 0.1);
    const node = svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "chart" });
    rows.forEach((f, i) => {
      const group = svg("g", { "data-id": f.p.id }), y = 6 + 18 * i;
      if (f.p.id === state.chosen) group.append(svg("rect", { x: 0, y: y - 3, width: w, height: 18, fill: "#dfeaff" }));
      group.append(svg("text", { x: 4, y: y + 10 }, f.p.id), svg("rect", { x: x(f.p.first_time_s), y, width: Math.max(4, x(f.p.last_time_s) - x(f.p.first_time_s)), height: 12, rx: 3, fill: data.levels[f.p.level_number].color, stroke: "#444" }));
      group.addEventListener("click", () => choose(f.p.id, false));
      node.append(group);
    });
    node.append(svg("line", { x1: left, x2: w - 12, y1: h - 18, y2: h - 18, stroke: "#5b6675" }), svg("text", { x: left, y: h - 5 }, "0:00"), svg("text", { x: w - 12, y: h - 5, "text-anchor": "end" }, clock(video.duration_s)));
    parts.push(el("h3", { text: video.name }), rows.length ? node : el("p", { text: "nothing to show" }));
  });
  $("timeline").replaceChildren(...parts);
}

function choose(id, center) {
  state.chosen = id;
  if (map) map.choose(id, center);
  detail(); table(); timeline();
  if (id && !center && window.matchMedia("(max-width: 820px)").matches) $("detail").scrollIntoView({ block: "nearest", behavior: "smooth" });
  if (id && center) (hasMap ? $("map-box") : $("detail")).scrollIntoView({ block: "nearest" });
}
function refresh() {
  const shown = data.buildings.filter(passes);
  $("count").textContent = shown.length === data.buildings.length ? `All ${many(shown.length, "building")} shown` : `${shown.length} of ${many(data.buildings.length, "building")} shown`;
  if (state.chosen && !shown.some(f => f.p.id === state.chosen)) state.chosen = null;
  if (map) map.choose(state.chosen, false);
  detail(); table(); timeline();
}

head();
if (hasMap) {
  map = new GroundMap($("map"), data, id => choose(id, false));
  map.visible = passes;
  $("mosaic-switch").hidden = !data.mosaics.length;
  if (data.tracks.filter(t => t.length).length > 1) {
    $("goto").hidden = false;
    data.videos.forEach((v, i) => { if (data.tracks[i].length) $("goto").append(el("option", { value: i, text: v.name })); });
    $("goto").addEventListener("change", e => { if (e.target.value === "all") map.fit(); else if (e.target.value) map.showVideo(+e.target.value); e.target.value = ""; });
  }
  if (window.matchMedia("(max-width: 820px)").matches) $("layers").open = false;
  for (const box of document.querySelectorAll("[data-layer]")) box.addEventListener("change", () => { map.layers[box.dataset.layer] = box.checked; $("attribution").hidden = !map.layers.osm; map.draw(); });
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => { const z = button.dataset.zoom; if (z === "fit") map.fit(); else map.zoom(z === "in" ? 1.6 : 1 / 1.6); });
}
refresh();
