import { byId } from "./dom.js";

export const data = JSON.parse(byId("data").textContent);
export const hasMap =
  data.buildings.some((building) => building.center) || data.flight_lines.some((l) => l.length);

export const state = {
  levels: new Set(data.levels.map((level) => level.number)),
  confidence: 0,
  review: false,
  unchecked: false,
  query: "",
  chosen: null,
  sort: "urgency",
  descending: false,
  rows: 0,
};

const levelNumber = Object.fromEntries(data.levels.map((level) => [level.name, level.number]));

export function passes({ record }) {
  return (
    state.levels.has(record.level_number) &&
    record.confidence >= state.confidence &&
    (!state.review || record.needs_review) &&
    (!state.unchecked || !record.checked) &&
    (!state.query || matches(record, state.query))
  );
}

function matches(record, query) {
  const number = /^b?0*(\d+)$/.exec(query);
  if (number) return Number(record.id.slice(1)) === Number(number[1]);
  return Object.values(record).some(
    (value) => typeof value === "string" && value.toLowerCase().includes(query),
  );
}

export const shown = () => data.buildings.filter(passes);

const sortKeys = {
  worst_level: (record) => levelNumber[record.worst_level],
  first_time_s: (record) =>
    `${record.first_video} ${record.first_time_s.toFixed(3).padStart(12, "0")}`,
};

export function sorted(buildings) {
  const key = sortKeys[state.sort] || ((record) => record[state.sort]);
  const sign = state.descending ? -1 : 1;
  return [...buildings].sort((a, b) => {
    const x = key(a.record);
    const y = key(b.record);
    // Unknown ones come last, either way.
    if (x === null || y === null) return (x === null) - (y === null);
    if (x !== y) return sign * (x < y ? -1 : 1);
    return a.record.urgency - b.record.urgency;
  });
}

// Latitude and longitude to the page's coordinates: metres of web maps from data.origin.
const RADIUS = 6378137;
export const HALF_WORLD = Math.PI * RADIUS;
export function toPage(latitude, longitude) {
  const east = (longitude * HALF_WORLD) / 180 - data.origin[0];
  const wrapped = (((east + HALF_WORLD) % (2 * HALF_WORLD)) + 2 * HALF_WORLD) % (2 * HALF_WORLD);
  const north = RADIUS * Math.log(Math.tan(Math.PI / 4 + (latitude * Math.PI) / 360));
  return [wrapped - HALF_WORLD, north - data.origin[1]];
}
