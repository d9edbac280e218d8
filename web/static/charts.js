// Cards with charts: drawn once by vega-embed, then fed with new rows in place.

import { h } from "./dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const legendItemWidth = 92;

// The library is large: tabs, numbers and buttons do not wait for it.
const drawable = new Promise((ready) => {
  if (window.vegaEmbed) ready();
  else document.getElementById("vega").addEventListener("load", ready);
});

let themes = {};
const cards = new Map();

export function setThemes(found) {
  themes = found;
  dark.addEventListener("change", redraw);
}

export function heldVersions() {
  return [...cards.values()].map((card) => card.version).filter(Boolean);
}

export function makeCard(chart) {
  const key = `${chart.view}/${chart.name}`;
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${chart.title}: ${chart.description}` });
  const note = h("p", { class: "note muted" }, "Loading");
  const links = ["svg", "png", "csv", "sql"].map((kind) =>
    h("a", { href: `/api/charts/${key}.${kind}`, target: "_blank", rel: "noopener", "data-kind": kind }, kind.toUpperCase()),
  );
  const element = h(
    "article",
    { class: `card chart w${chart.width}`, "data-chart": key },
    h("header", {}, h("h2", {}, chart.title), h("p", { class: "links", "aria-label": `${chart.title} as file` }, links)),
    h("p", { class: "muted about" }, chart.description),
    h("div", { class: "stage" }, plot, note),
  );
  plot.style.minHeight = `${chart.spec.height + 28}px`;
  cards.set(key, { chart, plot, note, links, version: null, rows: [], view: null, busy: false });
  return element;
}

export function updateCard(key, answer, range) {
  const card = cards.get(key);
  if (!card) return;
  for (const link of card.links) {
    const query = new URLSearchParams({ range, theme: dark.matches ? "dark" : "light" });
    link.href = `/api/charts/${key}.${link.dataset.kind}?${query}`;
  }
  if (answer.rows && !answer.error) {
    for (const name of answer.times) for (const row of answer.rows) row[name] = Date.parse(row[name]);
    card.rows = answer.rows;
    card.version = answer.version;
    draw(card);
  }
  const empty = card.rows.length === 0;
  card.note.hidden = !answer.error && !empty;
  card.note.textContent = answer.error ?? (empty ? `Nothing to show yet. ${card.chart.empty}` : "");
  card.note.classList.toggle("error", Boolean(answer.error));
  card.plot.classList.toggle("unseen", empty);
}

async function draw(card) {
  if (card.rows.length === 0) return;
  if (card.busy) {
    card.again = true;
    return;
  }
  card.busy = true;
  try {
    if (card.view) await card.view.data("rows", card.rows).runAsync();
    else await embed(card);
  } catch (error) {
    card.note.hidden = false;
    card.note.textContent = `This chart cannot be drawn: ${error.message}`;
  } finally {
    card.busy = false;
  }
  if (card.again) {
    card.again = false;
    await draw(card);
  }
}

async function embed(card) {
  await drawable;
  const theme = structuredClone(themes[dark.matches ? "dark" : "light"]);
  theme.legend.columns = Math.max(2, Math.floor(card.plot.clientWidth / legendItemWidth));
  const spec = { ...card.chart.spec, data: { name: "rows", values: card.rows } };
  spec.autosize = { type: "fit-x", contains: "padding" };
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, config: theme, tooltip };
  const made = await window.vegaEmbed(card.plot, spec, options);
  card.view = made.view;
  card.finalize = made.finalize;
}

function redraw() {
  for (const card of cards.values()) {
    card.finalize?.();
    card.view = null;
    draw(card);
  }
}

const bubble = h("div", { class: "tooltip", role: "tooltip", hidden: true });
document.body.append(bubble);

function tooltip(_handler, event, _item, value) {
  bubble.hidden = value === null || value === undefined || value === "";
  if (bubble.hidden) return;
  const pairs = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
  bubble.replaceChildren(...pairs.map(([name, text]) => h("div", {}, h("span", {}, name), h("b", {}, String(text)))));
  const { clientX: x, clientY: y } = event;
  const left = Math.min(x + 14, innerWidth - bubble.offsetWidth - 8);
  const above = y + 16 + bubble.offsetHeight > innerHeight;
  bubble.style.transform = `translate(${Math.max(8, left)}px, ${above ? y - bubble.offsetHeight - 12 : y + 16}px)`;
}
