// Engines and their jobs, what the rounds say of themselves, and the predictions on this section.

import { api } from "../data/api.js";
import { bounds } from "../geometry.js";
import { offered } from "../stage/overlay.js";
import { button, byId, empty, fill, h, number, swatch, tried } from "../ui.js";

const ENDED = ["done", "failed", "stopped"];
const TOLD = { waiting: "waiting", running: "running", done: "done", failed: "failed", stopped: "stopped" };

export function fillingPanel({ store, model, stage }) {
  const box = byId("panel-filling");
  let reading = false;
  let from = ""; // the engine whose newest round is shown; empty: the newest of all

  const start = tried(async (engine) => {
    await api.fill(engine);
    await jobs();
  });

  const jobs = tried(async () => {
    const answer = await api.jobs();
    store.set({ jobs: answer.jobs ?? answer });
  });

  const rounds = tried(async () => {
    const answer = await api.rounds();
    store.set({ rounds: answer.rounds ?? answer });
  });

  const predictions = tried(async () => {
    const { section } = store.state;
    if (section === null) return;
    let answer;
    try {
      answer = await api.predictions(section, from);
    } finally {
      if (store.state.section === section) {
        reading = false;
        draw();
      }
    }
    if (store.state.section === section) store.set({ predictions: { areas: [], ...answer } });
  });

  const decide = tried(async (areas, decision) => {
    const { section, predictions: shown } = store.state;
    const made = [];
    for (const area of areas) {
      const { records } = await api.review(section, shown, area, decision);
      made.push(...(records ?? []));
    }
    if (made.length) model.made(section, made);
    await predictions();
    return made;
  });

  // Accepted and chosen at once, with its corners ready to be moved.
  const correct = async (area) => {
    const made = await decide([area], "accept");
    if (made?.length) store.set({ tool: "select", selected: new Set(made.map((record) => record.id)) });
  };

  function engine(one) {
    const job = [...store.state.jobs].reverse().find((other) => other.engine === one.name);
    const busy = job && !ENDED.includes(job.state);
    const share = job?.total ? Math.min(1, job.done / job.total) : 0;
    const open = !store.state.stack.read_only;
    return h(
      "div",
      { class: "engine" },
      h(
        "div",
        { class: "line" },
        h("b", {}, one.title ?? one.name),
        busy
          ? open
            ? button(
                "Stop",
                tried(() => api.stop(job.id).then(jobs)),
                { "data-mark": `stop-${one.name}` },
              )
            : ""
          : open
            ? button("Fill", () => start(one.name), {
                class: "primary",
                disabled: one.ready === false,
                "data-mark": `fill-${one.name}`,
                "aria-label": `Fill with ${one.title ?? one.name}`,
              })
            : "",
      ),
      busy
        ? [
            h("progress", { max: 1, value: share, "aria-label": "Progress" }),
            h(
              "p",
              { class: "facts" },
              `${job.step || TOLD[job.state]}${job.total ? ` · ${job.done} of ${job.total}` : ""} · ${number(job.seconds ?? 0, 0)} s`,
            ),
          ]
        : "",
      !busy && job?.state === "failed" ? h("p", { class: "wrong" }, job.error || "failed") : "",
      !busy && job?.state === "done" ? h("p", { class: "facts" }, `done in ${number(job.seconds ?? 0, 0)} s`) : "",
      !busy && job?.state === "stopped" ? h("p", { class: "facts" }, "stopped") : "",
      one.ready === false ? h("p", { class: "facts" }, one.why_not) : "",
    );
  }

  function prediction(one) {
    const { stack, picked, colours } = store.state;
    const open = one.decision !== "accepted" && !stack.read_only;
    return h(
      "div",
      { class: `prediction ${one.decision}`, "aria-current": picked === one.area },
      h(
        "button",
        {
          type: "button",
          class: "row",
          "data-mark": `go-${one.area}`,
          onclick: () => {
            store.set({ picked: one.area });
            stage.view.show(bounds(one.geometry));
          },
        },
        swatch(colours.get(one.area)),
        h("span", { class: "name" }, one.area, one.decision === "none" ? "" : h("small", {}, one.decision)),
        h(
          "span",
          { class: "track", title: "mean probability" },
          h("i", { style: { width: `${100 * one.probability}%` } }),
        ),
        h("span", { class: "figure" }, `${number(100 * one.probability, 0)} %`),
      ),
      open
        ? h(
            "div",
            { class: "buttons" },
            button("Accept", () => decide([one.area], "accept"), { "data-mark": `accept-${one.area}` }),
            button("Correct", () => correct(one.area), { "data-mark": `correct-${one.area}` }),
            one.decision === "none"
              ? button("Reject", () => decide([one.area], "reject"), { "data-mark": `reject-${one.area}` })
              : button("Offer again", () => decide([one.area], "withdraw"), { "data-mark": `withdraw-${one.area}` }),
          )
        : "",
    );
  }

  const undecided = () => offered(store.state).filter((one) => one.decision === "none");
  const acceptAll = () =>
    decide(
      undecided().map((one) => one.area),
      "accept",
    );

  function draw() {
    const { stack, predictions: found, rounds: all } = store.state;
    if (!stack) return;
    const engines = stack.engines ?? [];
    const listed = offered(store.state);
    const newest = [...all].reverse(); // the server has the one asked for last at the end
    fill(
      box,
      engines.length ? engines.map(engine) : empty("No engine is set up to fill areas in."),
      h("div", { class: "line" }, h("h3", {}, "On this section"), source()),
      listed.length
        ? listed.map(prediction)
        : empty(reading ? "Reading …" : "Nothing is predicted here. Draw an area on two sections or more, then fill."),
      undecided().length > 1 && !stack.read_only
        ? h(
            "div",
            { class: "buttons" },
            button("Accept all", acceptAll, { "data-mark": "all" }),
            h("kbd", {}, "Shift J"),
          )
        : "",
      newest.length
        ? [
            h("h3", {}, "What the rounds say"),
            newest
              .slice(0, 8)
              .map((one) =>
                h(
                  "div",
                  { class: "round" },
                  h(
                    "p",
                    { class: "facts" },
                    `Round ${one.round} · ${titleOf(one.engine)} · ${number(one.seconds ?? 0, 0)} s`,
                  ),
                  words(one.words ?? []),
                ),
              ),
          ]
        : "",
      newest.length && stack.mesh
        ? h("p", {}, h("a", { href: "/brain", target: "_blank", rel: "noopener" }, "The map on the brain in 3D ↗"))
        : "",
    );
  }

  function words(all) {
    const lines = all.map((text) => h("p", {}, text));
    if (lines.length < 5) return lines;
    return [lines.slice(0, 3), h("details", {}, h("summary", {}, `${lines.length - 3} more`), lines.slice(3))];
  }

  // With several engines: whose outlines are shown.
  function source() {
    const names = [...new Set(store.state.rounds.map((one) => one.engine))];
    if (names.length < 2) return "";
    const change = (event) => {
      from = event.target.value;
      event.target.blur();
      predictions();
    };
    return h(
      "select",
      { "aria-label": "Filled in by", onchange: change },
      h("option", { value: "" }, "Newest"),
      names.map((name) => h("option", { value: name, selected: name === from }, titleOf(name))),
    );
  }

  const titleOf = (name) => store.state.stack.engines?.find((one) => one.name === name)?.title ?? name;

  store.listen(["jobs", "predictions", "rounds", "stack", "picked", "records", "show"], draw);
  store.listen(["section"], () => {
    reading = true;
    store.set({ predictions: { areas: [] }, picked: null });
  });
  store.listen(["viewed"], ({ viewed, section }) => viewed === section && predictions());
  const decideHere = (decision) => {
    const at = stage.pointer && stage.prediction(stage.pointer);
    const area = at?.area ?? store.state.picked;
    if (area && undecided().some((one) => one.area === area)) decide([area], decision);
  };
  return {
    jobs,
    rounds,
    predictions,
    acceptAll,
    accept: () => decideHere("accept"),
    reject: () => decideHere("reject"),
  };
}
