// Keys, theme, rows that open. Everything works without this file; it only makes it quicker.
const $ = (selector, root = document) => root.querySelector(selector);

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* storage may be shut off */ }
}

function recalled(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function turnTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  remember("peira-theme", root.dataset.theme);
}

// -- rows -------------------------------------------------------------------------------
const rows = () => [...document.querySelectorAll("tr[data-href], article.said")].filter((row) => row.offsetParent !== null);

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("here"));
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))];
  all.forEach((row) => row.classList.remove("here"));
  next.classList.add("here");
  next.scrollIntoView({ block: "nearest" });
}

function open() {
  const row = $("tr.here");
  if (row) location.href = row.dataset.href;
}

document.addEventListener("click", (event) => {
  if (event.target.closest("a, button, input, select, textarea, label, summary, details")) return;
  const row = event.target.closest("tr[data-href]");
  if (row && !String(getSelection())) location.href = row.dataset.href;
});

// -- private thoughts ---------------------------------------------------------------------
function showThoughts(on) {
  document.body.classList.toggle("thinking", on);
  remember("peira-thoughts", on ? "1" : "");
}

const thoughts = $("#thoughts");
if (thoughts) {
  thoughts.checked = recalled("peira-thoughts") === "1";
  document.body.classList.toggle("thinking", thoughts.checked);
  thoughts.addEventListener("change", () => showThoughts(thoughts.checked));
}

// -- keys ---------------------------------------------------------------------------------
const follow = (selector) => { const link = $(selector); if (link) link.click(); };
const keys = {
  j: () => step(1),
  k: () => step(-1),
  Enter: open,
  "/": () => { const field = $("input[type=search]"); if (field) { field.focus(); field.select(); } },
  n: () => follow("a[rel=next]"),
  p: () => follow("a[rel=prev]"),
  u: () => { const links = document.querySelectorAll("a[rel=up], .crumbs a"); const last = [...links].filter((a) => a.pathname !== location.pathname).pop(); location.href = last ? last.href : "/"; },
  d: turnTheme,
  t: () => { if (thoughts) { thoughts.checked = !thoughts.checked; showThoughts(thoughts.checked); } },
  "?": () => { const help = $("#help"); help.open ? help.close() : help.showModal(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});

$("#theme").addEventListener("click", turnTheme);
$("#keys").addEventListener("click", keys["?"]);

// -- live ---------------------------------------------------------------------------------
document.body.addEventListener("htmx:sseOpen", () => document.body.classList.remove("lost"));
document.body.addEventListener("htmx:sseError", () => document.body.classList.add("lost"));

// What is not filtered by is left out of the address.
document.body.addEventListener("htmx:configRequest", (event) => {
  if (event.target.id !== "filters") return;
  const asked = event.detail.parameters;
  for (const name of Object.keys(asked)) if (asked[name] === "") delete asked[name];
});
