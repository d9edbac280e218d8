// The page: asks /api/live again and again for what is shown, and shows it.

import { heldVersions, makeCard, setThemes, updateCard } from "./charts.js";
import { byId, h, span } from "./dom.js";
import { notice, showAlerts, showHeadline, showLedger, showLetters, showScenarios } from "./panels.js";
import { makeFinder, showMostPlayed } from "./similar.js";

const EVERY_MS = { live: 2000, waiting: 700, reconnecting: 1000 };
const states = { live: "Live", waiting: "Waiting for events", reconnecting: "Reconnecting" };
const panels = new Map();

let views = [];
let view = "behaviour";
let range = "";
let timer = 0;
let asking = null;

async function start() {
  const response = await fetch("/api/charts");
  const listing = await response.json();
  views = listing.views;
  setThemes(listing.themes);
  byId("tabs").append(...views.map(({ name, title }) =>
    h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => { location.hash = name; } }, title)));
  byId("tabs").addEventListener("keydown", moveByKey);
  byId("range").addEventListener("change", (event) => { range = event.target.value; ask(); });
  addEventListener("hashchange", open);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  open();
}

function open() {
  const named = location.hash.slice(1);
  if (named === view && panels.has(view)) return;
  if (views.some(({ name }) => name === named)) view = named;
  for (const { name } of views) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
  }
  if (!panels.has(view)) panels.set(view, makePanel(views.find(({ name }) => name === view)));
  for (const [name, panel] of panels) panel.hidden = name !== view;
  document.title = `${views.find(({ name }) => name === view).title} – Crossfade`;
  dispatchEvent(new Event("resize"));
  ask();
}

function makePanel({ name, charts }) {
  const finder = name === "similar" ? makeFinder() : [];
  const panel = h("section", { id: `panel-${name}`, role: "tabpanel", class: "grid", "aria-labelledby": `tab-${name}` }, finder);
  byId("panels").append(panel);
  panel.append(...charts.map(makeCard));
  return panel;
}

function moveByKey(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = views.findIndex(({ name }) => name === view);
  const to = event.key === "Home" ? 0 : event.key === "End" ? views.length - 1 : step && (at + step + views.length) % views.length;
  if (to === undefined) return;
  event.preventDefault();
  location.hash = views[to].name;
  open(); // at once: the next key counts from here
  byId(`tab-${views[to].name}`).focus();
}

async function ask() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const late = setTimeout(() => mine.abort(), 10000);
  try {
    const asked = view;
    const query = new URLSearchParams({ view: asked, have: heldVersions().join(",") });
    if (range) query.set("range", range);
    const response = await fetch(`/api/live?${query}`, { signal: mine.signal });
    const live = await response.json();
    if (mine !== asking) return;
    if (!response.ok) throw new Error(live.detail);
    render(live, asked);
  } catch {
    if (mine === asking) setState("reconnecting");
  } finally {
    clearTimeout(late);
    if (mine === asking && !document.hidden) timer = setTimeout(ask, EVERY_MS[byId("state").dataset.state]);
  }
}

function setState(state) {
  const pill = byId("state");
  if (pill.dataset.state === state) return;
  pill.dataset.state = state;
  pill.textContent = states[state];
}

function render(live, asked) {
  setState(live.state);
  showScenarios(live.scenarios, act);
  byId("waiting").hidden = live.state !== "waiting";
  byId("waiting-why").textContent = live.message ?? "";
  byId("panels").hidden = live.state === "waiting";
  if (!live.headline) return;
  if (live.range) {
    byId("stretch").textContent = span(live.range.since, live.range.until);
    byId("range").querySelector(`[value="${live.range.choice}"]`).checked = true;
  }
  showHeadline(live);
  showAlerts(live.alerts);
  showLedger(live.ledger);
  showLetters(live.dead_letter_reasons, live.dead_letters);
  for (const [key, answer] of Object.entries(live.charts)) updateCard(key, answer, live.range?.choice ?? "all");
  if (live.most_played) showMostPlayed(live.most_played);
}

async function act(name, action) {
  try {
    const response = await fetch(`/api/scenarios/${name}/${action}`, { method: "POST", headers: { "X-Crossfade": "page" } });
    const answer = await response.json();
    if (response.ok) showScenarios(answer, act);
    else notice(answer.detail);
  } catch {
    notice("The page's server does not answer.");
  }
}

start().catch(() => {
  setState("reconnecting");
  setTimeout(() => location.reload(), 3000);
});
