function render({ model, el }) {
  el.classList.add("al-map");
  const parts = model.get("parts");
  const buttons = new Map();
  const lessons = new Map();
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);

  for (const part of parts) {
    el.append(make("h4", { textContent: part.title }));
    const row = make("div", { className: "al-row" });
    for (const lesson of part.lessons) {
      const button = make("button", { type: "button", className: lesson.ready ? "al-ready" : "" });
      button.append(
        make("b", { textContent: lesson.number }),
        make("span", { textContent: lesson.title }),
        make("small", { textContent: lesson.ready ? `${lesson.reading_minutes} min` : "planned" }),
      );
      button.dataset.lesson = lesson.number;
      button.addEventListener("click", () => choose(lesson.number, true));
      row.append(button);
      buttons.set(lesson.number, button);
      lessons.set(lesson.number, lesson);
    }
    el.append(row);
  }
  const says = make("div", { className: "al-says" });
  says.setAttribute("aria-live", "polite");
  el.append(says);

  // the arrow keys walk through the tiles in reading order
  const order = [...buttons.values()];
  el.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = order[order.indexOf(document.activeElement) + step];
    if (next) { next.focus(); choose(next.dataset.lesson, true); }
  });

  function address(file) {
    const here = window.location;
    return here.pathname.includes("/tree/") ? new URL(file, here.href).href : null;
  }

  function choose(number, tell) {
    const lesson = lessons.get(number);
    for (const [other, button] of buttons) {
      button.setAttribute("aria-pressed", String(other === number));
      button.classList.toggle("al-first", !!lesson && lesson.after.includes(other));
    }
    says.replaceChildren();
    if (!lesson) {
      says.append(make("p", { textContent: "Choose a lesson: what it promises, and what to know first, appears here." }));
    } else {
      const first = lesson.after.length ? `First: ${lesson.after.join(", ")}.` : "Needs nothing first.";
      const head = make("p");
      head.append(make("b", { textContent: `${lesson.number} · ${lesson.title}` }));
      says.append(head);
      if (lesson.ready) {
        says.append(make("p", { textContent: lesson.promise }));
        says.append(make("p", { textContent: `${lesson.reading_minutes} minutes, of which the machine computes ${lesson.running}. ${first}` }));
        const url = address(lesson.file);
        const where = make("p");
        where.append(url ? make("a", { href: url, textContent: `Open ${lesson.file}` }) : make("span", { textContent: lesson.file }));
        says.append(where);
      } else {
        says.append(make("p", { textContent: `Planned; not written yet. ${first}` }));
      }
    }
    if (tell) { model.set("chosen", number); model.save_changes(); }
  }
  const fromKernel = () => choose(model.get("chosen"), false);
  model.on("change:chosen", fromKernel);
  choose(model.get("chosen"), false);
  return () => model.off("change:chosen", fromKernel);
}
export default { render };
