"use strict";
const at = (id) => document.getElementById(id);
const most = Number(document.currentScript.dataset.most);
const make = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const row = (field) => {
  const line = make("tr"), isKept = field.outcome === "kept";
  line.append(make("td", field.name));
  line.append(make("td", isKept ? JSON.stringify(field.value) : field.outcome.replaceAll("_", " "), isKept ? "kept" : "dropped"));
  line.append(make("td", field.rule, "soft"));
  return line;
};
const shown = (event) => {
  const box = make("div", undefined, "event"), isKept = event.verdict === "admitted";
  box.append(make("p", event.verdict.replaceAll("_", " "), isKept ? "kept" : "dropped"));
  if (event.fields.length) {
    const table = make("table"), body = make("tbody");
    body.append(...event.fields.map(row));
    table.append(body);
    box.append(table);
  }
  if (event.content && event.content.length) box.append(make("p", `Content, counted and never decoded: ${event.content.join(", ")}`, "soft"));
  if (event.unlisted) box.append(make("p", `${event.unlisted} other members were skipped`, "soft"));
  return box;
};
const results = (found) => {
  if (found.error) return [make("p", found.error, "dropped")];
  const { received, admitted, rejected } = found.tally;
  const why = Object.entries(rejected).map(([reason, times]) => `${times} ${reason.replaceAll("_", " ")}`);
  const dropped = Object.entries(found.tally.dropped || {}).flatMap(([name, reasons]) => Object.entries(reasons).map(([reason, times]) => `${name}: ${times} ${reason.replaceAll("_", " ")}`));
  const parts = [make("p", `${received} received, ${admitted} admitted${why.length ? `; rejected: ${why.join(", ")}` : ""}`)];
  if (dropped.length) parts.push(make("p", `Dropped: ${dropped.join(", ")}`, "soft"));
  parts.push(...found.events.map(shown));
  if (!found.is_whole) parts.push(make("p", `The first ${found.events.length} are shown.`, "soft"));
  return parts;
};
const chip = (text, kind) => make("li", text, `chip ${kind || ""}`);
let lastEvent;
const look = async () => {
  try {
    const state = await (await fetch("/state.json")).json();
    at("schema").textContent = state.schema;
    at("public").href = state.public;
    at("status").href = `${state.public}status`;
    at("curl").textContent = state.curl;
    at("confined").textContent = state.confined ? "the kernel confines" : "this machine's kernel cannot confine";
    const faults = at("faults");
    faults.hidden = !state.faults.length;
    faults.textContent = state.faults.join("\n");
    const chips = [];
    for (const [name, counts] of Object.entries(state.now ? state.now.events : {})) {
      chips.push(chip(`${name}: ${counts.received} events/s`), chip(`${counts.admitted} records/s`, "holds"));
      for (const [reason, times] of Object.entries(counts.rejected)) if (times) chips.push(chip(`${times} ${reason.replaceAll("_", " ")}/s`, "amended"));
    }
    at("counts").replaceChildren(...chips);
    if (state.latest && state.latest.text !== lastEvent) {
      lastEvent = state.latest.text;
      at("event").textContent = lastEvent;
      at("latest").replaceChildren(...state.latest.found.events.map(shown));
    }
  } catch {
    at("counts").replaceChildren(chip("collector dev has ended", "broken"));
  }
  setTimeout(look, 1000);
};
const isRefused = (text) => {
  const isTooLong = new Blob([text]).size > most;
  if (isTooLong) at("told").replaceChildren(make("p", `the playground takes ${most.toLocaleString("en")} bytes at most`, "dropped"));
  return isTooLong;
};
// A browser may take minutes to lay out a very long text, so such a text never gets into the field.
at("text").addEventListener("beforeinput", (input) => {
  const { value, selectionStart, selectionEnd } = input.target;
  const added = input.data ?? input.dataTransfer?.getData("text/plain") ?? "";
  if (added && isRefused(value.slice(0, selectionStart) + added + value.slice(selectionEnd))) input.preventDefault();
});
at("try").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const text = at("text").value, told = at("told");
  if (isRefused(text)) return;
  try {
    const answer = await fetch(`/try?${at("form").value}`, { method: "POST", body: text });
    told.replaceChildren(...results(await answer.json()));
  } catch {
    told.replaceChildren(make("p", "collector dev has ended", "dropped"));
  }
});
look();
