import { showTimeline } from "./charts.js";
import { data, hasMap, passes, shown, state } from "./data.js";
import { showDetail } from "./detail.js";
import { byId, element } from "./dom.js";
import { showHead } from "./head.js";
import { makeReport, printReport } from "./report.js";
import { isReviewed, loadReviews, saveCsv, saveJson } from "./reviews.js";
import { listenToSearch } from "./search.js";
import { markChosen, showTable } from "./table.js";
import { language, languages, number, plural, setLanguage, t } from "./text.js";
import { GroundMap } from "./view.js";

const isPhone = window.matchMedia("(max-width: 820px)");
let map = null;

function choose(building, center) {
  state.chosen = building;
  if (map) map.choose(building, center);
  showDetail(reviewed);
  markChosen();
  if (!hasMap) showTimeline((b) => choose(b, false));
  if (!building) return;
  if (center) byId(hasMap ? "map-box" : "detail").scrollIntoView({ block: "nearest" });
  else if (isPhone.matches) byId("detail").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function refresh() {
  const buildings = shown();
  byId("count").textContent = shownCount(buildings.length, data.buildings.length);
  if (state.chosen && !passes(state.chosen)) state.chosen = null;
  if (map) map.choose(state.chosen, false);
  showDetail(reviewed);
  refreshTable();
  if (!hasMap) showTimeline((building) => choose(building, false));
}

function shownCount(count, all) {
  if (!all) return "";
  if (count === all) return plural("all_shown", all);
  return t("some_shown", { shown: number(count), all: number(all) });
}

function refreshTable() {
  showTable({ onChoose: (building) => choose(building, true), onSort: refreshTable });
  const count = data.buildings.filter(({ record }) => isReviewed(record)).length;
  byId("reviewed").textContent = plural("reviewed", count);
  byId("export-json").disabled = byId("export-csv").disabled = !count;
}

function reviewed() {
  if (state.unchecked) refresh();
  else refreshTable();
  if (map) map.draw();
}

function speak(name) {
  setLanguage(name);
  byId("language").value = language;
  showHead(refresh);
  refresh();
}

function listen() {
  const confidence = byId("confidence");
  confidence.addEventListener("input", () => {
    state.confidence = confidence.value / 100;
    byId("confidence-value").textContent = `${confidence.value}%`;
    refresh();
  });
  for (const name of ["review", "unchecked"]) {
    byId(name).addEventListener("change", (event) => {
      state[name] = event.target.checked;
      refresh();
    });
  }
  byId("print").addEventListener("click", () => printReport(map));
  byId("export-json").addEventListener("click", saveJson);
  byId("export-csv").addEventListener("click", saveCsv);
  byId("language").addEventListener("change", (event) => {
    speak(event.target.value);
    try {
      localStorage.setItem("msnet language", event.target.value);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  });
  window.addEventListener("beforeprint", () => makeReport(map));
}

function startMap() {
  map = new GroundMap(byId("map"), {
    visible: passes,
    onChoose: (building) => choose(building, false),
    onTileError: () => showBaseMapState(true),
  });
  byId("mosaic-switch").hidden = !data.mosaics.length;
  if (isPhone.matches) byId("layers").open = false;
  for (const box of document.querySelectorAll("[data-layer]")) {
    box.addEventListener("change", () => {
      map.layers[box.dataset.layer] = box.checked;
      if (box.dataset.layer === "osm") showBaseMapState(false);
      map.draw();
    });
  }
  const zooms = { in: () => map.zoom(1.6), out: () => map.zoom(1 / 1.6), fit: () => map.fit() };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zooms[button.dataset.zoom]());
  }
  listVideos();
}

function showBaseMapState(isMissing) {
  byId("attribution").hidden = !map.layers.osm;
  byId("no-tiles").hidden = !(map.layers.osm && isMissing);
}

function listVideos() {
  const flown = data.videos.flatMap((v, i) => (data.flight_lines[i].length ? [[i, v.name]] : []));
  const list = byId("goto");
  if (flown.length < 2) return;
  list.hidden = false;
  list.append(...flown.map(([value, text]) => element("option", { value, text })));
  list.addEventListener("change", () => {
    if (list.value === "all") map.fit();
    else if (list.value) map.showVideo(Number(list.value));
    list.value = "";
  });
}

function preferred() {
  try {
    const kept = localStorage.getItem("msnet language");
    if (languages.includes(kept)) return kept;
  } catch {
    // Without storage the browser's language counts.
  }
  const known = navigator.languages.map((name) => name.slice(0, 2));
  return known.find((name) => languages.includes(name));
}

loadReviews();
const names = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };
byId("language").append(
  ...languages.map((value) => element("option", { value, text: names[value] })),
);
byId("map-box").hidden = !hasMap;
byId("timeline").hidden = hasMap;
setLanguage(preferred());
if (hasMap) startMap();
listen();
listenToSearch(map, { onFilter: refresh, onChoose: (building) => choose(building, true) });
speak(preferred());
// For scripts and tests.
window.damageMap = { data, map };
