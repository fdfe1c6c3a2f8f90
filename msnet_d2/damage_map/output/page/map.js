"use strict";
// A map on a canvas: pan, zoom, layers. Coordinates are metres of web maps (EPSG:3857) from data.origin,
// x east and y north, so that map tiles fit without any projection here.
class GroundMap {
  constructor(canvas, data, onChoose) {
    this.canvas = canvas; this.data = data; this.onChoose = onChoose;
    this.layers = { parts: true, heat: false, track: true, mosaic: true, osm: false };
    this.visible = () => true; this.chosen = null; this.tiles = new Map();
    this.ground = data.mosaics.map(m => { const image = new Image(); image.onload = () => this.draw(); image.src = m.src; return [image, m.box]; });
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    this.ratio = window.devicePixelRatio || 1;
    this.width = box.width; this.height = box.height;
    this.canvas.width = Math.round(box.width * this.ratio); this.canvas.height = Math.round(box.height * this.ratio);
    if (!this.view) this.start(); else this.draw();
  }

  // Flights of one place are shown together; of places far apart only the first, the others are chosen by name.
  start() {
    const [x0, y0, x1, y1] = this.bounds(this.data.buildings);
    if (Math.max(x1 - x0, y1 - y0) * this.data.cosine > 5000) this.showVideo(Math.max(0, this.data.tracks.findIndex(t => t.length))); else this.fit();
  }

  showVideo(number) {
    const name = this.data.videos[number].name, here = this.data.buildings.filter(f => f.c && f.p.first_video === name);
    this.fit(here.length ? here : [{ g: [this.data.tracks[number]] }]);
  }

  bounds(buildings) {
    const b = [Infinity, Infinity, -Infinity, -Infinity];
    const add = ([x, y], r = 0) => { b[0] = Math.min(b[0], x - r); b[1] = Math.min(b[1], y - r); b[2] = Math.max(b[2], x + r); b[3] = Math.max(b[3], y + r); };
    for (const f of buildings) { if (f.c) add(f.c, 15); for (const ring of f.g || []) ring.forEach(p => add(p)); }
    if (!isFinite(b[0])) for (const line of this.data.tracks) line.forEach(p => add(p, 30));
    return isFinite(b[0]) ? b : [-50, -50, 50, 50];
  }

