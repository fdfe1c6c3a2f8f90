import { data } from "./data.js";
import { element, svg } from "./dom.js";
import { levelName } from "./text.js";

// Each level has a shape and a mark of its own, in a box of 24 by 24: color is never alone.
const CIRCLE = "M12 2a10 10 0 1 0 0 20 10 10 0 1 0 0-20z";
const SIGNS = [
  { shape: CIRCLE, mark: "M9 9.4a3 3 0 1 1 4.3 2.7c-.9.5-1.3 1-1.3 2M12 17v.9" },
  { shape: CIRCLE, mark: "M7 12h10" },
  { shape: "M12 1.5 23.5 22H.5z", mark: "M12 8.5v6.5M12 18v.9" },
  { shape: "M12 .5 23.5 12 12 23.5.5 12z", mark: "M8 8l8 8M16 8l-8 8" },
];
const PATHS = SIGNS.map(({ shape, mark }) => [new Path2D(shape), new Path2D(mark)]);
const markColor = (number) => (number === 3 ? "#fff" : "#111");

export function icon(number) {
  const node = svg("svg", { viewBox: "-1 -1 26 26", class: "sign", "aria-hidden": "true" });
  const { shape, mark } = SIGNS[number];
  const color = data.levels[number].color;
  node.append(svg("path", { d: shape, fill: color, stroke: "#222", "stroke-width": 1.5 }));
  node.append(
    svg("path", { d: mark, fill: "none", stroke: markColor(number), "stroke-width": 2.6 }),
  );
  return node;
}

export const badge = (number) =>
  element("span", { class: "badge" }, icon(number), ` ${levelName(number)}`);

// On a canvas, centered at a pixel. Signs are drawn once and copied: there may be thousands.
const sprites = new Map();
export function drawSign(context, number, x, y, size, ratio) {
  const key = `${number} ${size} ${ratio}`;
  if (!sprites.has(key)) sprites.set(key, sprite(number, size * ratio));
  const side = size * 1.3;
  context.drawImage(sprites.get(key), x - side / 2, y - side / 2, side, side);
}

function sprite(number, size) {
  const side = Math.ceil(size * 1.3);
  const canvas = element("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  context.translate(side / 2, side / 2);
  context.scale(size / 24, size / 24);
  context.translate(-12, -12);
  const [shape, mark] = PATHS[number];
  const outline = (path, width, color) => {
    context.lineWidth = width;
    context.strokeStyle = color;
    context.stroke(path);
  };
  // A light rim, as damage below may be as dark.
  outline(shape, 5, "rgba(255,255,255,.9)");
  context.fillStyle = data.levels[number].color;
  context.fill(shape);
  outline(shape, 2, "#222");
  outline(mark, 2.8, markColor(number));
  return canvas;
}

// Fills that stay apart in gray print: dots, lines, crossed lines.
const tiles = new Map();
export function pattern(context, number) {
  if (!tiles.has(number)) tiles.set(number, patternTile(number));
  return context.createPattern(tiles.get(number), "repeat");
}

function patternTile(number) {
  const canvas = element("canvas", { width: 10, height: 10 });
  const context = canvas.getContext("2d");
  context.fillStyle = `${data.levels[number].color}70`;
  context.fillRect(0, 0, 10, 10);
  context.strokeStyle = context.fillStyle = number === 3 ? "#2b0026" : "#3a2a00";
  context.lineWidth = 1.3;
  context.beginPath();
  if (number === 1) context.arc(5, 5, 1.3, 0, 2 * Math.PI);
  if (number >= 2) lines(context, [-5, 0, 5, 10, 0, 10]);
  if (number === 3) lines(context, [15, 0, 5, 10, 10, 0]);
  if (number === 1) context.fill();
  else context.stroke();
  return canvas;
}

// A diagonal through the tile and its neighbors, so that tiles join.
function lines(context, [from, , to]) {
  const step = to > from ? 10 : -10;
  for (const shift of [-10, 0, 10]) {
    const start = (step > 0 ? 0 : 10) + shift;
    context.moveTo(start, 0);
    context.lineTo(start + step, 10);
  }
}
