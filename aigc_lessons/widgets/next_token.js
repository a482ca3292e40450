// The logits arrive once for each context; the controls only redraw. The kernel is asked when a token is appended or removed.
const SHOWN = 20;
const ENDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

const percent = (p) => (p > 0 && p < 0.00005 ? "< 0.01 %" : `${(100 * p).toFixed(2)} %`);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// where the slider of top-k can stand: every small number, fewer large ones, and off
function stopsFor(V) {
  const all = [...Array(10).keys()].map((k) => k + 1).concat([12, 15, 20, 25, 30, 40, 50, 60, 80]);
  for (let ten = 100; ten < V; ten *= 10) all.push(ten, 1.5 * ten, 2 * ten, 3 * ten, 5 * ten, 7.5 * ten);
  return [...all.filter((k) => k < V), null];
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function render({ model, el }) {
  const texts = model.get("texts"), V = texts.length, stops = stopsFor(V);
  el.classList.add("al-next");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ the text, and what can be done with it
  const text = make("div", "al-text");
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "The text so far; what was added to the prompt is underlined");
  text.tabIndex = 0; // long texts scroll
  const written = make("mark");
  text.append(make("span", "", model.get("prompt")), written, make("i", "al-caret"));
  const buttons = make("div", "al-buttons");
  const button = (words, act) => {
    const made = make("button", "", words);
    made.type = "button";
    made.addEventListener("click", act);
    buttons.append(made);
    return made;
  };
  button("Draw a token", draw).classList.add("al-main");
  const undo = button("Undo", () => ask(answer.added.slice(0, -1), `Removed ${texts[answer.added.at(-1)]}.`));
  const restart = button("Start over", startOver);
  const seed = Object.assign(make("input"), { type: "number", min: 0, step: 1 });
  const seedLabel = make("label", "", "seed ");
  seedLabel.append(seed);
  const says = make("span", "al-says");
  says.setAttribute("role", "status");
  buttons.append(seedLabel, says);

  // ------------------------------------------------------------------ the controls
  const controls = make("div", "al-controls");
  const sliders = [
    slider("temperature", "Temperature", 0, 40, (at) => at / 20, (T) => Math.round(20 * T), (T) => (T === 0 ? "0, greedy" : T.toFixed(2))),
    slider("top_k", "Top-k", 0, stops.length - 1, (at) => stops[at],
      (k) => (k === null ? stops.length - 1 : stops.findLastIndex((stop) => stop !== null && stop <= k)), (k) => (k === null ? "off" : String(k))),
    slider("top_p", "Top-p", 1, 100, (at) => (at === 100 ? null : at / 100), (p) => Math.round(100 * (p ?? 1)), (p) => (p === null ? "off" : p.toFixed(2))),
  ];
  function slider(name, words, min, max, value, place, say) {
    const input = Object.assign(make("input"), { type: "range", min, max, step: 1 });
    input.dataset.control = name;
    const label = make("label"), shown = make("b");
    const head = make("span");
    head.append(make("span", "", words), shown);
    label.append(head, input);
    controls.append(label);
    input.setAttribute("aria-label", words);
    const one = {
      name,
      value: null,
      show() {
        input.value = place(one.value);
        shown.textContent = say(one.value);
        input.setAttribute("aria-valuetext", say(one.value));
      },
    };
    input.addEventListener("input", () => { one.value = value(+input.value); one.show(); paint(); settle(); });
    return one;
  }

  // ------------------------------------------------------------------ the bars
  const stats = make("p", "al-stats");
  stats.setAttribute("aria-live", "polite");
  const head = make("div", "al-line al-head");
  const axis = make("span", "al-axis");
  const ticks = [0, 1, 2, 3, 4].map(() => axis.appendChild(make("span")));
  head.append(make("span"), make("span", "al-token", "token"), axis, make("span", "al-number", "before"), make("span", "al-number", "after"));
  const list = make("ol", "al-bars");
  list.setAttribute("aria-label", "The likeliest next tokens; Enter appends one, the arrow keys go from one to the next");
  const rows = Array.from({ length: Math.min(SHOWN, V) }, (_, rank) => {
    const row = make("button", "al-line");
    row.type = "button";
    row.tabIndex = rank ? -1 : 0;
    const parts = ["al-rank", "al-token", "al-track", "al-number", "al-number al-now"].map((name) => row.appendChild(make("span", name)));
    parts[0].textContent = rank + 1;
    const before = parts[2].appendChild(make("i", "al-before")), after = parts[2].appendChild(make("i", "al-after"));
    row.addEventListener("click", () => append(answer.order[rank], `Appended ${texts[answer.order[rank]]}.`));
    list.appendChild(make("li")).append(row);
    return { row, token: parts[1], before, after, was: parts[3], now: parts[4] };
  });
  list.addEventListener("keydown", (event) => {
    const at = rows.findIndex(({ row }) => row === event.target);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined || at < 0) return;
    event.preventDefault();
    rows[next]?.row.focus();
  });
  list.addEventListener("focusin", (event) => rows.forEach(({ row }) => { row.tabIndex = row === event.target ? 0 : -1; }));
  const others = make("div", "al-line al-others");
  const otherParts = ["", "al-rest", "al-number", "al-number al-now"].map((name) => others.appendChild(make("span", name)));
  const legend = make("p", "al-legend");
  for (const [mark, words] of [["al-before", "before: temperature 1, no filter"], ["al-after", "after the controls"], ["al-before al-out", "out: excluded"]]) {
    legend.append(make("i", mark), make("span", "", words));
  }
  legend.append(make("span", "al-context"));
  el.append(text, buttons, controls, stats, head, list, ...(V > SHOWN ? [others] : []), legend);

  // ------------------------------------------------------------------ drawing
  let answer = null, probabilities = null;

  function receive() {
    const { added, written: words, context, logits: raw } = model.get("answer");
    const logits = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
    const before = softmax(logits);
    answer = { added, logits, before, order: ranked(logits), entropy: entropy(before) };
    written.textContent = words;
    text.scrollTop = text.scrollHeight;
    undo.disabled = !added.length;
    restart.disabled = !added.length && !model.get("draws");
    const [seen, all] = context;
    legend.lastChild.textContent = seen < all ? `The model sees the last ${seen} of ${all} tokens.` : `The model sees all ${plural(all, "token")}.`;
    rows.forEach(({ token, was }, rank) => {
      const id = answer.order[rank];
      token.textContent = token.title = texts[id];
      was.textContent = percent(before[id]);
    });
    paint();
  }

  function paint() {
    const [temperature, topK, topP] = sliders.map((one) => one.value);
    const kept = filterLogits(answer.logits, temperature, topK, topP), { before, order } = answer;
    const after = (probabilities = softmax(kept));
    const largest = Math.min(1, Math.max(before[order[0]], after[order[0]]));
    const end = ENDS.find((one) => one >= largest);
    ticks.forEach((tick, k) => { tick.textContent = `${+(25 * k * end).toFixed(3)} %`; });
    let wasShown = 0, nowShown = 0, keptShown = 0;
    rows.forEach((bar, rank) => {
      const id = order[rank], inside = kept[id] > -Infinity;
      bar.before.style.width = `${(100 * before[id]) / end}%`;
      bar.after.style.width = `${(100 * after[id]) / end}%`;
      bar.now.textContent = inside ? percent(after[id]) : "out";
      bar.row.classList.toggle("al-out", !inside);
      bar.row.setAttribute("aria-label", `Append ${texts[id]}, ${inside ? percent(after[id]) : "out"}, before ${percent(before[id])}`);
      wasShown += before[id];
      nowShown += after[id];
      keptShown += inside;
    });
    const remain = kept.reduce((n, l) => n + (l > -Infinity), 0);
    stats.replaceChildren(make("b", "", `${remain} of ${plural(V, "token")} remain${remain === 1 ? "s" : ""}`),
      ` · entropy ${answer.entropy.toFixed(2)} → `, make("b", "", `${entropy(after).toFixed(2)} nats`));
    const more = V - rows.length;
    otherParts[1].textContent = `${plural(more, "other")}, ${remain - keptShown} of them in`;
    otherParts[2].textContent = percent(Math.max(0, 1 - wasShown));
    others.classList.toggle("al-out", remain === keptShown);
    otherParts[3].textContent = remain > keptShown ? percent(Math.max(0, 1 - nowShown)) : "out";
  }

  // ------------------------------------------------------------------ asking the kernel
  let rest = null, patience = null, waiting = null;
  function settle() { // a message for each move of a slider would slow the painting
    clearTimeout(rest);
    rest = setTimeout(() => {
      for (const one of sliders) model.set(one.name, one.value);
      model.save_changes();
    }, 300);
  }
  function ask(added, words) {
    waiting = words;
    el.setAttribute("aria-busy", "true");
    patience = setTimeout(() => { says.textContent = "Waiting for the kernel …"; }, 400);
    model.set("added", added);
    model.save_changes();
  }
  function append(id, words) {
    if (waiting === null) ask([...answer.added, id], words); // until the answer is there, the bars belong to the old context
  }
  function draw() {
    if (waiting !== null) return;
    const n = model.get("draws"), id = pick(probabilities, uniform(model.get("seed"), n));
    model.set("draws", n + 1);
    append(id, `Draw ${n + 1}: ${texts[id]}, it had ${percent(probabilities[id])}.`);
  }
  function startOver() {
    model.set("draws", 0);
    if (answer.added.length) ask([], "Back at the prompt.");
    else { model.save_changes(); receive(); }
  }
  seed.addEventListener("change", () => {
    model.set("seed", Math.trunc(+seed.value) || 0);
    model.set("draws", 0);
    model.save_changes();
    seed.value = model.get("seed");
  });

  const answered = () => {
    clearTimeout(patience);
    says.textContent = waiting ?? "";
    waiting = null;
    el.removeAttribute("aria-busy");
    receive();
  };
  const fromKernel = (one) => () => { // each control alone: the others may have moved since they were last sent
    if (one.value === model.get(one.name)) return;
    one.value = model.get(one.name);
    one.show();
    paint();
  };
  const seedFromKernel = () => { seed.value = model.get("seed"); };
  const heard = [["change:answer", answered], ["change:seed", seedFromKernel], ...sliders.map((one) => [`change:${one.name}`, fromKernel(one)])];
  for (const [event, act] of heard) model.on(event, act);
  for (const one of sliders) { one.value = model.get(one.name); one.show(); }
  seedFromKernel();
  receive();
  return () => {
    clearTimeout(rest);
    clearTimeout(patience);
    for (const [event, act] of heard) model.off(event, act);
  };
}
export default { render };
