import { data, hasMap, state } from "./data.js";
import { byId, element } from "./dom.js";
import { icon } from "./levels.js";
import { coordinates, levelName, metres, number, plural, t } from "./text.js";

// Doubtful ones are not called damaged: the sentence on top is what gets passed on.
function headline() {
  if (!data.buildings.length) return t("nothing_found");
  const unassessed = data.buildings.filter((b) => !b.record.level_number).length;
  const found = plural("found", data.buildings.length - unassessed);
  return unassessed ? `${found} ${plural("unassessed", unassessed)}` : found;
}

function flightTimes() {
  const starts = data.videos
    .map((video) => video.start)
    .filter(Boolean)
    .sort();
  if (!starts.length) return t("no_date");
  const [first, last] = [starts[0], starts[starts.length - 1]].map((start) => {
    const [date, time] = start.split("T");
    const zone = /([+-]\d\d:\d\d)$/.exec(time);
    return { date, time: time.slice(0, 5), zone: zone && `UTC${zone[1]}` };
  });
  const zone = first.zone || t("clock_of_log");
  if (first.date !== last.date) return `${first.date} – ${last.date} (${zone})`;
  const times = first.time === last.time ? first.time : `${first.time} – ${last.time}`;
  return `${first.date}, ${times} (${zone})`;
}

function mapPlace() {
  if (!data.place) return t("no_place");
  const center = coordinates(data.place, 5);
  if (Math.max(...data.place.size_m) < 1) return center;
  const [width, height] = data.place.size_m.map(metres);
  return t("place_of", { center, width, height });
}

function videos() {
  const names = data.videos.map((video) => video.name);
  const logs = [...new Set(data.videos.map((video) => video.flight_log).filter(Boolean))];
  const text = names.length > 4 ? plural("videos", names.length) : names.join(", ");
  return logs.length && logs.length < 5 ? `${text} (${t("log")}: ${logs.join(", ")})` : text;
}

function model() {
  const digests = [...new Set(data.videos.map((v) => v.weights_sha256).filter(Boolean))];
  const names = digests.length ? digests.map((d) => d.slice(0, 12)).join(", ") : t("unknown");
  return t("model_of", { weights: names });
}

// What it is of, when, where and by what: the same on the screen and on paper.
export function mapFacts() {
  const rows = [
    ["result", headline()],
    ["date", flightTimes()],
    ["place", mapPlace()],
    ["flight", videos()],
    ["model", model()],
  ];
  return element(
    "dl",
    { class: "facts" },
    ...rows.flatMap(([key, text]) => [
      element("dt", { text: t(key) }),
      element("dd", { text, "data-fact": key }),
    ]),
  );
}

export function caveat() {
  return element("p", { class: "caveat", text: t("caveat") });
}

export function banners() {
  const nodes = [];
  if (data.doubts.length) {
    nodes.push(
      element(
        "div",
        { class: "banner", role: "alert" },
        element("strong", { text: t("doubtful") }),
        element("ul", {}, ...data.doubts.map((text) => element("li", { text }))),
      ),
    );
  }
  for (const text of data.problems) {
    nodes.push(element("p", { class: "problem", text: t("problem", { text }) }));
  }
  if (!hasMap) nodes.push(element("p", { text: t("no_log") }));
  return nodes;
}

function notes() {
  const lines = data.videos.flatMap((v) => v.notes.map((note) => `${v.name}: ${note}`));
  if (!lines.length) return null;
  return element(
    "details",
    {},
    element("summary", { text: plural("notes", lines.length) }),
    element("ul", {}, ...lines.map((text) => element("li", { text }))),
  );
}

export function levelFilters(onChange) {
  const counts = data.levels.map(() => 0);
  for (const { record } of data.buildings) counts[record.level_number]++;
  return [...data.levels].reverse().map(({ number: level }) => {
    const box = element("input", { type: "checkbox", "data-level": level });
    box.checked = state.levels.has(level);
    box.addEventListener("change", () => {
      if (box.checked) state.levels.add(level);
      else state.levels.delete(level);
      onChange();
    });
    const text = ` ${levelName(level)} (${number(counts[level])})`;
    return element("label", { title: t(`meaning_${level}`) }, box, icon(level), text);
  });
}

function scale() {
  const titles = ["column_level_number", "meaning", "fema", "ems98"];
  const rows = [...data.levels].reverse().map((level) => {
    const name = levelName(level.number);
    const both = level.number && name !== level.name ? `${name} (${level.name})` : name;
    const fema = level.number ? t(`fema_${level.number}`) : "–";
    const texts = [t(`meaning_${level.number}`), fema, level.ems98 || "–"];
    const cells = texts.map((text) => element("td", { text }));
    return element("tr", {}, element("td", {}, icon(level.number), ` ${both}`), ...cells);
  });
  const head = titles.map((key) => element("th", { text: t(key), scope: "col" }));
  return [element("tr", {}, ...head), ...rows];
}

export function footer() {
  const digests = [...new Set(data.videos.map((v) => v.weights_sha256).filter(Boolean))];
  const weights = digests.length ? ` ${t("weights", { digests: digests.join(", ") })}` : "";
  return t("made_by", { version: data.version }) + weights;
}

export function showHead(onChange) {
  byId("facts").replaceChildren(mapFacts(), caveat());
  byId("warnings").replaceChildren(...banners(), notes() || "");
  byId("levels").replaceChildren(
    element("legend", { text: t("damage_level") }),
    ...levelFilters(onChange),
  );
  byId("scale").replaceChildren(element("tbody", {}, ...scale()));
  byId("footer").textContent = footer();
}
