"use strict";
// Results are made of text nodes alone: nothing that is found is ever read as markup.
const MOST = 200;
const repositories = [];
const loaded = new Map();
const form = document.getElementById("search");
const words = document.getElementById("words");
const where = document.getElementById("where");
const state = document.getElementById("state");
const results = document.getElementById("results");
let turn = 0;

function mirrorRepositories(several) {
  for (const [name, place] of several) {
    repositories.push({ name, place });
    const option = document.createElement("option");
    option.value = option.textContent = name;
    where.append(option);
  }
  form.hidden = false;
  words.focus();
}

function mirrorIndex(name, entries) {
  loaded.set(name, entries);
}

function load(repository) {
  if (loaded.has(repository.name)) return Promise.resolve();
  return new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = repository.place;
    script.onload = script.onerror = () => { script.remove(); resolve(); };
    document.body.append(script);
  });
}

function excerpt(text, wanted) {
  const lower = text.toLowerCase();
  const found = wanted.map((word) => lower.indexOf(word)).filter((at) => at >= 0);
  const begin = Math.max(0, Math.min(...(found.length ? found : [0])) - 60);
  const end = begin + 220;
  return (begin > 0 ? "…" : "") + text.slice(begin, end) + (end < text.length ? "…" : "");
}

function mark(parent, text, wanted) {
  const lower = text.toLowerCase();
  let at = 0;
  while (at < text.length) {
    let next = -1, length = 0;
    for (const word of wanted) {
      const found = lower.indexOf(word, at);
      if (found >= 0 && (next < 0 || found < next)) { next = found; length = word.length; }
    }
    if (next < 0) break;
    parent.append(text.slice(at, next));
    const marked = document.createElement("mark");
    marked.textContent = text.slice(next, next + length);
    parent.append(marked);
    at = next + length;
  }
  parent.append(text.slice(at));
}

function show(name, [href, kind, title, text], wanted) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = href;
  link.dir = "auto";
  mark(link, title || kind, wanted);
  const about = document.createElement("p");
  about.className = "by";
  about.textContent = `${name} · ${kind}`;
  const body = document.createElement("p");
  body.dir = "auto";
  mark(body, excerpt(text, wanted), wanted);
  item.append(link, about, body);
  results.append(item);
}

async function search() {
  const mine = ++turn;
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  results.replaceChildren();
  if (!wanted.length) { state.textContent = ""; return; }
  let count = 0;
  for (const repository of repositories) {
    if (where.value && where.value !== repository.name) continue;
    state.textContent = `Searching ${repository.name}…`;
    await load(repository);
    if (mine !== turn) return;
    for (const entry of loaded.get(repository.name) || []) {
      const all = `${entry[1]} ${entry[2]} ${entry[3]}`.toLowerCase();
      if (!wanted.every((word) => all.includes(word))) continue;
      if (++count <= MOST) show(repository.name, entry, wanted);
    }
  }
  state.textContent = count === 0 ? "Nothing found." : count === 1 ? "1 page found."
    : count > MOST ? `${count} pages found; the first ${MOST} are shown.` : `${count} pages found.`;
  history.replaceState(null, "", `#${new URLSearchParams({ q: words.value, in: where.value })}`);
}

form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
where.addEventListener("change", search);
window.addEventListener("load", () => {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("q")) { words.value = asked.get("q"); where.value = asked.get("in") || ""; search(); }
});
