import { data, HALF_WORLD } from "./data.js";
import { paint } from "./layers.js";

// A map on a canvas: pan, zoom, layers. Coordinates are metres of web maps (EPSG:3857) from
// data.origin, x east and y north, so that map tiles fit without any projection here.
export class GroundMap {
  constructor(canvas, { visible, onChoose, onTileError }) {
    this.canvas = canvas;
    this.visible = visible;
    this.onChoose = onChoose;
    this.onTileError = onTileError;
    this.layers = {
      parts: true,
      errors: true,
      heat: false,
      track: true,
      mosaic: true,
      osm: false,
    };
    this.chosen = null;
    this.pin = null;
    this.tiles = new Map();
    this.pointers = new Map();
    this.mosaics = data.mosaics.map(({ src, box }) => {
      const image = new Image();
      image.onload = () => this.draw();
      image.src = src;
      return { image, box };
    });
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    this.ratio = window.devicePixelRatio || 1;
    this.width = box.width;
    this.height = box.height;
    this.canvas.width = Math.round(box.width * this.ratio);
    this.canvas.height = Math.round(box.height * this.ratio);
    if (this.view) this.draw();
    else this.start();
  }

  // Flights of one place are shown together; of places far apart only the first, the others are
  // chosen by name.
  start() {
    const [west, south, east, north] = this.bounds(data.buildings);
    if (Math.max(east - west, north - south) * data.cosine > 5000) {
      this.showVideo(
        Math.max(
          0,
          data.flight_lines.findIndex((line) => line.length),
        ),
      );
    } else this.fit();
  }

  showVideo(number) {
    const { name } = data.videos[number];
    const here = data.buildings.filter((b) => b.center && b.record.first_video === name);
    this.fit(here.length ? here : [{ rings: [data.flight_lines[number]] }]);
  }

  bounds(buildings) {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    const add = ([x, y], around = 0) => {
      box[0] = Math.min(box[0], x - around);
      box[1] = Math.min(box[1], y - around);
      box[2] = Math.max(box[2], x + around);
      box[3] = Math.max(box[3], y + around);
    };
    for (const building of buildings) {
      if (building.center) add(building.center, 30);
      for (const ring of building.rings || []) ring.forEach((point) => add(point));
    }
    if (!isFinite(box[0])) {
      for (const line of data.flight_lines) line.forEach((point) => add(point, 30));
    }
    return isFinite(box[0]) ? box : [-50, -50, 50, 50];
  }

  fit(buildings = data.buildings) {
    const [west, south, east, north] = this.bounds(buildings);
    const scale = 0.86 * Math.min(this.width / (east - west), this.height / (north - south));
    this.view = { x: (west + east) / 2, y: (south + north) / 2, scale: limited(scale) };
    this.draw();
  }

  toPixel([x, y]) {
    return [
      (x - this.view.x) * this.view.scale + this.width / 2,
      (this.view.y - y) * this.view.scale + this.height / 2,
    ];
  }

  toGround(x, y) {
    return [
      (x - this.width / 2) / this.view.scale + this.view.x,
      this.view.y - (y - this.height / 2) / this.view.scale,
    ];
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.toGround(x, y);
    this.view.scale = limited(this.view.scale * factor);
    const after = this.toGround(x, y);
    this.view.x += before[0] - after[0];
    this.view.y += before[1] - after[1];
    this.draw();
  }

  moveTo([x, y]) {
    this.view = { x, y, scale: Math.max(this.view.scale, 4) };
    this.draw();
  }

  choose(building, center) {
    this.chosen = building;
    if (center && building && building.center) this.moveTo(building.center);
    else this.draw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.place(event));
      if (this.pointers.size === 1) this.moved = 0;
      canvas.style.cursor = "grabbing";
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.release(event));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const step = event.deltaMode ? 0.05 : 0.0015;
        this.zoom(Math.exp(-event.deltaY * step), ...this.place(event));
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", (event) => this.zoom(2, ...this.place(event)));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  drag(event) {
    const now = this.place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.canvas.style.cursor = this.hit(...now) ? "pointer" : "grab";
      return;
    }
    this.pointers.set(event.pointerId, now);
    if (this.pointers.size === 2) {
      this.moved = Infinity;
      const [, other] = [...this.pointers].find(([id]) => id !== event.pointerId);
      const gap = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      if (gap(before) > 1) this.zoom(gap(now) / gap(before), ...middle);
      return;
    }
    this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (this.moved < 4) return;
    this.view.x -= (now[0] - before[0]) / this.view.scale;
    this.view.y += (now[1] - before[1]) / this.view.scale;
    this.draw();
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.canvas.style.cursor = "grab";
    if (event.type === "pointerup" && this.moved < 4) this.onChoose(this.hit(...this.place(event)));
  }

  key(event) {
    const step = 60 / this.view.scale;
    const moves = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    };
    const move = moves[event.key];
    if (move) {
      this.view.x += move[0];
      this.view.y += move[1];
      this.draw();
      event.preventDefault();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
  }

  // The building under a pixel: its outline, or near its center; of several the nearest.
  hit(x, y) {
    const ground = this.toGround(x, y);
    let best = null;
    let least = Infinity;
    for (const building of data.buildings) {
      if (!building.center || !this.visible(building)) continue;
      const { center } = building;
      const far = Math.hypot(center[0] - ground[0], center[1] - ground[1]);
      const inside = (building.rings || []).some((ring) => isInside(ring, ground));
      if ((inside || far * this.view.scale < 12) && far < least) {
        best = building;
        least = far;
      }
    }
    return best;
  }

  // At most once a frame, however many ask.
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    if (!this.width || !this.view) return;
    paint(this);
    if (!this.isDrawn) performance.mark("first draw");
    this.isDrawn = true;
  }

  tile(level, i, j) {
    const count = 2 ** level;
    const key = `${level}/${((i % count) + count) % count}/${j}`;
    if (!this.tiles.has(key)) {
      const image = new Image();
      image.onload = () => this.draw();
      image.onerror = () => {
        this.tiles.delete(key);
        this.onTileError();
      };
      image.src = `https://tile.openstreetmap.org/${key}.png`;
      this.tiles.set(key, image);
    }
    const image = this.tiles.get(key);
    return image.complete && image.naturalWidth ? image : null;
  }

  tileGrid() {
    const world = 2 * HALF_WORLD;
    const wanted = Math.round(Math.log2((this.view.scale * world) / 256));
    const level = Math.max(0, Math.min(19, wanted));
    return { level, size: world / 2 ** level, count: 2 ** level };
  }
}

const limited = (scale) => Math.min(Math.max(scale, 1e-4), 60);

export function isInside(ring, [x, y]) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [xi, yi] = ring[i];
    const [xj, yj] = ring[j];
    const crosses = yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi;
    if (crosses) inside = !inside;
  }
  return inside;
}
