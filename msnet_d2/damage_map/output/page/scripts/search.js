import { data, shown, state, toPage } from "./data.js";
import { byId } from "./dom.js";
import { language, metres, plural, t } from "./text.js";
import { isInside } from "./view.js";

const SIDE = "([NSEWO])?";
const NUMBER = "(\\d+(?:\\.\\d+)?)";
const DEGREES = new RegExp(
  `${SIDE}\\s*([-+]?\\d+(?:\\.\\d+)?)\\s*°?\\s*(?:${NUMBER}\\s*['′’]\\s*)?` +
    `(?:${NUMBER}\\s*["″”]\\s*)?${SIDE}`,
  "giu",
);

// As people write who have a comma in decimal numbers: 48,1351; 11,582.
const DECIMAL_COMMAS = /^([-+]?\d{1,3}),(\d+)[\s;,]+([-+]?\d{1,3}),(\d+)$/;

// Latitude and longitude in degrees, also with minutes, seconds and hemispheres; null for others.
export function parseCoordinates(written) {
  const text = written.replace(DECIMAL_COMMAS, "$1.$2 $3.$4");
  const found = [...text.matchAll(DEGREES)];
  if (found.length !== 2 || text.replace(DEGREES, "").replace(/geo:|[\s,;]/g, "")) return null;
  const values = found.map(([, before, degrees, minutes, seconds, after]) => {
    const size = Math.abs(degrees) + (minutes || 0) / 60 + (seconds || 0) / 3600;
    const side = (before || after || "").toUpperCase();
    // O is east in German, and west in Spanish and French.
    const isWest = side === "W" || (side === "O" && language !== "de");
    const isNegative = degrees.startsWith("-") || side === "S" || isWest;
    return { value: isNegative ? -size : size, isLatitude: "NS".includes(side || " "), side };
  });
  const isSwapped = values[1].isLatitude || (values[0].side && !values[0].isLatitude);
  const [latitude, longitude] = (isSwapped ? values.reverse() : values).map((v) => v.value);
  return Math.abs(latitude) <= 85 && Math.abs(longitude) <= 180 ? { latitude, longitude } : null;
}

function nearest(point) {
  let best = null;
  for (const building of data.buildings) {
    if (!building.center) continue;
    const { center, radius, rings } = building;
    const far = Math.hypot(center[0] - point[0], center[1] - point[1]);
    const isHere = far <= radius || (rings || []).some((ring) => isInside(ring, point));
    if (!best || far < best.far) best = { building, far, isHere };
  }
  return best;
}

export function listenToSearch(map, { onFilter, onChoose }) {
  const field = byId("search");
  const answer = byId("search-answer");
  const find = (isEntered) => {
    const text = field.value.trim();
    const place = parseCoordinates(text);
    state.query = place ? "" : text.toLowerCase();
    if (map) map.pin = null;
    answer.textContent = "";
    if (place && map) goTo(map, place, answer, onChoose);
    else if (place) answer.textContent = t("search_no_map");
    onFilter();
    if (!state.query) return;
    const found = shown();
    answer.textContent = plural("search_found", found.length);
    if (isEntered && found.length) onChoose(found[0]);
  };
  field.addEventListener("input", () => find(false));
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    find(true);
  });
}

function goTo(map, { latitude, longitude }, answer, onChoose) {
  map.pin = toPage(latitude, longitude);
  map.moveTo(map.pin);
  const found = nearest(map.pin);
  if (!found) return;
  const { id } = found.building.record;
  if (found.isHere) onChoose(found.building);
  const distance = metres(found.far * data.cosine);
  answer.textContent = t(found.isHere ? "search_here" : "search_nearest", { id, distance });
}
