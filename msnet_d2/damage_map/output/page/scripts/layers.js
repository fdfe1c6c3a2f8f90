import { data, HALF_WORLD } from "./data.js";
import { drawSign, pattern } from "./levels.js";
import { number } from "./text.js";

const CHOSEN = "#1d5fd0";
const FLIGHT = "#1f4e8c";
// The most urgent lie on top and get their numbers first.
const byUrgency = [...data.buildings].sort((a, b) => a.record.urgency - b.record.urgency);

// Draw all layers of a map onto its canvas.
export function paint(map) {
  const context = map.canvas.getContext("2d");
  context.setTransform(map.ratio, 0, 0, map.ratio, 0, 0);
  context.fillStyle = "#e9edf2";
  context.fillRect(0, 0, map.width, map.height);
  if (map.layers.osm) drawTiles(map, context);
  else drawGrid(map, context);
  if (map.layers.mosaic) drawMosaics(map, context);
  if (Object.keys(data.grid).length > 1) drawAreas(map, context);
  const shown = byUrgency.filter((b) => b.center && isInView(map, b) && map.visible(b));
  if (map.layers.heat) drawHeat(map, context, shown);
  if (map.layers.track) drawFlightLines(map, context);
  if (map.layers.errors) for (const building of shown) drawError(map, context, building);
  for (const building of [...shown].reverse()) drawBuilding(map, context, building);
  drawNumbers(map, context, shown);
  if (map.chosen && shown.includes(map.chosen)) drawChosen(map, context, map.chosen);
  if (map.pin) drawPin(map, context);
  drawScale(map, context);
}

function isInView(map, { center, radius }) {
  const [x, y] = map.toPixel(center);
  // Outlines are of buildings: none is longer than 200 m.
  const around = Math.max(radius, 200) * map.view.scale + 20;
  return x > -around && y > -around && x < map.width + around && y < map.height + around;
}

function trace(map, context, rings) {
  context.beginPath();
  for (const ring of rings) {
    polyline(map, context, ring);
    context.closePath();
  }
}

