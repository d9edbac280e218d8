// Everything beside the charts: headline, simulated platforms, alerts, ledger and dead letters.

import { byId, h, number, percent, rate, show, time } from "./dom.js";

const ledgerTone = { balanced: "good", "in flight": "calm", imbalance: "bad" };

export function showHeadline(live) {
  const { headline: seen, ledger } = live;
  const tiles = [
    ["Events loaded", number(seen.events), "all time"],
    ["Events / s", rate(seen.events_per_s), "last 10 s"],
    ["Plays", number(seen.plays), "in range"],
    ["Skip rate", percent(seen.skip_rate), "skips per play"],
    ["Active listeners", number(seen.listeners), "in range"],
    ["Open alerts", number(seen.open_alerts), "now", seen.open_alerts ? "bad" : ""],
    ["Dead letters", number(seen.dead_letters), "all time", seen.dead_letters ? "warn" : ""],
    ["Ledger", ledger.state[0].toUpperCase() + ledger.state.slice(1), ledgerNote(ledger), ledgerTone[ledger.state]],
  ];
  show(byId("headline"), tiles, () =>
    tiles.map(([label, value, about, tone]) =>
      h("div", { class: `tile ${tone ?? ""}` }, h("p", { class: "label" }, label), h("p", { class: "value" }, value), h("p", { class: "muted" }, about)),
    ),
  );
}

function ledgerNote(ledger) {
  if (ledger.difference) return `${number(ledger.difference)} missing`;
  return ledger.in_flight ? `${number(ledger.in_flight)} on the way` : "nothing lost";
}

export function showScenarios(scenarios, act) {
  const failed = scenarios.find((one) => one.state === "failed");
  show(byId("scenarios"), scenarios, () => [
    h("span", { class: "muted" }, "Simulate"),
    ...scenarios.map(({ name, title, state }) => {
      const runs = state === "running" || state === "stopping";
      const label = `${runs ? "Stop" : "Start"} the simulated platform ${title}`;
      return h(
        "button",
        { type: "button", class: `scenario ${state}`, "aria-pressed": String(runs), "aria-label": label, title: label,
          disabled: state === "stopping", "data-scenario": name, onclick: () => act(name, runs ? "stop" : "start") },
        h("span", { class: "dot", "aria-hidden": "true" }), title,
      );
    }),
  ]);
  notice(failed ? `${failed.title} stopped by itself: ${failed.message}` : "");
}

export function notice(text) {
  const element = byId("notice");
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

const problem = (panel) => (panel.error ? h("p", { class: "error" }, panel.error) : null);

export function showAlerts(panel) {
  const open = panel.rows.filter((alert) => alert.status === "raised").length;
  byId("alerts-count").textContent = open ? `${number(open)} open` : "none open";
  show(byId("alerts"), panel, () => {
    if (!panel.rows.length) return [problem(panel) ?? h("p", { class: "muted" }, "No alert has been raised.")];
    return h("ul", { class: "alerts" }, panel.rows.map(alertItem));
  });
}

function alertItem(alert) {
  const runbook = alert.runbook.split("/").pop().replace(/\.md$/, "");
  const open = alert.status === "raised";
  const when = open ? `since ${time(alert.raised_at)}` : `${time(alert.raised_at)} – resolved ${time(alert.resolved_at)}`;
  return h(
    "li",
    { class: open ? alert.severity : "resolved" },
    h("p", {}, h("span", { class: "badge" }, open ? alert.severity : "resolved"), " ", h("b", {}, alert.kind.replaceAll("_", " ")), " ", alert.summary.includes(alert.series) ? null : h("span", { class: "muted" }, alert.series)),
    h("p", {}, alert.summary),
    h("p", { class: "muted" }, `${when} · `, h("a", { href: `/runbooks/${encodeURIComponent(runbook)}` }, "runbook")),
  );
}

export function showLedger(ledger) {
  byId("ledger-state").className = `badge ${ledgerTone[ledger.state]}`;
  byId("ledger-state").textContent = ledger.state;
  show(byId("ledger"), ledger, () => {
    const lines = [
      ["Accepted", ledger.accepted, ""], ["Loaded", ledger.loaded, "="], ["Dead-lettered", ledger.dead_lettered, "+"],
      ["Deduplicated", ledger.deduplicated, "+"], ["In flight", ledger.in_flight, "+"],
    ];
    if (ledger.difference) lines.push(["Missing", ledger.difference, "+"]);
    const body = lines.map(([name, value, sign], at) =>
      h("tr", { class: at === 0 ? "sum" : "" }, h("td", { class: "muted", "aria-hidden": "true" }, sign), h("th", { scope: "row" }, name), h("td", { class: "number" }, number(value))),
    );
    const found = [h("table", {}, h("caption", { class: "hidden" }, "What became of every accepted event"), h("tbody", {}, body))];
    if (ledger.waiting_for) found.push(h("p", { class: "error" }, `Nothing is lost, Kafka keeps the events: the sink is ${ledger.waiting_for}`));
    if (ledger.origin === "warehouse") found.push(h("p", { class: "muted" }, "The sink does not answer: these figures are the warehouse's own."));
    if (ledger.sources.length) found.push(parts("The ledger by source", "Source", ledger.sources, (row) => row.source));
    if (ledger.hours.length) found.push(parts("The ledger by hour", "Hour (UTC)", ledger.hours, (row) => row.hour.slice(5, 16).replace("T", " ")));
    return found;
  });
}

function parts(caption, name, rows, named) {
  const head = [name, "Accepted", "Loaded", "Dead", "Dedup."];
  return h(
    "table",
    { class: "small" },
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, head.map((name, at) => h("th", { scope: "col", class: at ? "number" : "" }, name)))),
    h("tbody", {}, rows.map((row) =>
      h("tr", {}, h("th", { scope: "row" }, named(row)), ["accepted", "loaded", "dead_lettered", "deduplicated"].map((name) => h("td", { class: "number" }, number(row[name])))),
    )),
  );
}

export function showLetters(reasons, letters) {
  const total = reasons.rows.reduce((sum, row) => sum + row.letters, 0);
  byId("letters-count").textContent = total ? number(total) : "none";
  show(byId("letters"), [reasons, letters], () => {
    if (!reasons.rows.length) return [problem(reasons) ?? h("p", { class: "muted" }, "Every record could be taken.")];
    const most = Math.max(...reasons.rows.map((row) => row.letters));
    return [
      h("ul", { class: "reasons" }, reasons.rows.map((row) =>
        h("li", {}, h("code", {}, row.reason), h("meter", { min: 0, max: most, value: row.letters, "aria-hidden": "true" }), h("span", { class: "number" }, number(row.letters))),
      )),
      h("h3", {}, "Newest"),
      h("ul", { class: "letters" }, letters.rows.map((row) =>
        h("li", {}, h("p", {}, h("code", {}, row.reason), h("span", { class: "muted" }, ` ${row.source} · ${time(row.failed_at)}`)), h("p", { class: "detail" }, row.detail)),
      )),
    ];
  });
}
