
"use strict";
// Whatever comes from the index is put on the page as text (textContent), never as markup.
const at = (id) => document.getElementById(id);
const form = at("form"), box = at("query"), count = at("count"), status = at("status");
const results = at("results"), tokenForm = at("token-form"), tokenBox = at("token");
const SNIPPET = 280;
let token = "";
let asking = null;
let documents = null;

function made(tag, { text, kind, children = [], ...more } = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function headers() {
  const all = { "Content-Type": "application/json" };
  if (token) all.Authorization = `Bearer ${token}`;
  return all;
}

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function search(query) {
  if (asking) asking.abort();
  const mine = asking = new AbortController();
  const began = performance.now();
  say("Searching …");
  results.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch("search", {
      method: "POST", headers: headers(), signal: mine.signal,
      body: JSON.stringify(
        { queries: [query], k: Number(count.value), with_text: true, explain: true }),
    });
    const found = await answer.json();
    if (answer.status === 401) {
      tokenForm.hidden = false;
      tokenBox.focus();
      say(token ? "The token is wrong." : "A token is wanted.", true);
      results.replaceChildren();
      return;
    }
    if (!answer.ok) throw new Error(found.error || `The server answers ${answer.status}.`);
    tokenForm.hidden = true;
    show(query, found, performance.now() - began);
  } catch (error) {
    if (error.name === "AbortError") return;
    results.replaceChildren();
    say(error instanceof TypeError ? "The server does not answer." : error.message, true);
  } finally {
    if (asking === mine) results.removeAttribute("aria-busy");
  }
}

async function countDocuments(version) {
  if (documents && documents.version === version) return documents.documents;
  try {
    documents = await (await fetch("version", { headers: headers() })).json();
  } catch {
    return null;
  }
  return documents.documents;
}

async function show(query, found, milliseconds) {
  const [{ hits, known }] = found.results;
  results.replaceChildren(...hits.map((hit) => card(query, hit)));
  const line = (total) => [
    `${hits.length} ${hits.length === 1 ? "result" : "results"}`
      + (total ? ` of ${total.toLocaleString("en")} documents` : ""),
    `${milliseconds.toFixed(0)} ms (search ${(found.seconds * 1000).toFixed(0)} ms)`,
    `version ${found.version}`,
    ...(known ? [] : ["no word of this query is known: the order says nothing"]),
  ].join(" · ");
  say(line(null));
  const total = await countDocuments(found.version);
  if (status.textContent === line(null)) say(line(total));
}

function card(query, hit) {
  const parts = hit.explanation;
  const found = needles(query, parts);
  const children = [
    made("h2", { children: marked(hit.title || hit.doc_id, found) }),
    made("p", { kind: "id", text: hit.doc_id }),
    made("p", { kind: "snippet", children: snippet(hit.text || "", found) }),
    details(hit, parts, (hit.text || "").length <= SNIPPET),
  ];
  return made("li", { kind: "hit", tabindex: "-1", children });
}

// Words of the query, and stems of those that the document shares with it.
function needles(query, parts) {
  const words = query.toLowerCase().match(/[\p{L}\p{N}_]+/gu) || [];
  const stems = parts.terms.filter((term) => term.weight > 0)
    .flatMap((term) => term.term.toLowerCase().split(" "));
  return {
    whole: new Set(words.filter((word) => word.length > 1)),
    stems: [...new Set(stems)].filter((stem) => stem.length > 1),
  };
}

// Scripts without blanks have no words to compare: the signs themselves are found.
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;

