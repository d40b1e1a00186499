"use strict";
// Ties a line of the event to its thread and its place in the record; arrow keys move between lines.
for (const pipe of document.querySelectorAll(".pipe")) {
  const parts = [...pipe.querySelectorAll("[data-fields]")];
  const lines = [...pipe.querySelectorAll("li.line")];
  const fields = (part) => part.dataset.fields.split(" ").filter(Boolean);
  const tie = (line) => {
    const names = line ? fields(line) : [];
    for (const part of parts) {
      part.classList.toggle("tied", part !== line && fields(part).some((name) => names.includes(name)));
    }
  };
  for (const line of lines) {
    line.addEventListener("focus", () => tie(line));
    line.addEventListener("mouseenter", () => tie(line));
    line.addEventListener("blur", () => tie(null));
    line.addEventListener("mouseleave", () => tie(document.activeElement.matches("li.line") ? document.activeElement : null));
    line.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const next = step && lines[lines.indexOf(line) + step];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    });
  }
}
for (const change of ["beforeprint", "afterprint"]) {
  window.addEventListener(change, () => {
    for (const each of document.querySelectorAll("details")) each.open = change === "beforeprint";
  });
}
