// Puts the mapping page together. Parts listen to the store; this file says in which order things are asked for.

import { makeStore } from "../../../export/page/web/src/store.js";
import { api, person, Refused } from "./data/api.js";
import { Kept } from "./data/kept.js";
import { Model } from "./data/model.js";
import { keyboard, keyTable } from "./keys.js";
import { bar } from "./panels/bar.js";
import { bordersPanel } from "./panels/borders.js";
import { conflicts } from "./panels/conflict.js";
import { drawnPanel } from "./panels/drawn.js";
import { filesPanel } from "./panels/files.js";
import { fillingPanel } from "./panels/filling.js";
import { nextPanel } from "./panels/next.js";
import { strip } from "./panels/strip.js";
import { Stage } from "./stage/stage.js";
import { BrushTool } from "./tools/brush.js";
import { Commit } from "./tools/commit.js";
import { LineTool } from "./tools/line.js";
import { NoteTool, SelectTool } from "./tools/select.js";
import { byId, h, say } from "./ui.js";

const TABS = [
  ["drawn", "Drawn"],
  ["filling", "Filling"],
  ["next", "Next"],
  ["borders", "Borders"],
  ["files", "Files"],
];

function fromStack(stack) {
  return {
    stack,
    sections: new Map(stack.sections.map((section) => [section.index, section])),
    order: stack.sections.map((section) => section.index),
    colours: new Map(stack.areas.map((area) => [area.name, area.colour])),
  };
}

// What this window remembers over a reload: how the picture is shown, where it was.
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem("window") ?? "{}");
  } catch {
    return {};
  }
}

function remember(store, stage) {
  const keep = () => {
    const { section, tone, show, area, snap, apart, brush, tab, tool } = store.state;
    const { x, y, scale, angle, mirror } = stage.view;
    sessionStorage.setItem(
      "window",
      JSON.stringify({
        section,
        tone,
        show,
        area,
        snap,
        apart,
        brush,
        tab,
        tool,
        view: { x, y, scale, angle, mirror },
      }),
    );
  };
  let timer;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(keep, 300);
  };
  store.listen(["section", "tone", "show", "area", "snap", "apart", "brush", "tab", "tool"], soon);
  stage.view.listen(soon);
  window.addEventListener("pagehide", keep);
}