function places(text, { whole, stems }) {
  const found = [];
  for (const match of text.matchAll(/[\p{L}\p{N}_]+/gu)) {
    const word = match[0].toLowerCase();
    if (UNSPACED.test(word)) {
      for (const stem of stems) {
        for (let i = word.indexOf(stem); i >= 0; i = word.indexOf(stem, i + 1)) {
          found.push([match.index + i, match.index + i + stem.length]);
        }
      }
    } else if (whole.has(word)
        || stems.some((stem) => word.startsWith(stem) && word.length <= stem.length + 4)) {
      found.push([match.index, match.index + match[0].length]);
    }
  }
  found.sort((one, other) => one[0] - other[0]);
  return found.reduce((kept, [start, end]) => {
    const last = kept[kept.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else kept.push([start, end]);
    return kept;
  }, []);
}

function marked(text, found) {
  const nodes = [];
  let done = 0;
  for (const [start, end] of places(text, found)) {
    nodes.push(document.createTextNode(text.slice(done, start)));
    nodes.push(made("mark", { text: text.slice(start, end) }));
    done = end;
  }
  nodes.push(document.createTextNode(text.slice(done)));
  return nodes;
}

// The part of the text in which the most words of the query stand.
function snippet(text, found) {
  const there = places(text, found);
  let best = 0, most = 0;
  there.forEach(([start], i) => {
    const inside = there.slice(i).filter(([, end]) => end <= start + SNIPPET).length;
    if (inside > most) [best, most] = [start, inside];
  });
  let from = Math.max(0, best - 60);
  if (from) from = text.indexOf(" ", from) >= 0 ? text.indexOf(" ", from) + 1 : from;
  if (from > best) from = best;
  if (text.length <= SNIPPET) from = 0;
  let to = Math.min(text.length, from + SNIPPET);
  if (to < text.length) to = Math.max(text.lastIndexOf(" ", to), from + SNIPPET / 2);
  return [
    document.createTextNode(from ? "… " : ""),
    ...marked(text.slice(from, to), found),
    document.createTextNode(to < text.length ? " …" : ""),
  ];
}

const signed = (number, digits) => number.toFixed(digits).replace("-", "−");

function details(hit, parts, whole) {
  const summary = made("summary", { children: [
    "Score ", made("b", { text: signed(hit.score, 2) }), " = ",
    made("span", { kind: "words", text: `words ${signed(parts.words, 2)}` }), " + ",
    made("span", { kind: "code", text: `identifier ${signed(parts.identifier, 2)}` }),
  ] });
  return made("details", { children: [
    summary, breakdown(parts),
    ...(whole ? [] : [made("p", { kind: "text", text: hit.text })]),
  ] });
}

function row(kind, cells) {
  return made("tr", { children: cells.map((text, place) => made("td", {
    text, kind: [place === 0 ? kind : "", place === 2 ? "how" : "", place === 3 ? "number" : ""]
      .join(" ").trim(),
  })) });
}

function breakdown(parts) {
  const several = parts.paths.length > 1;
  const lines = parts.terms.map((term) => row("words", [
    "word", term.term, `${term.count} × ${term.weight.toFixed(3)}`, signed(term.adds, 3),
  ]));
  parts.paths.forEach((path, which) => path.steps.forEach((step, place) => lines.push(row("code", [
    several ? `code ${which + 1}.${place + 1}` : `code ${place + 1}`, String(step.code),
    `rank ${step.rank} of ${step.codes}, logit ${signed(step.logit, 3)}`,
    several ? "" : signed(step.adds, 3),
  ]))));
  if (several) {
    lines.push(row("code", ["identifiers", "", "sum of their probabilities",
      signed(parts.identifier, 3)]));
  }
  const titles = ["Part", "What", "How", "Adds"].map((text, place) => made("th", {
    text, scope: "col", kind: ["", "", "how", "number"][place],
  }));
  const sum = made("tr", { children: [
    made("td", { text: "Score" }), made("td"), made("td", { kind: "how" }),
    made("td", { kind: "number", text: signed(parts.score, 3) }),
  ] });
  return made("table", { children: [
    made("caption", { text: "What the score is made of" }),
    made("thead", { children: [made("tr", { children: titles })] }),
    made("tbody", { children: lines }), made("tfoot", { children: [sum] }),
  ] });
}

function ask(remember = true) {
  const query = box.value.trim();
  if (!query) return;
  if (remember) {
    const asked = new URLSearchParams({ q: query, k: count.value });
    history.replaceState(null, "", `?${asked}`);
    document.title = `${query} · Search`;
  }
  search(query);
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
count.addEventListener("change", () => ask());
tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  token = tokenBox.value.trim();
  tokenBox.value = "";
  box.focus();
  ask();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const here = document.activeElement;
  const typing = here === tokenBox || here === count;
  const hits = [...results.children];
  const now = hits.findIndex((hit) => hit.contains(here));
  if (event.key === "/" && here !== box && !typing) {
    box.focus();
    box.select();
  } else if (event.key === "Escape" && here !== box) {
    box.focus();
  } else if (event.key === "ArrowDown" && !typing && now + 1 < hits.length) {
    hits[now + 1].focus();
  } else if (event.key === "ArrowUp" && now >= 0) {
    (now ? hits[now - 1] : box).focus();
  } else if (event.key === "Enter" && hits.includes(here)) {
    const parts = here.querySelector("details");
    parts.open = !parts.open;
  } else {
    return;
  }
  event.preventDefault();
});

const asked = new URLSearchParams(location.search);
if (asked.get("k") && [...count.options].some((each) => each.value === asked.get("k"))) {
  count.value = asked.get("k");
}
if (asked.get("q")) {
  box.value = asked.get("q");
  ask(false);
}
