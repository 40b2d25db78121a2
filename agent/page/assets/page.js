// Asks the agent for its counters while somebody looks, makes rates of two answers, and shows them. Text goes to the page as text.

import { Graph } from "./graph.js";

const OUTSIDE = 0, HOST = 4294967295;
const DRAWN = 40;  // containers in the graph
const FIRST = 100; // rows of a table before somebody asks for more

const $ = (id) => document.getElementById(id);

let before = null, paused = false, timer = 0, asking = false, shown = FIRST, chosen = null, last = null;
const sorting = { column: "total", down: true };
const busy = new Map(); // how much each container has sent and got lately, so that the graph does not flicker

const graph = new Graph($("graph"), (id) => { chosen = id; if (last) show(last); });

// ---- words and numbers

function scaled(n, units) {
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  return (n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}
const bytes = (n) => scaled(n, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]);
const perSecond = (n) => (n > 0 && n < 10 ? n.toFixed(1) : Math.round(n).toLocaleString("en")) + "/s";
const number = (n) => n.toLocaleString("en");
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

function make(tag, text, kind) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (kind) e.className = kind;
  return e;
}

function write(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// ---- tables

// fill shows rows in a table, each {key, cells: [text], kinds}; rows of before are changed where they stand.
function fill(table, heads, rows, none) {
  if (!table.tHead) {
    const tr = table.createTHead().insertRow();
    for (const h of heads) {
      const th = make("th", undefined, h.number ? "n" : "");
      th.scope = "col";
      if (h.sort) {
        const button = make("button", h.text);
        button.type = "button";
        button.addEventListener("click", () => sortBy(h.sort));
        th.append(button);
        th.dataset.sort = h.sort;
      } else {
        th.textContent = h.text;
      }
      tr.append(th);
    }
    table.createTBody();
    table.rowsByKey = new Map();
  }
  for (const th of table.tHead.querySelectorAll("[data-sort]")) {
    th.setAttribute("aria-sort", th.dataset.sort !== sorting.column ? "none" : sorting.down ? "descending" : "ascending");
  }
  const body = table.tBodies[0], byKey = table.rowsByKey, wanted = new Set(rows.map((r) => r.key));
  for (const [key, tr] of byKey) {
    if (!wanted.has(key)) { tr.remove(); byKey.delete(key); }
  }
  body.querySelector(".none")?.remove();
  if (rows.length === 0) {
    const tr = make("tr", undefined, "none"), td = make("td", none, "empty");
    td.colSpan = heads.length;
    tr.append(td);
    body.append(tr);
    return;
  }
  rows.forEach((r, i) => {
    let tr = byKey.get(r.key);
    if (!tr) {
      tr = make("tr");
      heads.forEach((h, j) => tr.append(make(j === 0 ? "th" : "td", undefined, h.number ? "n" : "")));
      tr.cells[0].scope = "row";
      byKey.set(r.key, tr);
    }
    if (body.children[i] !== tr) body.insertBefore(tr, body.children[i] || null);
    r.cells.forEach((text, j) => {
      write(tr.cells[j], text);
      tr.cells[j].classList.toggle("bad", j === r.bad);
    });
    tr.classList.toggle("chosen", r.id !== undefined && r.id === chosen);
  });
}

function sortBy(column) {
  sorting.down = sorting.column === column ? !sorting.down : column !== "name";
  sorting.column = column;
  if (last) show(last);
}

// ---- rates

// rates gives what an answer and the one before it say together. Without one before it every rate is 0.
function rates(a, b) {
  const span = b ? a.at - b.at : 0;
  const per = (now, then) => (span > 0 && now >= then ? (now - then) / span : 0);
  const was = new Map(span > 0 ? b.endpoints.map((e) => [e.id, e.counters]) : []);
  const endpoints = a.endpoints.map((e) => {
    const c = e.counters, o = was.get(e.id) || c;
    const r = {
      ...e,
      rx: per(c.receive_bytes, o.receive_bytes), tx: per(c.transmit_bytes, o.transmit_bytes),
      rxp: per(c.receive_packets, o.receive_packets), txp: per(c.transmit_packets, o.transmit_packets),
      dropped: c.receive_dropped + c.transmit_dropped,
      drops: per(c.receive_dropped + c.transmit_dropped, o.receive_dropped + o.transmit_dropped),
    };
    r.total = r.rx + r.tx;
    return r;
  });
  // A pair that is new since the last answer began at 0 then.
  const same = span > 0 && a.watch === b.watch;
  const edgeWas = new Map(same ? b.edges.map((e) => [`${e.from}>${e.to}`, e]) : []);
  const edges = a.edges.map((e) => {
    const o = edgeWas.get(`${e.from}>${e.to}`) || (same ? { bytes: 0, packets: 0 } : e);
    return { ...e, rate: per(e.bytes, o.bytes), packetRate: per(e.packets, o.packets) };
  });
  const reasons = (now, then) => {
    const old = new Map((then || []).map((r) => [r.reason, r.packets]));
    return now.map((r) => ({ ...r, rate: b ? per(r.packets, old.get(r.reason) || 0) : 0 }));
  };
  return { ...a, endpoints, edges, drops: reasons(a.drops, b?.drops), passed: reasons(a.passed, b?.passed), live: span > 0 };
}

// ---- what is shown

function show(v) {
  last = v;
  write($("instance"), v.instance);
  document.title = `ebpfnet ${v.instance}`;
  write($("about"), `${v.version}, kernel ${v.kernel}` + (v.mode ? `, mode ${v.mode}` : ", nothing attached"));
  const section = $("problems"), list = section.querySelector("ul");
  section.hidden = v.problems.length === 0;
  if (list.dataset.text !== v.problems.join("\n")) {
    list.dataset.text = v.problems.join("\n");
    list.replaceChildren(...v.problems.map((p) => make("li", p)));
  }
  showTotals(v);
  showGraph(v);
  showEndpoints(v);
  showPorts(v);
  showReasons(v);
  showHealth(v);
  showPeers(v);
}

function showTotals(v) {
  const sum = (list, f) => list.reduce((n, x) => n + f(x), 0);
  const drops = sum(v.drops, (d) => d.rate);
  const tiles = [
    ["Containers", number(v.endpoints.length)],
    ["They receive", bytes(sum(v.endpoints, (e) => e.rx))],
    ["They send", bytes(sum(v.endpoints, (e) => e.tx))],
    ["Packets", perSecond(sum(v.endpoints, (e) => e.rxp + e.txp))],
    ["Published ports", number(v.port_count)],
    ["Dropped", perSecond(drops), drops > 0],
  ];
  const box = $("totals");
  if (!box.firstChild) {
    for (const [name] of tiles) {
      const div = make("div");
      div.append(make("dt", name), make("dd"));
      box.append(div);
    }
  }
  tiles.forEach(([, text, bad], i) => {
    write(box.children[i].lastChild, text);
    box.children[i].classList.toggle("bad", Boolean(bad));
  });
}

const endName = (v, id) => id === OUTSIDE ? "outside" : id === HOST ? "host" : v.names.get(id) || "gone";

function showGraph(v) {
  v.names = new Map(v.endpoints.map((e) => [e.id, e.name]));
  const bridges = [...new Set(v.endpoints.map((e) => e.bridge))].sort();
  for (const id of busy.keys()) if (!v.names.has(id)) busy.delete(id);
  for (const e of v.endpoints) busy.set(e.id, (busy.get(e.id) || 0) * 0.8 + e.rx + e.tx);
  let drawn = v.endpoints;
  if (drawn.length > DRAWN) {
    drawn = [...drawn].sort((a, b) => busy.get(b.id) - busy.get(a.id) || (a.name < b.name ? -1 : 1)).slice(0, DRAWN);
  }
  drawn = [...drawn].sort((a, b) => a.bridge === b.bridge ? (a.name < b.name ? -1 : 1) : a.bridge < b.bridge ? -1 : 1);
  const nodes = drawn.map((e) => ({
    id: e.id, name: e.name, kind: "b" + bridges.indexOf(e.bridge) % 6,
    about: `${e.bridge}, ${e.address || "no address"}, receives ${bytes(e.rx)}, sends ${bytes(e.tx)}, ${plural(e.flows, "flow", "flows")}`,
  }));
  const through = (id) => v.edges.reduce((n, e) => n + (e.from === id || e.to === id ? e.rate : 0), 0);
  if (nodes.length > 0) {
    nodes.push({ id: OUTSIDE, name: "outside", kind: "hub", about: `beyond the uplinks, ${bytes(through(OUTSIDE))}` });
    nodes.push({ id: HOST, name: "host", kind: "hub", about: `this machine's own sockets, ${bytes(through(HOST))}` });
  }
  const rate = new Map(v.edges.map((e) => [`${e.from}>${e.to}`, e.rate]));
  const edges = v.edges.map((e) => ({ ...e, text: bytes(e.rate + (rate.get(`${e.to}>${e.from}`) || 0)) }));
  graph.update(nodes, edges);
  let note = v.endpoints.length === 0 ? "No container is on an attached bridge."
    : v.endpoints.length > DRAWN ? `The ${DRAWN} busiest of ${number(v.endpoints.length)} containers are drawn.`
      : "An arc is one direction; rates are of both. Choose a container to see its own.";
  if (v.partial) note += " There are more flows than are followed: rates here are too low, those of containers are exact.";
  write($("graph-note"), note);
  const legend = $("legend");
  if (legend.dataset.text !== bridges.join(" ")) {
    legend.dataset.text = bridges.join(" ");
    legend.replaceChildren(...bridges.map((b, i) => make("span", b, "b" + i % 6)));
  }
  const rows = [...v.edges].filter((e) => chosen === null || e.from === chosen || e.to === chosen)
    .sort((a, b) => b.rate - a.rate || b.bytes - a.bytes).slice(0, FIRST);
  fill($("pairs"), [{ text: "From" }, { text: "To" }, { text: "Rate", number: true }, { text: "Packets", number: true }],
    rows.map((e) => ({ key: `${e.from}>${e.to}`, cells: [endName(v, e.from), endName(v, e.to), bytes(e.rate), perSecond(e.packetRate)] })),
    "Nobody talks.");
}

function showEndpoints(v) {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = v.endpoints.filter((e) => {
    const text = `${e.name} ${e.container} ${e.bridge} ${e.address}`.toLowerCase();
    return words.every((w) => text.includes(w));
  });
  const c = sorting.column, sign = sorting.down ? -1 : 1;
  found.sort((a, b) => {
    const x = a[c], y = b[c];
    return (x < y ? -sign : x > y ? sign : 0) || (a.name < b.name ? -1 : 1);
  });
  const rows = found.slice(0, shown);
  fill($("endpoints"), [
    { text: "Name", sort: "name" }, { text: "Bridge", sort: "bridge" }, { text: "Address" },
    { text: "Receives", number: true, sort: "rx" }, { text: "Sends", number: true, sort: "tx" },
    { text: "Packets in", number: true, sort: "rxp" }, { text: "Packets out", number: true, sort: "txp" },
    { text: "Flows", number: true, sort: "flows" }, { text: "Dropped", number: true, sort: "dropped" },
  ], rows.map((e) => ({
    key: e.id, id: e.id, bad: e.drops > 0 ? 8 : -1,
    cells: [e.name, e.bridge, e.address, bytes(e.rx), bytes(e.tx), perSecond(e.rxp), perSecond(e.txp), number(e.flows),
      number(e.dropped) + (e.drops > 0 ? ` (${perSecond(e.drops)})` : "")],
  })), v.endpoints.length ? "None is like that." : "No container is on an attached bridge.");
  write($("endpoints-note"), rows.length < v.endpoints.length ? `${number(rows.length)} of ${number(v.endpoints.length)} are shown.` : "");
  $("more").hidden = rows.length === found.length;
}

const span = (first, end) => end > first ? `${first}-${end}` : String(first);

function showPorts(v) {
  write($("ports-note"), v.ports.length < v.port_count ? `The first ${v.ports.length} of ${number(v.port_count)}.` : "");
  fill($("ports"), [{ text: "Host" }, { text: "Leads to" }, { text: "Source" }, { text: "Flows", number: true }],
    v.ports.map((p) => ({
      key: `${p.host_ip} ${p.host_port} ${p.proto} ${p.source} ${p.endpoint}`, bad: p.active ? -1 : 1,
      cells: [`${p.host_ip}:${span(p.host_port, p.host_end)}/${p.proto}`,
        `${p.endpoint} ${p.address}:${span(p.container_port, p.container_end)}` + (p.active ? "" : " (not running)"), p.source, number(p.flows)],
    })), "No port is published.");
}

function showReasons(v) {
  const heads = [{ text: "Reason" }, { text: "Packets", number: true }, { text: "Now", number: true }];
  const rows = (list) => list.map((r) => ({ key: r.reason, bad: -1, cells: [r.reason, number(r.packets), perSecond(r.rate)] }));
  write($("drops-note"), v.drops.length ? "Since the datapath was attached." : "");
  fill($("drops"), heads, rows(v.drops), "Nothing was dropped.");
  fill($("passed"), heads, rows(v.passed), "Nothing was left to the kernel.");
}

function showHealth(v) {
  const rows = v.bridges.map((b) => ({
    key: "b " + b.name, bad: b.attached ? -1 : 1,
    cells: [`bridge ${b.name}`, (b.attached ? `attached, ${plural(b.endpoints, "container", "containers")}` : "waited for") +
      `, mode ${b.mode}, ${b.rules === "docker" ? "Docker's rules behind it" : "no rules behind it"}, ${b.subnets.join(" ")}`],
  }));
  rows.push(...v.uplinks.map((u) => ({ key: "u " + u.name, cells: [`uplink ${u.name}`, `${u.hook}, ${u.address || "no address"}`] })));
  rows.push({ key: "docker", cells: ["Docker", v.docker ? "its events are followed" : "not followed: containers have no names"] });
  fill($("health"), [{ text: "What" }, { text: "State" }], rows, "");
  fill($("tables"), [{ text: "Table" }, { text: "Entries", number: true }, { text: "Room", number: true }, { text: "Full", number: true }],
    v.tables.map((t) => {
      const part = t.capacity ? t.entries / t.capacity : 0;
      return { key: t.name, bad: part > 0.8 ? 3 : -1, cells: [t.name, number(t.entries), number(t.capacity), (100 * part).toFixed(part < 0.1 ? 1 : 0) + " %"] };
    }), "The agent has not looked yet.");
}

// An agent without peers tells of none.
function showPeers(v) {
  const peers = v.peers || [];
  $("peers-section").hidden = peers.length === 0;
  fill($("peers"), [{ text: "Peer" }, { text: "Subnet" }, { text: "State" }],
    peers.map((p) => ({ key: `${p.address} ${p.subnet}`, cells: [String(p.address), String(p.subnet), String(p.state)] })), "");
}

// ---- asking

async function ask() {
  if (asking || paused || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  const start = performance.now();
  try {
    const answer = await fetch("activity.json", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
    const now = await answer.json();
    show(rates(now, before && before.at < now.at ? before : null));
    // The first answer makes no rates; the next comes soon.
    before = now;
    state(last.live ? "live" : "asking the agent…", false);
  } catch (e) {
    state(`the agent does not answer (${e.message})`, true);
  }
  asking = false;
  // A big host's answers take longer; they are asked for less often.
  const wait = last && !last.live ? 1000 : Number($("interval").value);
  timer = setTimeout(ask, Math.max(wait, 4 * (performance.now() - start)));
}

function state(text, lost) {
  write($("state"), text);
  $("state").classList.toggle("lost", lost);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    clearTimeout(timer);
    state("paused", false);
  } else {
    before = null;
    ask();
  }
});
$("interval").addEventListener("change", () => { clearTimeout(timer); ask(); });
$("filter").addEventListener("input", () => { shown = FIRST; if (last) showEndpoints(last); });
$("more").addEventListener("click", () => { shown += 400; if (last) showEndpoints(last); });
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) ask();
});
ask();
