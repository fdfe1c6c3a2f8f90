import { data, shown, state } from "./data.js";
import { byId, element, svg } from "./dom.js";
import { clock, levelName, percent, t } from "./text.js";

const SOFT = "#5b6675";

// Confidence of a building in each of its observations.
export function historyChart(history) {
  const [width, height, left, bottom] = [360, 120, 30, 16];
  const count = history.score.length;
  const x = (i) => left + (width - left - 8) * (count > 1 ? i / (count - 1) : 0.5);
  const y = (score) => 6 + (height - bottom - 6) * (1 - score);
  const node = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": t("history"),
  });
  for (const score of [0, 0.5, 1]) {
    const at = { x1: left, x2: width - 8, y1: y(score), y2: y(score), stroke: "#d8dde4" };
    node.append(svg("line", at));
    const place = { x: left - 4, y: y(score) + 3, "text-anchor": "end" };
    node.append(svg("text", place, percent(score)));
  }
  for (let i = 0; i < count; i++) node.append(...observation(history, i, x(i), y));
  node.append(svg("text", { x: left, y: height - 3 }, moment(history, 0)));
  if (count > 1) {
    const end = { x: width - 8, y: height - 3, "text-anchor": "end" };
    node.append(svg("text", end, moment(history, count - 1)));
  }
  return node;
}

function moment(history, i) {
  const video = data.videos.length > 1 ? `${data.videos[history.video[i]].name} ` : "";
  return video + clock(history.time_s[i]);
}

function observation(history, i, x, y) {
  const [score, raw] = [history.score[i], history.score_raw[i]];
  const nodes = [];
  if (raw !== null && Math.abs(raw - score) > 0.005) {
    const gray = { stroke: "#8a8f98", fill: "none" };
    nodes.push(svg("line", { x1: x, x2: x, y1: y(raw), y2: y(score), ...gray }));
    nodes.push(svg("circle", { cx: x, cy: y(raw), r: 2, ...gray }));
  }
  const fill = data.levels[history.level[i]].color;
  const r = history.score.length > 60 ? 2 : 3.5;
  const mark = svg("circle", { cx: x, cy: y(score), r, fill, stroke: "#333", "stroke-width": 0.6 });
  const text = `${moment(history, i)}: ${levelName(history.level[i])}, ${percent(score)}`;
  mark.append(svg("title", {}, text));
  nodes.push(mark);
  return nodes;
}

// Without places: when each building was in view.
export function showTimeline(onChoose) {
  const parts = [element("h2", { text: t("timeline") })];
  data.videos.forEach((video, index) => {
    const buildings = shown().filter((building) => building.history.video[0] === index);
    parts.push(element("h3", { text: video.name }));
    if (buildings.length) parts.push(timeline(video, buildings, onChoose));
    else parts.push(element("p", { text: t("nothing_to_show") }));
  });
  byId("timeline").replaceChildren(...parts);
}

function timeline(video, buildings, onChoose) {
  const [width, left, row] = [640, 60, 18];
  const height = 26 + row * buildings.length;
  const x = (time) => left + ((width - left - 12) * time) / Math.max(video.duration_s, 0.1);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart" });
  buildings.forEach((building, i) => {
    const { record } = building;
    const y = 6 + row * i;
    const group = svg("g", { "data-id": record.id });
    if (building === state.chosen) {
      group.append(svg("rect", { x: 0, y: y - 3, width, height: row, fill: "#dfeaff" }));
    }
    const start = x(record.first_time_s);
    const bar = {
      x: start,
      y,
      width: Math.max(4, x(record.last_time_s) - start),
      height: 12,
      rx: 3,
    };
    const fill = data.levels[record.level_number].color;
    group.append(svg("text", { x: 4, y: y + 10 }, record.id));
    group.append(svg("rect", { ...bar, fill, stroke: "#444" }));
    const level = { x: start + 6, y: y + 10, class: "name" };
    group.append(svg("text", level, levelName(record.level_number)));
    group.addEventListener("click", () => onChoose(building));
    node.append(group);
  });
  const line = { x1: left, x2: width - 12, y1: height - 18, y2: height - 18, stroke: SOFT };
  const end = { x: width - 12, y: height - 5, "text-anchor": "end" };
  node.append(svg("line", line));
  node.append(svg("text", { x: left, y: height - 5 }, "0:00"));
  node.append(svg("text", end, clock(video.duration_s)));
  return node;
}
