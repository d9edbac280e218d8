// The track finder of the view "Similar tracks": search or pick a track, see what is close to it.

import { h, number, percent, show } from "./dom.js";

const found = h("ul", { class: "found", "aria-label": "Tracks found" });
const detail = h("div", { class: "detail-of-track", "aria-live": "polite" });
const most = h("div", { class: "scroll" });
const box = h("input", { type: "search", id: "words", placeholder: "Title, artist or id", autocomplete: "off" });
let picked = null;
let searches = 0;
let answered = null; // words whose tracks are shown: what was asked in vain is asked again with the next figures

export function makeFinder() {
  let later = 0;
  box.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => search(box.value), 200);
  });
  search("");
  return [
    h("article", { class: "card finder w6" },
      h("header", {}, h("h2", {}, "Find a track")),
      h("p", { class: "muted about" }, "Pick a track to see what is close to it in mood, genre and listeners"),
      h("div", { class: "finder-columns" },
        h("div", {}, h("label", { for: "words", class: "hidden" }, "Search tracks"), box, found),
        detail)),
    h("article", { class: "card w6" },
      h("header", {}, h("h2", {}, "Most played, and what is similar")),
      most),
  ];
}

export function showMostPlayed(panel) {
  if (!picked && panel.rows.length) pick(panel.rows[0]);
  if (answered !== box.value) search(box.value);
  show(most, panel, () => {
    if (panel.error) return h("p", { class: "error" }, panel.error);
    if (!panel.rows.length) return h("p", { class: "muted" }, "Nothing to show yet. As soon as the first events are loaded.");
    const head = ["Track", "Plays", "Genre", "Mood", "Similar tracks"];
    return h("table", { class: "tracks" },
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col", class: name === "Plays" ? "number" : "" }, name)))),
      h("tbody", {}, panel.rows.map((row) =>
        h("tr", {},
          h("th", { scope: "row" }, trackButton(row)),
          h("td", { class: "number" }, number(row.plays)),
          h("td", {}, row.genre ?? "–"), h("td", {}, row.mood ?? "–"),
          h("td", { class: "muted" }, row.similar_names?.join(" · ") ?? "not known yet")),
      )));
  });
}

function trackButton(row) {
  return h("button", { type: "button", class: "track", onclick: () => pick(row) },
    h("b", {}, row.track_name), h("span", { class: "muted" }, row.artist_name ?? ""));
}

async function search(words) {
  const mine = ++searches;
  try {
    const response = await fetch(`/api/tracks?${new URLSearchParams({ words })}`);
    const rows = await response.json();
    if (mine !== searches || !response.ok) return;
    if (!rows.length && !words) return; // nothing is loaded yet
    answered = words;
    found.replaceChildren(...(rows.length ? rows.map((row) => h("li", {}, trackButton(row))) : [h("li", { class: "muted" }, "No track holds these words.")]));
  } catch {
    // the state of the connection is told by the page itself
  }
}

async function pick(row) {
  picked = row;
  const query = new URLSearchParams({ track_id: row.track_id, tenant: row.tenant });
  try {
    const response = await fetch(`/api/similar?${query}`);
    const answer = await response.json();
    if (picked !== row) return;
    detail.replaceChildren(...(response.ok ? track(answer) : [h("p", { class: "error" }, answer.detail)]));
  } catch {
    picked = null;
  }
}

function track({ track: own, similar }) {
  const facts = [own.genre && `${own.genre} (${percent(own.genre_confidence)})`, own.mood, own.listening_context].filter(Boolean);
  return [
    h("h3", {}, own.track_name),
    h("p", { class: "muted" }, [own.artist_name, own.album_name].filter(Boolean).join(" · ")),
    h("p", { class: "facts" }, facts.map((fact) => h("span", { class: "badge calm" }, fact))),
    own.provenance ? h("p", { class: "muted small" }, `Told by ${own.provenance} (${own.model}).`) : null,
    similar.length
      ? h("ol", { class: "similar" }, similar.map((row) =>
          h("li", {}, trackButton(row), h("span", { class: "muted" }, [row.genre, row.mood].filter(Boolean).join(" · ")))))
      : h("p", { class: "muted" }, "No similar tracks are known yet."),
  ].filter(Boolean);
}
