// A GPT in few bits, rounded anew with every move of a control. models/quantize.py says what is done; a browser test compares.
const WATCHED = 15; // the row whose first group is drawn
const PATIENCE = 11; // milliseconds of reading between two pictures
const PARTS = ["embedding", "attention", "feed-forward", "head"];

// a number as a float16 holds it: 11 binary digits, ties to even, steps of 2^-24 near zero
export function half(x) {
  if (x === 0) return 0;
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10);
  return roundEven(x / step) * step;
}
const roundEven = (x) => { // torch.round: ties to even
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
};

// the matrices of models/gpt.py in the order of weights_of(): { part, rows, columns, at }
export function matrices({ vocab_size: V, n_layer, n_embd: C }) {
  const list = [];
  let at = 0;
  const add = (name, part, rows, columns) => { list.push({ name, part, rows, columns, at }); at += rows * columns; };
  add("embedding", PARTS[0], V, C);
  for (let k = 0; k < n_layer; k++) {
    add(`block ${k + 1}, queries, keys, values`, PARTS[1], 3 * C, C);
    add(`block ${k + 1}, out of attention`, PARTS[1], C, C);
    add(`block ${k + 1}, feed-forward in`, PARTS[2], 4 * C, C);
    add(`block ${k + 1}, feed-forward out`, PARTS[2], C, 4 * C);
  }
  add("head", PARTS[3], V, C);
  return list;
}

// The same function with other weights: hidden unit 5 of every 32 is made smaller by sqrt(F) on its way in and larger by F on
// its way out, which the squared ReLU between them makes good: relu(z / sqrt F)^2 F = relu(z)^2.
export function plant(weights, list, F) {
  for (const { name, rows, columns, at } of list) {
    if (name.endsWith("in")) for (let r = 5; r < rows; r += 32) for (let c = 0; c < columns; c++) weights[at + r * columns + c] /= Math.sqrt(F);
    if (name.endsWith("feed-forward out")) for (let r = 0; r < rows; r++) for (let c = 5; c < columns; c += 32) weights[at + r * columns + c] *= F;
  }
}

// find_scales(): the scale of weights[from .. to), as a float16
export function scaleOf(weights, from, to, bits, search) {
  const m = 2 ** (bits - 1) - 1;
  let most = 0;
  for (let i = from; i < to; i++) most = Math.max(most, Math.abs(weights[i]));
  const widest = f32(most / m);
  let best = half(widest);
  if (!search) return best;
  const lost = (s) => {
    let sum = 0;
    for (let i = from; i < to; i++) { const e = weights[i] - s * codeOf(weights[i], s, m); sum += e * e; }
    return sum;
  };
  let least = lost(best);
  for (let k = 1; k < 25; k++) {
    const s = half(f32(widest * f32(1 - (0.6 * k) / 24))), error = lost(s);
    if (error < least) [best, least] = [s, error];
  }
  return best;
}
export const codeOf = (w, s, m) => (s > 0 ? Math.max(-m, Math.min(m, roundEven(f32(w / s)))) : 0);

// round `from` into `into` where the part is chosen; returns bytes of the file and the size of the error beside that of the weights
export function squeeze(from, into, list, { bits, group, search, parts }) {
  const m = 2 ** (bits - 1) - 1;
  let bytes = 0, error = 0, size = 0;
  for (const { part, rows, columns, at } of list) {
    const n = rows * columns;
    if (!parts.includes(part)) { into.set(from.subarray(at, at + n), at); bytes += 4 * n; continue; }
    const wide = group || columns; // 0: the whole row
    bytes += Math.ceil((n * bits) / 8) + 2 * rows * Math.ceil(columns / wide);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c += wide) {
        const start = at + r * columns + c, end = at + r * columns + Math.min(columns, c + wide);
        const s = scaleOf(from, start, end, bits, search);
        for (let i = start; i < end; i++) {
          into[i] = s * codeOf(from[i], s, m);
          error += (from[i] - into[i]) ** 2;
          size += from[i] ** 2;
        }
      }
    }
  }
  return { bytes, error: size ? Math.sqrt(error / size) : 0 };
}

export function verdict(more) {
  if (more < 0.01) return ["As good as the original, to a hundredth of a nat.", true];
  if (more < 0.1) return ["A careful test can tell it from the original; a reader can hardly.", true];
  if (more < 0.6) return ["Damaged: words begin to break.", false];
  return ["Broken. It remembers which letters are common, and little more.", false];
}

