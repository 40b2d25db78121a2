// The drawn graph: containers to the left and the right, the outside above, the host below, an arc for each direction in which packets go.
// Elements are kept from one update to the next, so that the keyboard's focus and the eye stay where they are.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 960, HEIGHT = 500, RX = 300, RY = 205;
const RADIUS = 10;
const LABELS = 14; // busiest pairs whose rate is written beside the arcs

function element(name, attributes, parent) {
  const e = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (parent) parent.append(e);
  return e;
}

function set(e, name, value) {
  const text = String(value);
  if (e.getAttribute(name) !== text) e.setAttribute(name, text);
}

function write(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function shorten(name) {
  return name.length > 24 ? name.slice(0, 23) + "…" : name;
}

export class Graph {
  // choose is called with the id of the node that the user picks, or null.
  constructor(svg, choose) {
    this.svg = svg;
    this.choose = choose;
    this.chosen = null;
    this.nodes = new Map();
    this.edges = new Map();
    this.labels = new Map();
    const defs = element("defs", {}, svg);
    const marker = element("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9,
      markerUnits: "userSpaceOnUse", orient: "auto" }, defs);
    element("path", { d: "M0 0 8 4 0 8z", class: "arrow" }, marker);
    this.edgeLayer = element("g", { "aria-hidden": "true" }, svg);
    this.labelLayer = element("g", { "aria-hidden": "true" }, svg);
    this.nodeLayer = element("g", {}, svg);
    svg.addEventListener("keydown", (e) => { if (e.key === "Escape") this.pick(null); });
    svg.addEventListener("click", (e) => { if (!e.target.closest(".node")) this.pick(null); });
  }

  pick(id) {
    this.chosen = this.chosen === id ? null : id;
    this.mark();
    this.choose(this.chosen);
  }

  // nodes: {id, name, about, kind: "hub" or a class of a bridge}; edges: {from, to, rate, text}, text for both directions together.
  update(nodes, edges) {
    const at = this.place(nodes);
    keep(this.nodes, nodes, (n) => n.id, (n) => this.makeNode(n), (g, n) => {
      const p = at.get(n.id);
      set(g, "class", "node " + n.kind);
      set(g, "transform", `translate(${p.x} ${p.y})`);
      set(g, "aria-label", `${n.name}: ${n.about}`);
      const [title, , text] = g.children;
      write(title, `${n.name}\n${n.about}`);
      write(text, shorten(n.name));
      set(text, "x", p.dx);
      set(text, "y", p.dy);
      set(text, "text-anchor", p.anchor);
    });
    const drawn = edges.filter((e) => at.has(e.from) && at.has(e.to) && e.from !== e.to);
    keep(this.edges, drawn, (e) => `${e.from}>${e.to}`, () => element("path", { "marker-end": "url(#arrow)" }, this.edgeLayer), (path, e) => {
      set(path, "class", e.rate > 0 ? "edge" : "edge idle");
      set(path, "d", arc(at.get(e.from), at.get(e.to)).d);
      set(path, "stroke-width", e.rate > 0 ? Math.min(9, 1 + Math.log10(1 + e.rate / 100)).toFixed(2) : 1);
      set(path, "data-from", e.from);
      set(path, "data-to", e.to);
      set(path, "data-rate", Math.round(e.rate));
    });
    this.write(drawn, at);
    if (this.chosen !== null && !this.nodes.has(this.chosen)) this.pick(null);
    this.mark();
  }

  // write puts the rate of the busiest pairs beside them.
  write(edges, at) {
    const pairs = new Map();
    for (const e of edges) {
      if (e.rate <= 0) continue;
      const key = e.from < e.to ? `${e.from}-${e.to}` : `${e.to}-${e.from}`;
      const best = pairs.get(key);
      if (!best || best.rate < e.rate) pairs.set(key, { ...e, key });
    }
    const busiest = [...pairs.values()].sort((a, b) => b.rate - a.rate).slice(0, LABELS);
    keep(this.labels, busiest, (e) => e.key, () => element("text", { class: "rate", "text-anchor": "middle" }, this.labelLayer), (text, e) => {
      const middle = arc(at.get(e.from), at.get(e.to)).middle;
      set(text, "x", middle.x.toFixed(1));
      set(text, "y", (middle.y + 4).toFixed(1));
      set(text, "data-from", e.from);
      set(text, "data-to", e.to);
      write(text, e.text);
    });
  }

  makeNode(n) {
    const g = element("g", { tabindex: 0, role: "button", "aria-pressed": "false", "data-id": n.id }, this.nodeLayer);
    element("title", {}, g);
    element("circle", { r: n.kind === "hub" ? RADIUS + 3 : RADIUS }, g);
    element("text", {}, g);
    g.addEventListener("click", () => this.pick(n.id));
    g.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") {
        e.preventDefault();
        this.pick(n.id);
      }
    });
    return g;
  }

  // mark shows what belongs to the chosen node.
  mark() {
    const near = new Set([this.chosen]);
    const touches = (e) => [Number(e.dataset.from), Number(e.dataset.to)].includes(this.chosen);
    for (const path of this.edges.values()) {
      if (!touches(path)) continue;
      near.add(Number(path.dataset.from));
      near.add(Number(path.dataset.to));
    }
    const none = this.chosen === null;
    for (const e of [...this.edges.values(), ...this.labels.values()]) e.classList.toggle("far", !none && !touches(e));
    for (const [id, g] of this.nodes) {
      g.classList.toggle("far", !none && !near.has(id));
      set(g, "aria-pressed", id === this.chosen);
    }
  }

  // place gives each node its place, by the order of the nodes alone.
  place(nodes) {
    const at = new Map(), cx = WIDTH / 2, cy = HEIGHT / 2;
    nodes.filter((n) => n.kind === "hub").forEach((n, i) => {
      at.set(n.id, { x: cx, y: i === 0 ? 42 : HEIGHT - 42, dx: 0, dy: i === 0 ? -19 : 30, anchor: "middle" });
    });
    const round = nodes.filter((n) => n.kind !== "hub"), half = Math.ceil(round.length / 2);
    round.forEach((n, i) => {
      const side = i < half ? -1 : 1, count = side < 0 ? half : round.length - half, row = side < 0 ? i : i - half;
      // A column that is bent, wider in its middle; few stand closer together than its whole height.
      const gap = Math.min(2 * RY / Math.max(count - 1, 1), 130);
      const y = (row - (count - 1) / 2) * gap;
      const x = side * RX * Math.sqrt(1 - (y / (1.4 * RY)) ** 2);
      at.set(n.id, { x: +(cx + x).toFixed(1), y: +(cy + y).toFixed(1), dx: side * 16, dy: 5, anchor: side > 0 ? "start" : "end" });
    });
    return at;
  }
}