function tabs(store) {
  const list = TABS.map(([id, text]) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${id}`,
        "aria-controls": `panel-${id}`,
        onclick: () => store.set({ tab: id }),
      },
      text,
    ),
  );
  byId("tabs").append(...list);
  byId("tabs").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    const at = TABS.findIndex(([id]) => id === store.state.tab);
    const next = (at + by + TABS.length) % TABS.length;
    store.set({ tab: TABS[next][0] });
    list[next].focus();
  });
  const set = () => {
    for (const [k, [id]] of TABS.entries()) {
      list[k].setAttribute("aria-selected", String(id === store.state.tab));
      list[k].tabIndex = id === store.state.tab ? 0 : -1;
      byId(`panel-${id}`).hidden = id !== store.state.tab;
    }
  };
  store.listen(["tab"], set);
  set();
}

// Waits for news, for ever. What was missed while the server was away is read anew.
async function listenForNews({ store, model, panels }) {
  let seq = store.state.stack.seq;
  let jobs = store.state.stack.jobs ?? 0;
  let away = false;
  let later = null;
  const endedJobs = () =>
    store.state.jobs
      .filter((one) => ["done", "failed", "stopped"].includes(one.state))
      .map((one) => `${one.id} ${one.state} ${one.started}`)
      .join();
  let ended = endedJobs();
  // A filling tells its progress several times a second, on the cores that it needs itself: no reason to hurry.
  const summary = (hurry) => {
    if (later && !hurry) return;
    clearTimeout(later);
    const wait = hurry ? 250 : 1000;
    later = setTimeout(async () => {
      later = null;
      try {
        store.set(fromStack(await api.stack()));
      } catch {
        // the next news asks again
      }
    }, wait);
  };
  for (;;) {
    try {
      const news = await api.events(seq, jobs);
      const missed = away || news.seq < seq;
      const worked = news.jobs !== jobs;
      jobs = news.jobs;
      away = false;
      seq = news.seq;
      if (missed) model.queue.pump();
      const { section } = store.state;
      const changed = new Set(news.sections ?? []);
      for (const index of [...model.server.keys()])
        if ((missed || changed.has(index)) && index !== section) model.server.delete(index);
      if (missed || changed.has(section)) await model.load(section);
      // How far a filling is changes several times a second; what it predicts, when it has ended.
      if (missed || worked) await panels.filling.jobs();
      const now = endedJobs();
      const filled = missed || now !== ended;
      ended = now;
      if (filled || changed.size || worked) summary(filled || changed.size > 0);
      if (filled) await Promise.all([panels.filling.rounds(), panels.filling.predictions(), panels.next.load()]);
      else if (changed.has(section)) await panels.filling.predictions();
    } catch {
      away = true;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

// A name that was kept here and that this server refuses must not lock the page.
async function stackOf() {
  try {
    return await api.stack();
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 400 || !person.name) throw error;
    person.name = "";
    return api.stack();
  }
}

async function start() {
  const stack = await stackOf();
  if (!stack.sections.length) throw new Error("the stack has no sections");
  const kept = remembered();
  const recent = JSON.parse(localStorage.getItem(`recent:${stack.name}`) ?? "[]").filter((name) =>
    stack.areas.some((area) => area.name === name),
  );
  // Where to begin: in the middle, on a section that says something if there is one.
  const middle = stack.sections.length >> 1;
  const annotated = stack.sections
    .map((section, k) => [k, section])
    .filter(([, section]) => Object.keys(section.drawn ?? {}).length);
  const first =
    annotated.sort((a, b) => Math.abs(a[0] - middle) - Math.abs(b[0] - middle))[0]?.[1] ?? stack.sections[middle];
  const store = makeStore({
    ...fromStack(stack),
    section: null,
    records: [],
    selected: new Set(),
    predictions: { areas: [] },
    ribbon: null,
    profile: null,
    theirs: null,
    open: null,
    along: null,
    viewed: null,
    sighted: [],
    tool: stack.read_only ? "select" : (kept.tool ?? "select"),
    area:
      kept.area && stack.areas.some((area) => area.name === kept.area)
        ? kept.area
        : (recent[0] ?? stack.areas[0]?.name ?? ""),
    other: "",
    recent,
    confidence: 3,
    snap: kept.snap ?? false,
    apart: kept.apart ?? true,
    brush: kept.brush ?? 18,
    tone: kept.tone ?? { contrast: 1, brightness: 0, gamma: 1 },
    show: {
      drawn: true,
      predicted: true,
      others: true,
      labels: true,
      ribbon: true,
      borders: true,
      beside: false,
      ...kept.show,
    },
    tab: kept.tab ?? "drawn",
    jobs: [],
    rounds: [],
    work: { order: "gain", items: [], left: true },
    picked: null,
    hover: null,
    write: null,
    saved: { state: "saved", waiting: 0 },
    tick: 0,
  });
  byId("name").textContent = stack.name;
  byId("mapper").textContent = stack.read_only ? "Guest, read only" : stack.mapper;
  document.body.classList.toggle("read-only", Boolean(stack.read_only));
  document.title = `${stack.name} – mapping`;
  if (!stack.read_only) byId("mapper").addEventListener("click", () => rename(stack, model));
  const stage = new Stage(store);
  const model = new Model(await Kept.open(`${stack.id}:${stack.mapper}`), store);
  const records = () => store.state.section !== null && store.set({ records: model.records(store.state.section) });
  store.listen(["tick", "section"], records);

  const step = (by, annotated = false) => {
    const { order, sections, section } = store.state;
    let k = order.indexOf(section) + by;
    while (annotated && order[k] !== undefined && !Object.keys(sections.get(order[k]).drawn ?? {}).length) k += by;
    if (order[k] !== undefined) store.set({ section: order[k] });
    else if (annotated) say("No further annotated section in this direction.");
  };

  const shared = { store, model, stage, step };
  const panels = {
    drawn: drawnPanel(shared),
    filling: fillingPanel(shared),
    next: nextPanel(shared),
    borders: bordersPanel(shared),
    files: filesPanel(shared),
  };
  strip({ store, reason: panels.next.reason });
  conflicts(shared);
  tabs(store);
  const { areas } = bar(shared);

  const parts = { ...shared, commit: new Commit(store, model, stage, say) };
  const hands = {
    select: new SelectTool(parts),
    polygon: new LineTool("polygon", parts),
    freehand: new LineTool("freehand", parts),
    border: new LineTool("border", parts),
    brush: new BrushTool(parts),
    note: new NoteTool(parts),
  };
  const take = () => {
    stage.tool?.cancel?.();
    stage.tool = hands[store.state.tool];
    stage.drawing.style.cursor = stage.tool.cursor;
    document.body.dataset.tool = store.state.tool;
    stage.redraw();
  };
  store.listen(["tool"], take);
  const hint = () =>
    (byId("hint").textContent = stack.read_only
      ? "You are a guest: look at everything, change nothing."
      : stage.tool.hint);
  store.listen(["tool", "selected", "hover"], hint);
  store.listen(["section"], () => {
    stage.tool?.cancel?.();
    store.set({ selected: new Set(), ribbon: null, theirs: null });
    model.load(store.state.section).catch((error) => say(error.message));
  });
  store.listen(["viewed"], ({ viewed, section }) => viewed === section && ribbon(store));
  take();
  hint();
  keyboard(keyTable({ ...shared, panels, areas, say }), shared);
  remember(store, stage);
  if (kept.view) Object.assign(stage.view, { angle: kept.view.angle, mirror: kept.view.mirror });
  store.set({ section: store.state.sections.has(kept.section) ? kept.section : first.index });
  if (kept.view && kept.section === store.state.section) {
    Object.assign(stage.view, kept.view);
    stage.view.changed();
  }
  document.body.dataset.ready = "yes";
  window.page = { store, model, stage, panels };
  let begun = false;
  store.listen(["viewed"], ({ viewed, section }) => {
    if (begun || viewed !== section) return;
    begun = true;
    panels.filling.jobs();
    panels.filling.rounds();
    panels.next.load();
  });
  // A running job's progress is read while it runs: news tells only that something has ended or begun.
  setInterval(
    () => store.state.jobs.some((job) => ["waiting", "running"].includes(job.state)) && panels.filling.jobs(),
    1000,
  );
  listenForNews({ store, model, panels });
}

// Several mappers may use one server: the name goes with every change.
function rename(stack, model) {
  const box = byId("who");
  const input = h("input", {
    type: "text",
    value: stack.mapper,
    maxlength: 60,
    "aria-label": "Who draws",
    required: true,
  });
  const close = () => {
    box.hidden = true;
    byId("mapper").focus();
  };
  const take = async (event) => {
    event.preventDefault();
    if (model.queue.entries.length) return say("Changes of this mapper still wait to be saved.");
    const before = person.name;
    try {
      person.name = input.value.trim();
      await api.stack(); // the server says whether this can be a name
    } catch (error) {
      person.name = before;
      return say(error.message);
    }
    sessionStorage.setItem("mapper", person.name);
    localStorage.setItem("mapper", person.name);
    location.reload();
  };
  box.replaceChildren(
    h(
      "form",
      { onsubmit: take, onkeydown: (event) => event.key === "Escape" && close() },
      h("p", {}, "Who draws in this window?"),
      input,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "submit", class: "primary" }, "Take this name"),
        h("button", { type: "button", onclick: close }, "Cancel"),
      ),
    ),
  );
  box.hidden = false;
  input.select();
}

const surfaces = new Map();

async function ribbon(store) {
  const { section } = store.state;
  try {
    if (!surfaces.has(section)) surfaces.set(section, await api.ribbon(section));
    if (store.state.section === section) store.set({ ribbon: surfaces.get(section) });
  } catch {
    // without a mesh there is none
  }
}

start().catch((error) => {
  byId("fault").hidden = false;
  byId("fault-text").textContent =
    error instanceof Refused && [401, 403].includes(error.status)
      ? "This page needs the address that the server printed, with its token."
      : `The page could not be shown: ${error.message}`;
  document.body.dataset.ready = "failed";
});
