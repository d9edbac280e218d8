// Elements and numbers as text: everything that comes from data goes through textContent.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Replaces the content only when it would look different, so that focus and selection stay.
export function show(element, key, make) {
  const text = JSON.stringify(key);
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  element.replaceChildren(...[make()].flat());
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const share = new Intl.NumberFormat("en-US", { style: "percent", maximumFractionDigits: 1 });
const missing = (value) => value === null || value === undefined;

export const number = (value) => (missing(value) ? "–" : whole.format(value));
export const rate = (value) => (missing(value) ? "–" : (value < 100 ? tenths : whole).format(value));
export const percent = (value) => (missing(value) ? "–" : share.format(value));

const day = { day: "numeric", month: "short", timeZone: "UTC" };
const clock = { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC" };
const full = new Intl.DateTimeFormat("en-GB", { ...day, ...clock });
const fullYear = new Intl.DateTimeFormat("en-GB", { ...day, year: "numeric", ...clock });

export function time(iso) {
  if (!iso) return "–";
  const date = new Date(iso);
  const old = Math.abs(Date.now() - date) > 300 * 86400e3;
  return (old ? fullYear : full).format(date);
}

// From - to; the day once when it is the same.
export function span(since, until) {
  const [from, to] = [time(since), time(until)];
  const [sameDay, clockTime] = to.split(/, (?=[^,]*$)/);
  return from.startsWith(sameDay) ? `${from} – ${clockTime}` : `${from} – ${to}`;
}
