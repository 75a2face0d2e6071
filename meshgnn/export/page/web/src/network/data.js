// The network as the page's parts read it.

import { byId } from "../dom.js";

export function readNetwork() {
  const meta = JSON.parse(byId("meta").textContent);
  const domains = [...new Set(meta.nodes.map((node) => node.domain))].filter(Boolean);
  meta.domains = domains;
  meta.nodes.forEach((node, number) => Object.assign(node, { number, domainNumber: domains.indexOf(node.domain) }));
  for (const layer of meta.layers) {
    layer.order = layer.edges.map((_, k) => k).sort((a, b) => layer.edges[b][2] - layer.edges[a][2]);
    const weights = layer.edges.map((edge) => edge[2]);
    layer.low = Math.min(...weights);
    layer.high = Math.max(...weights);
  }
  return meta;
}

// Numbers of the edges that are shown: the heaviest of the layer, at most those below the wanted q.
export function shownEdges(layer, share, significant, q) {
  if (!layer) return [];
  const tested = significant && layer.pairs.q;
  const some = tested ? layer.order.filter((k) => layer.pairs.q[k] !== null && layer.pairs.q[k] < q) : layer.order;
  return some.slice(0, Math.round(some.length * share));
}

// What a node is coloured by: number of its domain, or of its group at a level.
export function classOf(node, by) {
  return by === "domain" ? node.domainNumber : node.groups[by] ?? -1;
}

// [0, 1] of every node by the value that decides its size; null where it has none.
export function sizes(meta, by) {
  if (by === "same") return meta.nodes.map(() => 0.4);
  const values = meta.nodes.map((node) => node.values[by] ?? null);
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return values.map((value) => (value === null ? null : high > low ? (value - low) / (high - low) : 0.5));
}

export function readable(name) {
  return name.replace(/^centrality_/, "centrality: ").replace(/_/g, " ");
}
