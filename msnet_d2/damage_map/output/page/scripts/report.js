import { data, shown, sorted } from "./data.js";
import { byId, element } from "./dom.js";
import { banners, caveat, footer, mapFacts } from "./head.js";
import { icon } from "./levels.js";
import { paint } from "./layers.js";
import { columns } from "./table.js";
import { coordinates, levelName, number, t } from "./text.js";
import { GroundMap } from "./view.js";

// The report: a sheet with the whole, then one for each area with its map and its buildings, as
// filtered on the page. Where there is one area, one sheet says all.
export function makeReport(map) {
  const buildings = shown();
  const areas = new Map();
  for (const building of buildings) {
    const name = building.record.grid_cell || "";
    if (!areas.has(name)) areas.set(name, []);
    areas.get(name).push(building);
  }
  const isOne = areas.size <= 1;
  const sheets = [overview(map, buildings, isOne)];
  if (!isOne) {
    const compare = ([a], [b]) => a.localeCompare(b, "en", { numeric: true });
    for (const [name, members] of [...areas].sort(compare)) {
      sheets.push(areaSheet(map, name, members));
    }
  }
  byId("sheets").replaceChildren(...sheets);
}

function overview(map, buildings, isOne) {
  const { length } = data.buildings;
  const filtered = t("filtered", { shown: number(buildings.length), all: number(length) });
  return element(
    "section",
    { class: "sheet" },
    element("h1", { text: t("report") }),
    ...banners(),
    mapFacts(),
    caveat(),
    buildings.length < length ? element("p", { text: filtered }) : null,
    totals(buildings),
    // Where sheets of areas follow, the numbers are on their maps.
    mapPicture(map, buildings, isOne ? 0 : undefined),
    element("p", { text: t("only_found") }),
    isOne ? listing(buildings) : element("p", { text: t("areas", { side: data.grid_cell_m }) }),
    element("p", { class: "small", text: footer() }),
  );
}

function areaSheet(map, name, buildings) {
  const title = name ? t("area", { name }) : t("without_place");
  return element(
    "section",
    { class: "sheet" },
    data.doubts.length ? element("p", { class: "banner", text: t("doubtful") }) : null,
    element("h1", { text: title }),
    mapPicture(map, buildings, 0),
    listing(buildings),
  );
}

function totals(buildings) {
  const count = (list) => element("td", { class: "number", text: number(list.length) });
  const line = (title, list) =>
    element("tr", {}, title, count(list), count(list.filter((b) => b.record.needs_review)));
  const rows = [...data.levels].reverse().map(({ number: level }) => {
    const title = element("td", {}, icon(level), ` ${levelName(level)}`);
    return line(
      title,
      buildings.filter((b) => b.record.level_number === level),
    );
  });
  const all = line(element("td", {}, element("b", { text: t("all") })), buildings);
  return table("totals", ["column_level_number", "buildings", "to_review"], [...rows, all]);
}

function table(kind, keys, rows) {
  const head = keys.map((key) => element("th", { text: t(key), scope: "col" }));
  return element(
    "table",
    { class: kind },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

// The map of some buildings, drawn on a canvas of its own; their numbers from a scale on.
function mapPicture(map, buildings, numberScale) {
  if (!map || !buildings.some((building) => building.center)) return null;
  const canvas = element("canvas", { width: 1650, height: 1020 });
  const sheet = Object.assign(Object.create(GroundMap.prototype), map, {
    canvas,
    width: 1100,
    height: 680,
    ratio: 1.5,
    chosen: null,
    pin: null,
    numberScale,
    // Tiles of another site may not be read back.
    layers: { ...map.layers, osm: false },
    draw: () => {},
  });
  sheet.fit(buildings);
  paint(sheet);
  return element("img", { src: canvas.toDataURL("image/jpeg", 0.88), alt: t("map"), class: "map" });
}

function listing(buildings) {
  const keys = [
    "urgency",
    "level_number",
    "reason",
    "confidence",
    "ce90_m",
    "needs_review",
    "checked",
  ];
  const rows = sorted(buildings).map(({ record, photo }) => {
    const image = photo ? element("img", { src: photo, alt: record.id }) : "–";
    const place = record.latitude === null ? "–" : coordinates(record, 5);
    const name = element("td", {}, element("b", { text: record.id }), element("br"), place);
    const cells = keys.map((key) => {
      const cell = element("td", { class: columns[key].isNumber ? "number" : `c-${key}` });
      if (key === "level_number") cell.append(icon(record.level_number), " ");
      cell.append(columns[key].text(record));
      return cell;
    });
    return element("tr", {}, element("td", { class: "photo" }, image), name, ...cells);
  });
  const titles = ["photo_title", "column_id", ...keys.map((key) => `column_${key}`)];
  return table("listing", titles, rows);
}

// Photos beside the page take a moment to load.
export async function printReport(map) {
  makeReport(map);
  const images = [...byId("sheets").querySelectorAll("img")];
  await Promise.allSettled(images.map((image) => image.decode()));
  window.print();
}
