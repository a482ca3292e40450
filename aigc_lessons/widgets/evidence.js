// A text is taken apart: for the network each character has a part in the answer, for the bag of words each word. The network
// runs here, window by window; what has been read is kept, so that typing at the end reads one window again, from the change on.
const BUDGET = 11; // milliseconds of reading between two pictures
const NAMES_ = ["text", "reader", "sure"];
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

// as `windows` in data/plays.py
export function cut(text, width, alphabet) {
  const found = [];
  for (const line of [...text].filter((c) => alphabet.has(c)).join("").split("\n").filter((line) => line)) {
    const last = found.length - 1;
    if (last >= 0 && found[last].length + 1 + line.length <= width) found[last] += "\n" + line;
    else found.push(line.slice(0, width));
  }
  return found;
}

// as `word_evidence`: [word, its part] in order
export function wordParts(text, words) {
  const said = text.match(/[A-Za-z']+/g) ?? [], counts = new Map(), value = new Map();
  for (const word of said.map((w) => w.toLowerCase())) if (words.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
  let square = 0;
  for (const [word, n] of counts) {
    const x = (1 + Math.log(n)) * words.get(word)[0];
    value.set(word, x);
    square += x * x;
  }
  const length = Math.sqrt(square) || 1;
  return said.map((w) => {
    const word = w.toLowerCase();
    return [w, counts.has(word) ? (value.get(word) / length) * words.get(word)[1] / counts.get(word) : 0];
  });
}

// reads windows, a character at a time: scores[k] holds w . h for the characters of window k
export class Reader {
  constructor(sizes, weights, alphabet) {
    this.net = new GPT(sizes, weights);
    this.net.V = 1; // its head is one row
    this.numbers = new Map([...alphabet].map((c, i) => [c, i]));
    this.kept = new Map();
    this.last = "";
    this.begin([]);
  }

  begin(windows) {
    this.windows = windows;
    this.scores = windows.map((window) => this.kept.get(window) ?? null);
  }

  get done() { return this.scores.every((score) => score?.length); }

  step() {
    const k = this.scores.findIndex((score) => !score?.length), window = this.windows[k];
    if (this.window !== window) { // another window: keep what begins alike
      let same = 0;
      while (same < Math.min(this.net.length, window.length, this.last.length) && window[same] === this.last[same]) same++;
      this.half = (this.window !== undefined ? this.half : []).slice(0, same);
      this.net.cut(same);
      this.window = window;
      this.last = window;
    }
    if (this.half.length < window.length) this.half.push(this.net.read(this.numbers.get(window[this.half.length]))[0]);
    if (this.half.length === window.length) {
      this.scores[k] = [...this.half];
      if (this.kept.size > 200) this.kept.clear();
      this.kept.set(window, this.scores[k]);
      for (let j = k + 1; j < this.windows.length; j++) this.scores[j] ??= this.kept.get(this.windows[j]) ?? null;
    }
  }
}

// how many are answered when only answers at least this sure count: counts[label][said]
export function decided(chances, labels, sure) {
  const counts = [[0, 0], [0, 0]];
  chances.forEach((p, i) => { if (Math.max(p, 1 - p) >= sure) counts[labels[i]][p > 0.5 ? 1 : 0]++; });
  return counts;
}

// words change places, lines keep their numbers of words; the same seed, the same order
export function shuffled(text, seed) {
  const words = text.split(/\s+/).filter((w) => w);
  let state = (seed + 1) * 2654435761 % 4294967296;
  for (let i = words.length - 1; i > 0; i--) {
    state = (1664525 * state + 1013904223) % 4294967296;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [words[i], words[j]] = [words[j], words[i]];
  }
  return text.split("\n").map((line) => words.splice(0, line.split(/\s+/).filter((w) => w).length).join(" ")).join("\n");
}

export function withoutNames(text, names) {
  return text.replace(/[A-Za-z']+/g, (word) => (names.has(word) ? "" : word)).replace(/ {2,}/g, " ").replace(/ +([,.;:!?])/g, "$1").replace(/^[ ,]+/gm, "");
}

function render({ model, el }) {
  const given = model.get("given"), raw = given.weights, kinds = given.kinds;
  const weights = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const reader = new Reader(given.sizes, weights, given.alphabet), alphabet = new Set(given.alphabet);
  const words = new Map(Object.entries(given.words)), names = new Set(given.names);
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  el.classList.add("al-evidence");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  const top = make("div", "al-row"), chooser = make("select"), choose = make("label", "", "passage ");
  for (const name of Object.keys(given.examples)) chooser.append(new Option(name, name));
  choose.append(chooser);
  top.append(choose);
  let turn = 0;
  const button = (label, act) => {
    const one = make("button", "", label);
    one.type = "button";
    one.addEventListener("click", () => { area.value = act(area.value); changed(); });
    top.append(one);
  };
  button("original", () => given.examples[chooser.value]);
  button("shuffle words", (text) => shuffled(text, turn++));
  button("no names", (text) => withoutNames(text, names));
  chooser.addEventListener("change", () => { area.value = given.examples[chooser.value]; changed(); });

  const area = Object.assign(make("textarea"), { rows: 9, spellcheck: false });
  area.setAttribute("aria-label", "The passage, to be edited");
  area.addEventListener("input", changed);
  const page = make("div", "al-page");
  page.setAttribute("role", "region");
  page.setAttribute("aria-label", "The passage with its evidence");
  page.tabIndex = 0;
  const two = make("div", "al-two");
  two.append(area, page);

  const bars = make("div", "al-bars"), shown = {};
  for (const [name, title] of [["network", "network"], ["words", "bag of words"]]) {
    const row = make("label", "al-bar"), pick = Object.assign(make("input"), { type: "radio", name: `al-reader-${Math.random()}`, value: name });
    const track = make("span", "al-track"), bar = make("i"), number = make("b");
    track.append(bar);
    row.append(pick, make("span", "", title), track, number);
    bars.append(row);
    pick.addEventListener("change", () => { for (const other of Object.values(shown)) other.pick.checked = other.pick === pick; paint(); settle(); });
    shown[name] = { pick, bar, number };
  }
  const legend = make("p", "al-legend");
  legend.append(make("span", "al-c2", "abc"), make("span", "", `speaks for ${kinds[0]} (dotted)`), make("span", "al-h2", "abc"),
    make("span", "", `speaks for ${kinds[1]} (solid line); darker is stronger`));
  const says = make("p", "al-verdict");
  says.setAttribute("aria-live", "polite");

  const slide = make("label", "al-slide"), input = Object.assign(make("input"), { type: "range", min: 50, max: 99, step: 1 });
  input.setAttribute("aria-label", "Answer only when at least this sure");
  const level = make("b"), table = make("table"), total = make("span", "al-total");
  slide.append(make("span", "", "answer only when at least this sure: "), level, input);
  input.addEventListener("input", () => { paintTest(); settle(); });
  const cells = [[], []], header = make("tr");
  header.append(make("th"), ...kinds.map((kind) => make("th", "", `called ${kind}`)));
  table.append(header);
  kinds.forEach((kind, k) => {
    const row = make("tr");
    row.append(make("th", "", kind));
    for (let j = 0; j < 2; j++) { cells[k][j] = make("td"); row.append(cells[k][j]); }
    table.append(row);
  });
  const foot = make("div", "al-foot"), right = make("div");
  right.append(slide, total);
  foot.append(table, right);
  el.append(top, two, legend, bars, says, foot);

  let frame = null, rest = null, before = {};
  const active = () => (shown.network.pick.checked ? "network" : "words");

  function changed() {
    cancelAnimationFrame(frame);
    reader.begin(cut(area.value, given.width, alphabet));
    go();
  }

  function go() {
    const until = performance.now() + BUDGET;
    while (!reader.done && performance.now() < until) reader.step();
    if (reader.done) { paint(); settle(); } else { says.textContent = "reading …"; frame = requestAnimationFrame(go); }
  }

  function mark(span, part, scale) {
    const level = Math.min(3, Math.floor((3.999 * Math.abs(part)) / scale));
    span.className = level ? `al-${part > 0 ? "h" : "c"}${level}` : "";
    span.title = `${part > 0 ? kinds[1] : kinds[0]} ${Math.abs(part).toFixed(4)}`;
  }

  function paint() {
    const count = reader.scores.reduce((n, score) => n + score.length, 0), bag = wordParts(area.value, words);
    const z = { network: count ? given.bias + reader.scores.flat().reduce((a, b) => a + b, 0) / count : null,
      words: given.intercept + bag.reduce((a, [, part]) => a + part, 0) };
    const chance = {};
    for (const [name, one] of Object.entries(shown)) {
      chance[name] = z[name] === null ? null : sigmoid(z[name]);
      one.number.textContent = chance[name] === null ? "nothing to read" : `${kinds[1]} ${(100 * chance[name]).toFixed(1)} %`;
      one.bar.style.width = `${100 * (chance[name] ?? 0.5)}%`;
    }
    page.replaceChildren();
    if (active() === "network") {
      const parts = reader.scores.flat(), sizes = parts.map(Math.abs).sort((a, b) => a - b), scale = sizes[Math.floor(0.95 * sizes.length)] || 1;
      reader.windows.forEach((window, k) => {
        [...window].forEach((c, i) => {
          const span = make("span", "", c);
          mark(span, reader.scores[k][i] / count, scale / count);
          page.append(span);
        });
        page.append("\n");
      });
    } else {
      const scale = Math.max(1e-9, ...bag.map(([, part]) => Math.abs(part)));
      let at = 0;
      for (const [word, part] of bag) {
        const start = area.value.indexOf(word, at);
        page.append(area.value.slice(at, start));
        const span = make("span", "", word);
        mark(span, part, scale);
        page.append(span);
        at = start + word.length;
      }
      page.append(area.value.slice(at));
    }
    says.textContent = verdict(chance, before, kinds);
    before = chance;
    el.dataset.done = `${+(el.dataset.done ?? 0) + 1}`;
    paintTest();
  }

  function paintTest() {
    const sure = +input.value / 100, counts = decided(given.chances[active()], given.labels, sure);
    level.textContent = `${input.value} %`;
    input.setAttribute("aria-valuetext", `${input.value} %`);
    counts.forEach((row, k) => row.forEach((n, j) => {
      cells[k][j].textContent = n;
      cells[k][j].className = k === j ? "al-ok" : "al-no";
    }));
    const all = given.labels.length, answered = counts.flat().reduce((a, b) => a + b, 0), good = counts[0][0] + counts[1][1];
    const reader_ = active() === "network" ? "network" : "bag of words";
    total.textContent = `${reader_}, ${all} test passages: answers ${answered} (${Math.round((100 * answered) / all)} %), ` +
      (answered ? `right in ${good} (${((100 * good) / answered).toFixed(1)} %)` : "nothing left to be right about");
  }

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set({ text: area.value, reader: active(), sure: +input.value / 100, said: before });
      model.save_changes();
    }, 200);
  }

  const fromKernel = () => {
    area.value = model.get("text");
    for (const [name, one] of Object.entries(shown)) one.pick.checked = name === model.get("reader");
    input.value = Math.round(100 * model.get("sure"));
  };
  const heard = () => {
    if (area.value === model.get("text") && active() === model.get("reader") && +input.value === Math.round(100 * model.get("sure"))) return;
    fromKernel();
    changed();
  };
  for (const name of NAMES_) model.on(`change:${name}`, heard);
  fromKernel();
  changed();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(rest);
    for (const name of NAMES_) model.off(`change:${name}`, heard);
  };
}

// what has happened, in words
export function verdict(chance, before, kinds) {
  if (chance.network === null) return "There is nothing to read: type something, or press original.";
  const said = (p) => kinds[p > 0.5 ? 1 : 0];
  const agree = said(chance.network) === said(chance.words) ? `Both say ${said(chance.network)}.` : `They disagree: the network says ${said(chance.network)}, the bag of words ${said(chance.words)}.`;
  if (before.network == null) return agree;
  const moved = (name) => 100 * (chance[name] - before[name]), text = (x) => `${x > 0 ? "+" : "−"}${Math.abs(x).toFixed(1)}`;
  const [a, b] = [moved("network"), moved("words")];
  if (Math.abs(a) < 0.05 && Math.abs(b) < 0.05) return agree;
  return `${agree} The change moved the network by ${text(a)} points, the bag of words by ${Math.abs(b) < 0.05 ? "nothing" : `${text(b)} points`}.`;
}
export default { render };