function polyline(map, context, points) {
  points.forEach((point, i) => {
    const [x, y] = map.toPixel(point);
    if (i) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
}

function stroke(context, width, color, dash = []) {
  context.setLineDash(dash);
  context.lineWidth = width;
  context.strokeStyle = color;
  context.stroke();
  context.setLineDash([]);
}

function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}

function label(context, text, x, y) {
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(255,255,255,.92)";
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawMosaics(map, context) {
  context.globalAlpha = 0.88;
  for (const { image, box } of map.mosaics) {
    if (!image.complete || !image.naturalWidth) continue;
    const [west, south, east, north] = box;
    const [x, y] = map.toPixel([west, north]);
    const { scale } = map.view;
    context.drawImage(image, x, y, (east - west) * scale, (north - south) * scale);
  }
  context.globalAlpha = 1;
}

function drawError(map, context, { center, radius }) {
  const size = radius * map.view.scale;
  if (size < 9) return; // within the sign
  circle(context, ...map.toPixel(center), size);
  stroke(context, 2.5, "rgba(255,255,255,.65)");
  stroke(context, 1.2, "#333", [2, 4]);
}

function drawBuilding(map, context, building) {
  const level = building.record.level_number;
  const { scale } = map.view;
  if (building.rings && scale > 0.4) {
    trace(map, context, building.rings);
    if (level) {
      context.fillStyle = pattern(context, level);
      context.fill();
    }
    context.lineJoin = "round";
    stroke(context, 4.5, "rgba(0,0,0,.6)");
    stroke(context, 2.5, data.levels[level].color, level ? [] : [5, 4]);
    if (map.layers.parts && scale > 1.5) drawParts(map, context, building.parts);
  }
  const size = scale > 1 ? 18 : scale > 0.4 ? 14 : 11;
  drawSign(context, level, ...map.toPixel(building.center), size, map.ratio);
}

function drawParts(map, context, parts) {
  for (const { rings, record } of parts) {
    if (!rings) continue;
    trace(map, context, rings);
    context.fillStyle = `${data.levels[record.level_number].color}b0`;
    context.fill("evenodd");
    stroke(context, 1, "rgba(0,0,0,.7)");
  }
}

// Numbers where there is room, the most urgent first; in the report the limit is its paper.
function drawNumbers(map, context, shown) {
  if (map.view.scale < (map.numberScale ?? 0.8)) return;
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "top";
  context.fillStyle = "#111";
  const taken = new Set();
  for (const { center, record } of shown) {
    const [x, y] = map.toPixel(center);
    const cell = `${Math.round(x / 42)} ${Math.round(y / 16)}`;
    if (taken.has(cell)) continue;
    taken.add(cell);
    label(context, record.id + (record.checked ? " ✓" : ""), x, y + 10);
  }
}

function drawChosen(map, context, building) {
  const [x, y] = map.toPixel(building.center);
  if (building.rings) trace(map, context, building.rings);
  else circle(context, x, y, 13);
  stroke(context, 3, CHOSEN);
  circle(context, x, y, building.radius * map.view.scale);
  stroke(context, 2, CHOSEN, [6, 5]);
}

function drawPin(map, context) {
  const [x, y] = map.toPixel(map.pin);
  circle(context, x, y, 9);
  stroke(context, 5, "#fff");
  stroke(context, 2.5, CHOSEN);
  context.beginPath();
  for (const [dx, dy] of [
    [1, 0],
    [-1, 0],
    [0, 1],
    [0, -1],
  ]) {
    context.moveTo(x + 5 * dx, y + 5 * dy);
    context.lineTo(x + 17 * dx, y + 17 * dy);
  }
  stroke(context, 2.5, CHOSEN);
}

// The squares of the report and of the table's column.
function drawAreas(map, context) {
  context.font = "700 14px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "top";
  for (const [name, ring] of Object.entries(data.grid)) {
    trace(map, context, [ring]);
    stroke(context, 1.5, "#445", [2, 5]);
    const [x, y] = map.toPixel(ring[3]);
    if (map.toPixel(ring[2])[0] - x < 60) continue;
    context.fillStyle = "#445";
    label(context, name, x + 5, y + 5);
  }
}

function drawFlightLines(map, context) {
  for (const line of data.flight_lines) {
    context.beginPath();
    polyline(map, context, line);
    stroke(context, 5, "rgba(255,255,255,.8)");
    stroke(context, 2, FLIGHT);
    if (line.length > 1) drawArrow(map, context, line);
  }
}

// Which way it flew: an arrow at the end of a flight line.
function drawArrow(map, context, line) {
  const [x, y] = map.toPixel(line[line.length - 1]);
  let k = line.length - 2;
  let from = map.toPixel(line[k]);
  while (k > 0 && Math.hypot(x - from[0], y - from[1]) < 6) from = map.toPixel(line[--k]);
  const angle = Math.atan2(y - from[1], x - from[0]);
  context.beginPath();
  context.moveTo(x + 8 * Math.cos(angle), y + 8 * Math.sin(angle));
  for (const side of [2.5, -2.5]) {
    context.lineTo(x + 8 * Math.cos(angle + side), y + 8 * Math.sin(angle + side));
  }
  context.closePath();
  context.fillStyle = FLIGHT;
  context.fill();
}

function drawHeat(map, context, shown) {
  const radius = Math.max((40 / data.cosine) * map.view.scale, 14);
  for (const { center, record } of shown) {
    const [x, y] = map.toPixel(center);
    const weight = Math.min(0.85, (0.1 + 0.2 * record.level_number) * record.confidence);
    const glow = context.createRadialGradient(x, y, 0, x, y, radius);
    glow.addColorStop(0, `rgba(150,20,60,${weight})`);
    glow.addColorStop(0.5, `rgba(232,96,28,${weight * 0.5})`);
    glow.addColorStop(1, "rgba(255,204,51,0)");
    context.fillStyle = glow;
    context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
}

// A length in metres on the ground that is round and about `pixels` long.
function roundLength(map, pixels) {
  const length = (pixels / map.view.scale) * data.cosine;
  const power = 10 ** Math.floor(Math.log10(length));
  return [5, 2, 1].find((m) => m * power <= length) * power;
}

function drawGrid(map, context) {
  const step = roundLength(map, 110) / data.cosine;
  const [west, north] = map.toGround(0, 0);
  const [east, south] = map.toGround(map.width, map.height);
  context.beginPath();
  for (let x = Math.ceil(west / step) * step; x < east; x += step) {
    const [px] = map.toPixel([x, 0]);
    context.moveTo(px, 0);
    context.lineTo(px, map.height);
  }
  for (let y = Math.ceil(south / step) * step; y < north; y += step) {
    const [, py] = map.toPixel([0, y]);
    context.moveTo(0, py);
    context.lineTo(map.width, py);
  }
  stroke(context, 1, "#cfd6df");
}

function drawScale(map, context) {
  const length = roundLength(map, 120);
  const pixels = (length / data.cosine) * map.view.scale;
  const y = map.height - 16;
  context.fillStyle = "rgba(255,255,255,.9)";
  context.fillRect(8, y - 20, pixels + 54, 30);
  context.beginPath();
  context.moveTo(14, y - 5);
  context.lineTo(14, y);
  context.lineTo(14 + pixels, y);
  context.lineTo(14 + pixels, y - 5);
  stroke(context, 2, "#222");
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = "#222";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  const text =
    length >= 1000 ? `${number(length / 1000)} km` : `${number(length, length < 1 ? 1 : 0)} m`;
  context.fillText(text, 18, y - 6);
  context.fillText("N ↑", pixels + 26, y - 4);
}

function drawTiles(map, context) {
  const { level, size, count } = map.tileGrid();
  const [originX, originY] = data.origin;
  const [west, north] = map.toGround(0, 0);
  const [east, south] = map.toGround(map.width, map.height);
  const column = (x) => Math.floor((x + originX + HALF_WORLD) / size);
  const row = (y) => Math.floor((HALF_WORLD - y - originY) / size);
  const side = size * map.view.scale + 0.5;
  for (let i = column(west); i <= column(east); i++) {
    for (let j = Math.max(0, row(north)); j <= Math.min(count - 1, row(south)); j++) {
      const image = map.tile(level, i, j);
      if (!image) continue;
      const corner = [i * size - HALF_WORLD - originX, HALF_WORLD - j * size - originY];
      context.drawImage(image, ...map.toPixel(corner), side, side);
    }
  }
}
