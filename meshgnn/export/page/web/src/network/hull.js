// The outline of a group: the convex hull of its nodes, widened and rounded.

function hull(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const side = (list) => {
    const chain = [];
    for (const point of list) {
      while (chain.length > 1) {
        const [a, b] = chain.slice(-2);
        if ((b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]) > 0) break;
        chain.pop();
      }
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  return [...side(sorted), ...side(sorted.reverse())];
}

// A path around these [x, y, r].
export function outline(members) {
  const corners = members.flatMap(([x, y, r]) =>
    Array.from({ length: 8 }, (_, k) => [x + (r + 11) * Math.cos((k * Math.PI) / 4), y + (r + 11) * Math.sin((k * Math.PI) / 4)]),
  );
  const edge = hull(corners);
  return edge.length < 3 ? "" : `M${edge.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L")}Z`;
}