function render({ model, el }) {
  const given = model.get("given"), texts = given.texts, raw = given.weights, SVG = "http://www.w3.org/2000/svg";
  const original = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const source = original.slice(), work = original.slice(), list = matrices(given.sizes), net = new GPT(given.sizes, work);
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  el.classList.add("al-bits");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ controls
  const presets = make("div", "al-row"), controls = make("div", "al-controls"), chosen = make("fieldset", "al-row");
  presets.setAttribute("role", "group");
  presets.setAttribute("aria-label", "Settings to begin with");
  for (const [name, values] of Object.entries(given.presets)) {
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => { set({ ...given.start, ...values }); begin(); });
    presets.append(button);
  }
  const sliders = {
    bits: slider("bits", "Bits for each weight", given.bits, (b) => `${b}`),
    group: slider("group", "Weights that share a scale", given.groups, (g) => (g ? `${g}` : "a row")),
    outlier: slider("outlier", "Outlier, times", given.outliers, (F) => (F === 1 ? "none" : `${F}`)),
  };
  function slider(name, label, stops, say) {
    const input = Object.assign(make("input"), { type: "range", min: 0, max: stops.length - 1, step: 1 }), shown = make("b");
    const box = make("label"), head = make("span");
    input.dataset.control = name;
    input.setAttribute("aria-label", label);
    head.append(make("span", "", label), shown);
    box.append(head, input);
    controls.append(box);
    const one = { get: () => stops[+input.value], set(x) {
      input.value = stops.indexOf(x);
      shown.textContent = say(x);
      input.setAttribute("aria-valuetext", say(x));
    } };
    input.addEventListener("input", () => { one.set(one.get()); begin(); });
    return one;
  }
  const check = (label, control) => {
    const input = Object.assign(make("input"), { type: "checkbox" }), box = make("label", "al-check");
    input.dataset.control = control;
    box.append(input, make("span", "", label));
    chosen.append(box);
    input.addEventListener("change", begin);
    return input;
  };
  chosen.append(make("legend", "", "in few bits"));
  const boxes = PARTS.map((part) => check(part, part)), search = check("search for the best scale", "search");
  search.parentElement.classList.add("al-apart");

  // ------------------------------------------------------------------ what is shown
  const strip = document.createElementNS(SVG, "svg"), page = make("div", "al-page"), start = make("span", "al-start", given.prompt);
  const under = make("p", "al-note");
  strip.setAttribute("viewBox", "0 0 840 92");
  strip.setAttribute("role", "img");
  page.setAttribute("role", "region");
  page.setAttribute("aria-label", "What the network writes");
  page.tabIndex = 0;
  const written = make("span");
  page.append(start, written);
  const meters = make("div", "al-meters");
  const meter = (name, end) => {
    const box = make("div", "al-meter"), shown = make("b"), track = make("span", "al-track"), bar = make("i"), title = make("span");
    title.append(make("span", "", name), shown);
    track.append(bar);
    box.append(title, track);
    meters.append(box);
    return (x, text) => { shown.textContent = text; bar.style.width = `${Math.max(0, Math.min(100, (100 * x) / end))}%`; };
  };
  const shows = { bytes: meter("file", 4 * original.length), error: meter("error of the weights", 1), loss: meter("more nats a letter", 2) };
  const says = make("p", "al-verdict");
  says.setAttribute("aria-live", "polite");
  el.append(presets, controls, chosen, strip, under, meters, page, says);

  const draw = (how) => { // one group of the last matrix of the first block: its weights, its grid, and where each goes
    const { rows, columns, at } = list.find(({ name }) => name.endsWith("feed-forward out"));
    const row = WATCHED % rows, wide = Math.min(columns, how.group || columns), from = at + row * columns;
    const weights = source.subarray(from, from + wide), on = how.parts.includes(PARTS[2]), m = 2 ** (how.bits - 1) - 1;
    const most = weights.reduce((a, w) => Math.max(a, Math.abs(w)), 1e-9), s = scaleOf(source, from, from + wide, how.bits, how.search);
    const x = (w) => 420 + (395 * w) / (1.05 * most);
    strip.replaceChildren();
    const shape = (tag, values) => {
      const node = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
      strip.append(node);
    };
    if (on) for (let k = -m; k <= m; k++) if (Math.abs(s * k) <= 1.05 * most) shape("line", { x1: x(s * k), x2: x(s * k), y1: 54, y2: 84, class: "al-grid" });
    shape("line", { x1: 20, x2: 820, y1: 69, y2: 69, class: "al-axis" });
    let used = new Set();
    for (const w of weights) {
      const k = codeOf(w, s, m), to = on ? s * k : w;
      used.add(k);
      shape("line", { x1: x(w), x2: x(to), y1: 20, y2: 66, class: "al-move" });
      shape("circle", { cx: x(w), cy: 18, r: 4.5, class: "al-weight" });
      shape("rect", { x: x(to) - 4, y: 65, width: 8, height: 8, class: "al-rounded" });
    }
    const told = on ? `${wide} weights of one row (circles) go to ${used.size} of the ${2 * m + 1} points of their grid (squares)` : `${wide} weights of one row, which stay as they are`;
    under.textContent = `${told}. The largest is ${most.toFixed(3)}.`;
    strip.setAttribute("aria-label", under.textContent);
  };

  // ------------------------------------------------------------------ rounding, writing, measuring
  let frame = null, rest = null, state = null;
  const read = () => ({
    bits: sliders.bits.get(), group: sliders.group.get(), outlier: sliders.outlier.get(), search: search.checked,
    parts: PARTS.filter((_, k) => boxes[k].checked),
  });
  function set(how) {
    for (const name of ["bits", "group", "outlier"]) sliders[name].set(how[name]);
    search.checked = how.search;
    boxes.forEach((box, k) => { box.checked = how.parts.includes(PARTS[k]); });
  }

  function begin() {
    cancelAnimationFrame(frame);
    clearTimeout(rest);
    const how = read();
    source.set(original);
    if (how.outlier !== 1) plant(source, list, how.outlier);
    const found = squeeze(source, work, list, how);
    state = { how, found, made: [], nats: 0, read: 0 };
    net.cut(0);
    shows.bytes(found.bytes, `${(found.bytes / 1000).toFixed(0)} kB, ${((4 * original.length) / found.bytes).toFixed(1)} times smaller`);
    shows.error(found.error, `${(100 * found.error).toFixed(1)} %`);
    shows.loss(0, "…");
    says.textContent = "reading …";
    draw(how);
    go();
  }

  // first the passage is read, a window after the other, then a text is written
  function step() {
    const { passage, prompt_ids: prompt, sizes } = given, L = sizes.block_size;
    if (state.read < passage.length - 1) {
      if (state.read % L === 0) net.cut(0);
      const logits = net.read(passage[state.read]);
      state.read += 1;
      state.nats -= Math.log(softmax(logits)[passage[state.read]]);
      if (state.read === passage.length - 1) net.cut(0);
      return;
    }
    const at = net.length, all = [...prompt, ...state.made];
    const logits = net.read(all[at]);
    if (at === all.length - 1) state.made.push(pick(softmax(filterLogits(logits, given.temperature, null, null)), uniform(0, state.made.length)));
  }

  const done = () => state.made.length >= given.length;
  function go() {
    const until = performance.now() + PATIENCE;
    while (!done() && performance.now() < until) step();
    const n = given.passage.length - 1, measured = state.read === n, more = state.nats / n - given.nats;
    written.textContent = state.made.map((id) => texts[id]).join("");
    if (measured) {
      const [words, good] = verdict(more);
      shows.loss(more, `${more < 0 ? "−" : "+"}${Math.abs(more).toFixed(3)}`);
      if (says.textContent !== words) says.textContent = words;
      says.classList.toggle("al-no", !good);
    }
    if (!done()) { frame = requestAnimationFrame(go); return; }
    rest = setTimeout(() => {
      const { bits, group, outlier, search: best, parts } = state.how;
      model.set({ bits, group, outlier, search: best, parts, measured: { ...state.found, more, text: written.textContent } });
      model.save_changes();
    }, 200);
  }

  const names = ["bits", "group", "outlier", "search", "parts"];
  const fromKernel = () => Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const sorted = (how) => Object.fromEntries(names.map((name) => [name, how[name]]));
  const heard = () => {
    const wanted = fromKernel();
    if (JSON.stringify(wanted) === JSON.stringify(sorted(read()))) return;
    set(wanted);
    begin();
  };
  for (const name of names) model.on(`change:${name}`, heard);
  set(fromKernel());
  begin();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(rest);
    for (const name of names) model.off(`change:${name}`, heard);
  };
}
export default { render };