  fit(buildings = this.data.buildings) {
    const [x0, y0, x1, y1] = this.bounds(buildings);
    const scale = 0.88 * Math.min(this.width / (x1 - x0), this.height / (y1 - y0));
    this.view = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: this.limit(scale) };
    this.draw();
  }

  limit(scale) { return Math.min(Math.max(scale, 1e-4), 60); }
  px([x, y]) { return [(x - this.view.x) * this.view.scale + this.width / 2, (this.view.y - y) * this.view.scale + this.height / 2]; }
  at(px, py) { return [(px - this.width / 2) / this.view.scale + this.view.x, this.view.y - (py - this.height / 2) / this.view.scale]; }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const before = this.at(px, py);
    this.view.scale = this.limit(this.view.scale * factor);
    const after = this.at(px, py);
    this.view.x += before[0] - after[0]; this.view.y += before[1] - after[1];
    this.draw();
  }

  choose(id, center) {
    this.chosen = id;
    const f = this.data.buildings.find(b => b.p.id === id);
    if (center && f && f.c) { this.view.x = f.c[0]; this.view.y = f.c[1]; this.view.scale = Math.max(this.view.scale, 4); }
    this.draw();
  }

  listen() {
    const c = this.canvas, place = e => { const b = c.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    c.addEventListener("pointerdown", e => { c.setPointerCapture(e.pointerId); this.pointers.set(e.pointerId, place(e)); if (this.pointers.size === 1) this.moved = 0; c.style.cursor = "grabbing"; });
    c.addEventListener("pointermove", e => {
      if (!this.pointers.has(e.pointerId)) { c.style.cursor = this.hit(...place(e)) ? "pointer" : "grab"; return; }
      const old = this.pointers.get(e.pointerId), now = place(e);
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== e.pointerId)[1];
        const gap = p => Math.hypot(p[0] - other[0], p[1] - other[1]);
        this.moved = 99; this.pointers.set(e.pointerId, now);
        if (gap(old) > 1) this.zoom(gap(now) / gap(old), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        return;
      }
      this.moved += Math.hypot(now[0] - old[0], now[1] - old[1]);
      this.pointers.set(e.pointerId, now);
      if (this.moved < 4) return;
      this.view.x -= (now[0] - old[0]) / this.view.scale; this.view.y += (now[1] - old[1]) / this.view.scale;
      this.draw();
    });
    const up = e => {
      if (!this.pointers.delete(e.pointerId)) return;
      c.style.cursor = "grab";
      if (e.type === "pointerup" && this.moved < 4) { const f = this.hit(...place(e)); this.onChoose(f ? f.p.id : null); }
    };
    c.addEventListener("pointerup", up); c.addEventListener("pointercancel", up);
    c.addEventListener("wheel", e => { e.preventDefault(); this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), ...place(e)); }, { passive: false });
    c.addEventListener("dblclick", e => this.zoom(2, ...place(e)));
    c.addEventListener("keydown", e => {
      const step = 60 / this.view.scale, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[e.key]) { this.view.x += moves[e.key][0]; this.view.y += moves[e.key][1]; this.draw(); e.preventDefault(); }
      else if (e.key === "+" || e.key === "=") this.zoom(1.5); else if (e.key === "-") this.zoom(1 / 1.5);
    });
  }

  // The building under a pixel: its outline, or near its centre; of several the nearest.
  hit(px, py) {
    const [x, y] = this.at(px, py);
    let best = null, least = Infinity;
    for (const f of this.data.buildings) {
      if (!f.c || !this.visible(f)) continue;
      const far = Math.hypot(f.c[0] - x, f.c[1] - y);
      const inside = (f.g || []).some(ring => inRing(ring, x, y));
      if ((inside || far * this.view.scale < 12) && far < least) { best = f; least = far; }
    }
    return best;
  }

  draw() {
    if (!this.width || !this.view) return;
    const g = this.canvas.getContext("2d");
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.fillStyle = "#e9edf2"; g.fillRect(0, 0, this.width, this.height);
    if (this.layers.osm) this.drawTiles(g); else this.drawGrid(g);
    if (this.layers.mosaic) for (const [image, [west, south, east, north]] of this.ground) if (image.complete && image.naturalWidth) {
      const [x, y] = this.px([west, north]);
      g.globalAlpha = 0.88; g.drawImage(image, x, y, (east - west) * this.view.scale, (north - south) * this.view.scale); g.globalAlpha = 1;
    }
    if (Object.keys(this.data.grid).length > 1) this.drawAreas(g);
    if (this.layers.heat) this.drawHeat(g);
    if (this.layers.track) this.drawTracks(g);
    const shown = this.data.buildings.filter(f => f.c && this.visible(f));
    for (const f of shown) this.drawBuilding(g, f);
    const chosen = shown.find(f => f.p.id === this.chosen);
    if (chosen) this.drawChosen(g, chosen);
    this.drawScale(g);
  }

  path(g, rings) {
    g.beginPath();
    for (const ring of rings) { ring.forEach((p, i) => { const [x, y] = this.px(p); if (i) g.lineTo(x, y); else g.moveTo(x, y); }); g.closePath(); }
  }

  drawBuilding(g, f) {
    const color = this.data.levels[f.p.level_number].color, [x, y] = this.px(f.c);
    if (f.g) {
      this.path(g, f.g);
      g.fillStyle = color + "30"; g.fill();
      g.lineJoin = "round"; g.lineWidth = 4.5; g.strokeStyle = "rgba(0,0,0,.55)"; g.stroke();
      g.setLineDash(f.p.level_number ? [] : [5, 4]); g.lineWidth = 2.5; g.strokeStyle = color; g.stroke(); g.setLineDash([]);
      if (this.layers.parts && this.view.scale > 1.5) for (const part of f.parts) if (part.g) {
        this.path(g, part.g);
        g.fillStyle = this.data.levels[part.p.level_number].color + "cc"; g.fill("evenodd");
        g.lineWidth = 1; g.strokeStyle = "rgba(0,0,0,.7)"; g.stroke();
      }
    }
    if (!f.g || this.view.scale < 1.5) {
      g.beginPath(); g.arc(x, y, 6, 0, 2 * Math.PI); g.fillStyle = color; g.fill(); g.lineWidth = 1.5; g.strokeStyle = "#222"; g.stroke();
    }
    if (this.view.scale > 2.2) {
      g.font = "600 12px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
      g.lineWidth = 3.5; g.strokeStyle = "rgba(255,255,255,.9)"; g.strokeText(f.p.id, x, y); g.fillStyle = "#111"; g.fillText(f.p.id, x, y);
    }
  }

  drawChosen(g, f) {
    const [x, y] = this.px(f.c);
    if (f.g) { this.path(g, f.g); g.lineWidth = 3; g.strokeStyle = "#1d5fd0"; g.stroke(); }
    else { g.beginPath(); g.arc(x, y, 10, 0, 2 * Math.PI); g.lineWidth = 3; g.strokeStyle = "#1d5fd0"; g.stroke(); }
    g.beginPath(); g.arc(x, y, f.e * this.view.scale, 0, 2 * Math.PI);
    g.setLineDash([6, 5]); g.lineWidth = 2; g.strokeStyle = "#1d5fd0"; g.stroke(); g.setLineDash([]);
  }

  // The squares of the report and of the table's column.
  drawAreas(g) {
    for (const [name, ring] of Object.entries(this.data.grid)) {
      this.path(g, [ring]);
      g.setLineDash([2, 5]); g.lineWidth = 1.5; g.strokeStyle = "#445"; g.stroke(); g.setLineDash([]);
      const [x, y] = this.px(ring[3]), side = this.px(ring[2])[0] - x;
      if (side < 60) continue;
      g.font = "700 14px system-ui, sans-serif"; g.textAlign = "left"; g.textBaseline = "top";
      g.lineWidth = 4; g.strokeStyle = "rgba(255,255,255,.9)"; g.strokeText(name, x + 5, y + 5); g.fillStyle = "#445"; g.fillText(name, x + 5, y + 5);
    }
  }

  drawTracks(g) {
    for (const line of this.data.tracks) {
      g.beginPath(); line.forEach((p, i) => { const [x, y] = this.px(p); if (i) g.lineTo(x, y); else g.moveTo(x, y); });
      g.lineWidth = 5; g.strokeStyle = "rgba(255,255,255,.8)"; g.stroke();
      g.lineWidth = 2; g.strokeStyle = "#5a35b5"; g.stroke();
      if (line.length > 1) { // an arrow at its end: which way it flew
        const [x, y] = this.px(line[line.length - 1]); let k = line.length - 2, from = this.px(line[k]);
        while (k > 0 && Math.hypot(x - from[0], y - from[1]) < 6) from = this.px(line[--k]);
        const a = Math.atan2(y - from[1], x - from[0]);
        g.beginPath(); g.moveTo(x + 8 * Math.cos(a), y + 8 * Math.sin(a));
        for (const side of [2.5, -2.5]) g.lineTo(x + 8 * Math.cos(a + side), y + 8 * Math.sin(a + side));
        g.closePath(); g.fillStyle = "#5a35b5"; g.fill();
      }
    }
  }

  drawHeat(g) {
    const radius = Math.max(40 / this.data.cosine * this.view.scale, 14);
    for (const f of this.data.buildings) {
      if (!f.c || !this.visible(f)) continue;
      const [x, y] = this.px(f.c), weight = Math.min(0.85, (0.1 + 0.2 * f.p.level_number) * f.p.confidence);
      const glow = g.createRadialGradient(x, y, 0, x, y, radius);
      glow.addColorStop(0, `rgba(214,32,39,${weight})`); glow.addColorStop(0.5, `rgba(240,110,20,${weight * 0.5})`); glow.addColorStop(1, "rgba(255,190,0,0)");
      g.fillStyle = glow; g.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    }
  }

  // A length in metres on the ground that is round and about `pixels` long.
  round(pixels) {
    const metres = pixels / this.view.scale * this.data.cosine, power = 10 ** Math.floor(Math.log10(metres));
    return [5, 2, 1].find(m => m * power <= metres) * power;
  }

  drawGrid(g) {
    const metres = this.round(110), step = metres / this.data.cosine, [x0, y1] = this.at(0, 0), [x1, y0] = this.at(this.width, this.height);
    g.beginPath();
    for (let x = Math.ceil(x0 / step) * step; x < x1; x += step) { const [px] = this.px([x, 0]); g.moveTo(px, 0); g.lineTo(px, this.height); }
    for (let y = Math.ceil(y0 / step) * step; y < y1; y += step) { const [, py] = this.px([0, y]); g.moveTo(0, py); g.lineTo(this.width, py); }
    g.lineWidth = 1; g.strokeStyle = "#cfd6df"; g.stroke();
  }

  drawScale(g) {
    const metres = this.round(120), length = metres / this.data.cosine * this.view.scale, y = this.height - 16;
    g.fillStyle = "rgba(255,255,255,.88)"; g.fillRect(8, y - 20, length + 54, 30);
    g.beginPath(); g.moveTo(14, y - 5); g.lineTo(14, y); g.lineTo(14 + length, y); g.lineTo(14 + length, y - 5); g.lineWidth = 2; g.strokeStyle = "#222"; g.stroke();
    g.font = "12px system-ui, sans-serif"; g.fillStyle = "#222"; g.textAlign = "left"; g.textBaseline = "alphabetic";
    g.fillText(metres >= 1000 ? metres / 1000 + " km" : metres + " m", 18, y - 6);
    g.fillText("N ↑", length + 26, y - 4);
  }

  drawTiles(g) {
    const half = Math.PI * 6378137, [ox, oy] = this.data.origin;
    const level = Math.max(0, Math.min(19, Math.round(Math.log2(this.view.scale * 2 * half / 256))));
    const size = 2 * half / 2 ** level, [x0, y1] = this.at(0, 0), [x1, y0] = this.at(this.width, this.height);
    for (let i = Math.floor((x0 + ox + half) / size); i <= (x1 + ox + half) / size; i++)
      for (let j = Math.floor((half - y1 - oy) / size); j <= (half - y0 - oy) / size; j++) {
        if (i < 0 || j < 0 || i >= 2 ** level || j >= 2 ** level) continue;
        const key = `${level}/${i}/${j}`;
        if (!this.tiles.has(key)) { const image = new Image(); image.onload = () => this.draw(); image.src = `https://tile.openstreetmap.org/${key}.png`; this.tiles.set(key, image); }
        const tile = this.tiles.get(key);
        if (tile.complete && tile.naturalWidth) { const [x, y] = this.px([i * size - half - ox, half - j * size - oy]); g.drawImage(tile, x, y, size * this.view.scale + 0.5, size * this.view.scale + 0.5); }
      }
  }
}

function inRing(ring, x, y) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [xi, yi] = ring[i], [xj, yj] = ring[j];
    if ((yi > y) !== (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