// keep makes the elements of a map agree with a list: new ones are made, those of before changed, the rest removed.
function keep(elements, list, key, make, change) {
  const wanted = new Set();
  for (const item of list) {
    const k = key(item);
    wanted.add(k);
    if (!elements.has(k)) elements.set(k, make(item));
    change(elements.get(k), item);
  }
  for (const [k, e] of elements) {
    if (wanted.has(k)) continue;
    e.remove();
    elements.delete(k);
  }
}

// arc is a curve from one place to another, bent to its own right, so that the two directions do not cover each other, and towards the
// middle, away from the names.
function arc(p, q) {
  const dx = q.x - p.x, dy = q.y - p.y, length = Math.hypot(dx, dy) || 1;
  let mx = (p.x + q.x) / 2, my = (p.y + q.y) / 2;
  mx += (WIDTH / 2 - mx) * 0.3 - dy / length * 20;
  my += (HEIGHT / 2 - my) * 0.3 + dx / length * 20;
  const from = towards(p, mx, my, RADIUS + 5), to = towards(q, mx, my, RADIUS + 7);
  return {
    d: `M${from.x.toFixed(1)} ${from.y.toFixed(1)}Q${mx.toFixed(1)} ${my.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`,
    middle: { x: (from.x + 2 * mx + to.x) / 4, y: (from.y + 2 * my + to.y) / 4 },
  };
}

function towards(p, x, y, by) {
  const length = Math.hypot(x - p.x, y - p.y) || 1;
  return { x: p.x + (x - p.x) / length * by, y: p.y + (y - p.y) / length * by };
}
