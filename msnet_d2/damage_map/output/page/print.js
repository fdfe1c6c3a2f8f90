"use strict";
// The report: a sheet of totals, then one for each area with its map and its buildings, as filtered on the page.
function totals(list) {
  const rows = [...data.levels].reverse().map(l => {
    const here = list.filter(f => f.p.level_number === l.number);
    return el("tr", {}, el("td", {}, dot(l.number), " " + l.name), el("td", { class: "number", text: here.length }), el("td", { class: "number", text: here.filter(f => f.p.needs_review).length }), el("td", { text: l.fema || "–" }), el("td", { text: l.ems98 || "–" }));
  });
  const sum = el("tr", {}, el("td", {}, el("b", { text: "All" })), el("td", { class: "number", text: list.length }), el("td", { class: "number", text: list.filter(f => f.p.needs_review).length }), el("td"), el("td"));
  return el("table", { class: "totals" }, el("thead", {}, el("tr", {}, ...["Level (ISBDA)", "Buildings", "To review", "FEMA, indicative", "EMS-98, indicative"].map(text => el("th", { text })))), el("tbody", {}, ...rows, sum));
}
function picture(list) {
  if (!list.some(f => f.c)) return null;
  const canvas = el("canvas"), kept = { view: map.view, canvas: map.canvas, width: map.width, height: map.height, ratio: map.ratio, osm: map.layers.osm };
  canvas.width = 1500; canvas.height = 900;
  Object.assign(map, { canvas, width: 1000, height: 600, ratio: 1.5 });
  map.layers.osm = false; // tiles of another site may not be read back
  map.fit(list);
  const source = canvas.toDataURL("image/jpeg", 0.85);
  Object.assign(map, { view: kept.view, canvas: kept.canvas, width: kept.width, height: kept.height, ratio: kept.ratio });
  map.layers.osm = kept.osm;
  return el("img", { src: source, alt: "Map" });
}
function listing(list) {
  const keys = ["id", "level_number", "worst_level", "confidence", "agreement", "damaged_share", "observations", "ce90_m"], used = columns.filter(c => keys.includes(c[0]));
  const rows = sorted(list).map(f => el("tr", {}, ...used.map(([key, , text, number]) => { const cell = el("td", { class: number ? "number" : "" }); if (key === "level_number") cell.append(dot(f.p.level_number), " "); cell.append(String(text(f))); return cell; }),
    el("td", { text: f.p.latitude === null ? "–" : `${f.p.latitude.toFixed(5)}, ${f.p.longitude.toFixed(5)}` }), el("td", { text: f.p.needs_review ? "yes" : "" })));
  return el("table", {}, el("thead", {}, el("tr", {}, ...used.map(c => el("th", { class: c[3] ? "number" : "", text: c[1] })), el("th", { text: "Latitude, longitude" }), el("th", { text: "Review" }))), el("tbody", {}, ...rows));
}
function sheets() {
  const shown = data.buildings.filter(passes), areas = new Map();
  for (const f of shown) { const name = f.p.grid_cell || "without a place"; areas.set(name, [...(areas.get(name) || []), f]); }
  const filtered = shown.length < data.buildings.length ? ` Filtered: ${shown.length} of ${data.buildings.length}.` : "";
  const pages = [el("section", { class: "sheet" }, el("h1", { text: "Damage report" }), el("p", { text: $("sources").textContent + "." + filtered }), totals(shown), picture(shown),
    ...data.doubts.map(text => el("p", { text: "Places may be wrong. " + text })),
    ...data.problems.map(text => el("p", { text: "Problem: " + text })),
    el("p", { text: "Only damage that was found is listed; a building that is not was not assessed. FEMA and EMS-98 are indicative." }), el("p", { text: $("footer").textContent }))];
  for (const [name, list] of [...areas].sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }))) pages.push(el("section", { class: "sheet" }, el("h1", { text: areas.size > 1 || name === "without a place" ? `Area ${name}` : "Buildings" }),
    name === "without a place" || areas.size < 2 ? null : el("p", { text: `A square of ${data.grid_cell_m} m by ${data.grid_cell_m} m. Letters go from west to east, numbers from north to south; squares without a building have no name.` }), totals(list), picture(list), listing(list)));
  $("sheets").replaceChildren(...pages);
}
window.addEventListener("beforeprint", sheets);
