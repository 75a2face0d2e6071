// The server's programming interface (docs/architecture.md, "Mapping in the browser"); the cookie holds the token.

export class Refused extends Error {
  constructor(status, answer) {
    super(
      status === 401
        ? "the server has new addresses: open the address that it printed, in any tab of this browser"
        : (answer?.error ?? `the server answers ${status}`),
    );
    this.status = status;
    this.records = answer?.records ?? [];
  }
}

// Who draws in this window; empty: whom the server was started for.
export const person = { name: sessionStorage.getItem("mapper") ?? localStorage.getItem("mapper") ?? "" };

async function ask(path, options = {}) {
  const who = person.name ? { "X-Mapper": encodeURIComponent(person.name) } : {};
  const answer = await fetch(path, { credentials: "same-origin", ...options, headers: { ...options.headers, ...who } });
  if (answer.ok) return options.file ? answer.blob() : answer.json();
  let told = null;
  try {
    told = await answer.json();
  } catch {
    // no JSON: the status says enough
  }
  throw new Refused(answer.status, told);
}

const send = (path, body, method = "POST") =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const of = (section, what) => `/api/sections/${section}/${what}`;

export const api = {
  stack: () => ask("/api/stack"),
  records: (section) => ask(of(section, "records")),
  history: (section) => ask(of(section, "history")),
  change: (section, changes) => send(of(section, "changes"), { changes }),
  events: (since, jobs) => ask(`/api/events?since=${since}&jobs=${jobs}`),
  ribbon: (section) => ask(of(section, "ribbon")),
  between: (section, strokes) => send(of(section, "between"), { strokes }),
  snap: (section, geometry, reachUm) => send(of(section, "snap"), { geometry, reach_um: reachUm }),
  predictions: (section, engine) =>
    ask(`${of(section, "predictions")}${engine ? `?engine=${encodeURIComponent(engine)}` : ""}`),
  review: (section, { round, engine }, area, decision) =>
    send(of(section, "review"), { round, engine, area, decision }),
  borders: (section) => ask(of(section, "borders")),
  fill: (engine) => send("/api/fill", { engine }),
  jobs: () => ask("/api/jobs"),
  stop: (job) => ask(`/api/jobs/${job}`, { method: "DELETE" }),
  worklist: (order) => ask(`/api/worklist?order=${order}`),
  rounds: () => ask("/api/rounds"),
  agreement: () => ask("/api/agreement"),
  bring: (section, file) =>
    ask(`/api/import?section=${section}`, {
      method: "POST",
      headers: { "Content-Type": "application/geo+json" },
      body: file,
    }),
  file: (path) => ask(path, { file: true }),
  tile: (section, level, row, column) => of(section, `tiles/${level}/${row}/${column}.jpg`),
  thumbnail: (section) => of(section, "thumbnail.jpg"),
};

// A name that no other record has; `crypto.randomUUID` is missing where the page comes over plain http from another machine.
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const text = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
}
