// The network itself runs here: its weights arrive once, and a text is written anew whenever a control moves. What a control
// does not change is not computed again: logits are kept, and the writing goes on from the first letter that differs.
const NAMES = ["temperature", "top_k", "top_p", "min_p", "penalty", "seed", "prompt"];
const BUDGET = 11; // milliseconds of writing between two pictures
const LEVELS = [0.5, 1.5, 3]; // nats: where a letter becomes noticed, surprising, very surprising

// share of the stretches of n letters that stood in the text before
export function repeated(text, n) {
  const stretches = Array.from({ length: Math.max(0, text.length - n + 1) }, (_, i) => text.slice(i, i + n));
  return stretches.length ? 1 - new Set(stretches).size / stretches.length : 0;
}

// share of the words of more than three letters that are in the list; the first and the last may be cut, and do not count
export function knownWords(text, list) {
  const words = (text.match(/[A-Za-z']+/g) ?? []).slice(1, -1).map((word) => word.toLowerCase()).filter((word) => word.length > 3);
  return words.length ? words.filter((word) => list.has(word)).length / words.length : 0;
}

// a text being written: step() reads one token, and chooses one where the context has been read
export class Writer {
  constructor(net) { Object.assign(this, { net, netFrom: 0, from: 0, prompt: [], made: [], how: null, length: 0 }); }

  // Keep the choices that still hold, and of the network's cache what still fits. Returns how many need no new reading.
  begin(prompt, how, length) {
    const { net, made: before } = this, other = prompt.join() !== this.prompt.join();
    Object.assign(this, { prompt, how, length, made: [] });
    for (const old of other ? [] : before.slice(0, length)) {
      this.made.push(this.choose(old.logits, old.from));
      if (this.made.at(-1).id !== old.id) break;
    }
    this.from = this.made.at(-1)?.from ?? Math.max(0, prompt.length - net.block);
    const fits = other || this.netFrom !== this.from ? 0 : prompt.length + this.made.length - 1 - this.from;
    net.cut(Math.max(0, Math.min(net.length, fits)));
    this.netFrom = this.from;
    return this.made.length;
  }

  get done() { return this.made.length >= this.length; }

  context(from, count) { return [...this.prompt, ...this.made.slice(0, count).map((one) => one.id)].slice(from); }

  choose(logits, from) {
    const { temperature, topK, topP, minP, penalty, seed } = this.how, n = this.made.length;
    const pushed = penalty === 1 ? logits : penalise(logits, this.context(from, n), penalty);
    const kept = filterLogits(pushed, temperature, topK, topP, minP);
    const id = pick(softmax(kept), uniform(seed, n));
    return { id, logits, from, nats: -Math.log(softmax(logits)[id]), alone: kept.filter((l) => l > -Infinity).length === 1 };
  }

  step() {
    const { net } = this, L = this.prompt.length + this.made.length;
    if (L - this.from > net.block) this.from = L - Math.max(1, Math.floor(net.block / 2)); // as in generate(): forget the older half
    if (this.netFrom !== this.from) { this.netFrom = this.from; net.cut(0); }
    const at = this.from + net.length;
    const logits = net.read(at < this.prompt.length ? this.prompt[at] : this.made[at - this.prompt.length].id);
    if (at === L - 1) this.made.push(this.choose(logits, this.from));
  }
}

function render({ model, el }) {
  const given = model.get("given"), texts = given.texts, raw = given.weights;
  const weights = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const writer = new Writer(new GPT(given.sizes, weights));
  const numbers = new Map(texts.map((text, id) => [text, id])), words = new Set(given.words.split(" "));
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  el.classList.add("al-play");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ controls
  const top = make("div", "al-row");
  top.setAttribute("role", "group");
  top.setAttribute("aria-label", "Settings to begin with");
  for (const [name, values] of Object.entries(given.presets)) {
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => {
      for (const one of sliders) one.set({ ...given.off, ...values }[one.name]);
      write();
    });
    top.append(button);
  }
  const controls = make("div", "al-controls");
  const stops = [...Array(texts.length).keys()].map((k) => k + 1);
  const off = (x, digits) => (x === null ? "off" : x.toFixed(digits));
  const sliders = [
    slider("temperature", "Temperature", 0, 60, (at) => at / 20, (T) => 20 * T, (T) => (T === 0 ? "greedy" : T.toFixed(2))),
    slider("top_k", "Top-k", 1, texts.length, (at) => (at === texts.length ? null : stops[at - 1]), (k) => k ?? texts.length, (k) => off(k, 0)),
    slider("top_p", "Top-p", 1, 100, (at) => (at === 100 ? null : at / 100), (p) => 100 * (p ?? 1), (p) => off(p, 2)),
    slider("min_p", "Min-p", 0, 50, (at) => (at === 0 ? null : at / 100), (p) => 100 * (p ?? 0), (p) => off(p, 2)),
    slider("penalty", "Penalty", 0, 40, (at) => 1 + at / 20, (x) => 20 * (x - 1), (x) => (x === 1 ? "off" : x.toFixed(2))),
  ];
  function slider(name, label, min, max, value, place, say) {
    const input = Object.assign(make("input"), { type: "range", min, max, step: 1 });
    input.dataset.control = name;
    input.setAttribute("aria-label", label);
    const box = make("label"), head = make("span"), shown = make("b");
    head.append(make("span", "", label), shown);
    box.append(head, input);
    controls.append(box);
    const one = { name, value: null, set(x) {
      one.value = x;
      input.value = Math.round(place(x));
      shown.textContent = say(x);
      input.setAttribute("aria-valuetext", say(x));
    } };
    input.addEventListener("input", () => { one.set(value(+input.value)); write(); });
    return one;
  }
  const row = make("div", "al-row"), seed = Object.assign(make("input"), { type: "number", min: 0, step: 1 });
  const seedLabel = make("label", "", "seed "), prompt = Object.assign(make("textarea"), { rows: 2, spellcheck: false });
  const promptLabel = make("label", "al-prompt", "go on from "), other = make("button", "", "another seed");
  other.type = "button";
  seedLabel.append(seed);
  promptLabel.append(prompt);
  row.append(promptLabel, seedLabel, other);
  seed.addEventListener("change", () => { seed.value = Math.max(0, Math.trunc(+seed.value) || 0); write(); });
  other.addEventListener("click", () => { seed.value = +seed.value + 1; write(); });
  prompt.addEventListener("input", write);

  // ------------------------------------------------------------------ what is written, and how it measures
  const page = make("div", "al-page"), start = make("span", "al-start");
  page.setAttribute("role", "region");
  page.setAttribute("aria-label", "What the network writes");
  page.tabIndex = 0;
  const letters = Array.from({ length: given.length }, () => make("span"));
  page.append(start, ...letters);
  const legend = make("p", "al-legend");
  const steps = ["", ...LEVELS].map((level, k) => [`al-s${k}`, k ? `${k === LEVELS.length ? "above" : "from"} ${level} nats` : "expected"]);
  for (const [mark, said] of [...steps, ["al-alone", "nothing else was left"]]) legend.append(make("span", mark, "ab"), make("span", "", said));
  const meters = make("div", "al-meters");
  const meter = (name, measured, text, end) => {
    const box = make("div", "al-meter"), shown = make("b"), track = make("span", "al-track"), bar = make("i"), mark = make("em");
    const title = make("span", "", `${name} `);
    title.append(shown, make("small", "", `plays: ${text(given.human[measured])}`));
    track.append(bar, mark);
    box.append(title, track);
    meters.append(box);
    mark.style.left = `${Math.min(100, (100 * given.human[measured]) / end)}%`;
    return (x) => {
      shown.textContent = text(x);
      bar.style.width = `${Math.min(100, (100 * x) / end)}%`;
    };
  };
  const share = (x) => `${Math.round(100 * x)} %`;
  const shows = {
    nats: meter("surprise, nats", "nats", (x) => x.toFixed(2), 4),
    repeated: meter("written before", "repeated", share, 1),
    known: meter("words that exist", "known", share, 1),
  };
  const says = make("p", "al-verdict");
  says.setAttribute("aria-live", "polite");
  el.append(top, row, controls, page, legend, meters, says);

  // ------------------------------------------------------------------ writing
  let frame = null, rest = null, shown = 0;
  const read = (name) => sliders.find((one) => one.name === name).value;

  function write() {
    cancelAnimationFrame(frame);
    const asked = [...prompt.value], ids = asked.filter((c) => numbers.has(c)).map((c) => numbers.get(c));
    const strange = [...new Set(asked.filter((c) => !numbers.has(c)))];
    if (!ids.length) ids.push(numbers.get("\n") ?? 0);
    const how = { temperature: read("temperature"), topK: read("top_k"), topP: read("top_p"), minP: read("min_p"), penalty: read("penalty"), seed: +seed.value };
    writer.begin(ids, how, given.length);
    start.textContent = ids.map((id) => texts[id]).join("");
    start.title = strange.length ? `left out, the plays do not have them: ${strange.join(" ")}` : "";
    shown = 0;
    paint();
    go();
    clearTimeout(rest);
    rest = setTimeout(settle, 300);
  }

  function go() {
    const until = performance.now() + BUDGET;
    while (!writer.done && performance.now() < until) writer.step();
    paint();
    if (!writer.done) frame = requestAnimationFrame(go);
    else settle();
  }

  function paint() {
    const { made } = writer;
    for (; shown < made.length; shown++) {
      const { id, nats, alone } = made[shown], level = LEVELS.filter((one) => nats >= one).length;
      const span = letters[shown], kind = `al-s${level}${alone ? " al-alone" : ""}`;
      if (span.textContent !== texts[id]) span.textContent = texts[id];
      if (span.className !== kind) span.className = kind;
      span.title = `${nats.toFixed(2)} nats`;
    }
    for (let k = shown; k < letters.length && letters[k].textContent; k++) letters[k].textContent = "";
    const text = made.map(({ id }) => texts[id]).join("");
    const found = {
      nats: made.reduce((sum, one) => sum + one.nats, 0) / Math.max(1, made.length),
      repeated: repeated(text, given.stretch),
      known: knownWords(text, words),
    };
    for (const [name, show] of Object.entries(shows)) show(found[name]);
    if (!writer.done) { says.textContent = "writing …"; return; }
    const [words_, good] = verdict(found, given.human);
    says.textContent = words_;
    says.classList.toggle("al-no", !good);
  }

  function settle() {
    if (!writer.done) return;
    clearTimeout(rest);
    rest = setTimeout(() => {
      const moved = Object.fromEntries(sliders.map((one) => [one.name, one.value])); // at once: one by one, the others would be old
      model.set({ ...moved, seed: +seed.value, prompt: prompt.value, written: writer.made.map(({ id }) => texts[id]).join("") });
      model.save_changes();
    }, 200);
  }

  const fromKernel = () => {
    for (const one of sliders) one.set(model.get(one.name));
    seed.value = model.get("seed");
    prompt.value = model.get("prompt");
  };
  const heard = () => {
    const same = sliders.every((one) => one.value === model.get(one.name)) && +seed.value === model.get("seed") && prompt.value === model.get("prompt");
    if (same) return;
    fromKernel();
    write();
  };
  for (const name of NAMES) model.on(`change:${name}`, heard);
  fromKernel();
  write();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(rest);
    for (const name of NAMES) model.off(`change:${name}`, heard);
  };
}

// what the meters say together, and whether it could pass for a play at a glance
export function verdict({ nats, repeated, known }, human) {
  if (repeated > 0.25) return ["It goes round in circles: much of the text stood there before.", false];
  if (known < human.known - 0.3) return ["It falls apart: too many words are no words.", false];
  if (nats < human.nats - 0.45) return ["Safe: correct, but it dares nothing; every letter is more or less the one to expect.", false];
  return ["Lively: it surprises about as much as the plays do, and most words exist.", true];
}
export default { render };
