// A GPT in the modern style, a whole line at once, that tells what its heads do. A browser test compares it with Python.
// What a change does not touch is not computed again: a head switched off in the last block leaves all blocks before it.
const EPS = 2 ** -23; // of float32, as in F.rms_norm

// Y = X W^T, T rows of n numbers to T rows of m; four rows of X share each weight that is read
function product(W, X, T, n, m) {
  const Y = new Float64Array(T * m);
  for (let t = 0; t < T; t += 4) {
    const [o0, o1, o2, o3] = [0, 1, 2, 3].map((k) => Math.min(t + k, T - 1) * n);
    for (let r = 0, w = 0; r < m; r++, w += n) {
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let i = 0; i < n; i++) {
        const x = W[w + i];
        a += x * X[o0 + i];
        b += x * X[o1 + i];
        c += x * X[o2 + i];
        d += x * X[o3 + i];
      }
      Y[t * m + r] = a;
      if (t + 1 < T) Y[(t + 1) * m + r] = b;
      if (t + 2 < T) Y[(t + 2) * m + r] = c;
      if (t + 3 < T) Y[(t + 3) * m + r] = d;
    }
  }
  return Y;
}

// RMSNorm of every stretch of n numbers
function norms(X, n) {
  const Y = new Float64Array(X.length);
  for (let at = 0; at < X.length; at += n) {
    let sum = 0;
    for (let i = at; i < at + n; i++) sum += X[i] * X[i];
    const scale = 1 / Math.sqrt(sum / n + EPS);
    for (let i = at; i < at + n; i++) Y[i] = scale * X[i];
  }
  return Y;
}

const plus = (X, Y) => X.map((x, i) => x + Y[i]);

export class Looker {
  // weights: embedding; for each block qkv, projection, and the two of the feed-forward; head: all (out, in), one after the other
  constructor({ vocab_size: V, n_layer, n_head, n_embd: C }, weights) {
    let at = 0;
    const next = (n) => Float64Array.from(weights.subarray(at, (at += n)));
    Object.assign(this, { V, C, heads: n_head, size: C / n_head, ids: [], logits: null });
    this.embed = next(V * C);
    this.blocks = Array.from({ length: n_layer }, () => ({ qkv: next(3 * C * C), proj: next(C * C), fc: next(4 * C * C), back: next(4 * C * C) }));
    this.head = next(V * C);
  }

  // how: { sharpness, ahead, places, off: ["layer.head"] }; afterwards blocks[l].weights[h] is T x T, and logits is T x V
  run(ids, how) {
    const { C, heads, size } = this, T = ids.length;
    let fresh = ids.join() !== this.ids.join();
    if (fresh) {
      this.ids = [...ids];
      const X = new Float64Array(T * C);
      ids.forEach((id, t) => X.set(this.embed.subarray(id * C, (id + 1) * C), t * C));
      this.x = norms(X, C);
    }
    let x = this.x;
    const manner = [how.sharpness, how.ahead, how.places].join();
    this.blocks.forEach((block, l) => {
      if (fresh) block.mixed = product(block.qkv, norms(x, C), T, C, 3 * C);
      const looks = fresh || block.manner !== manner, off = how.off.filter((name) => name.startsWith(`${l}.`)).join();
      if (looks) this.look(block, T, how);
      if (looks || block.off !== off) {
        const y = block.gathered.slice();
        for (let h = 0; h < heads; h++) {
          if (how.off.includes(`${l}.${h}`)) for (let t = 0; t < T; t++) y.fill(0, t * C + h * size, t * C + (h + 1) * size);
        }
        const middle = plus(x, product(block.proj, y, T, C, C));
        const wide = product(block.fc, norms(middle, C), T, C, 4 * C);
        for (let i = 0; i < wide.length; i++) wide[i] = Math.max(0, wide[i]) ** 2;
        block.out = plus(middle, product(block.back, wide, T, 4 * C, C));
        fresh = true;
      }
      Object.assign(block, { manner, off });
      x = block.out;
    });
    if (fresh || !this.logits) this.logits = product(this.head, norms(x, C), T, C, this.V);
    return this.logits;
  }

  look(block, T, { sharpness, ahead, places }) {
    const { C, heads, size } = this;
    block.weights = [];
    block.gathered = new Float64Array(T * C);
    for (let h = 0; h < heads; h++) {
      const [q, k] = [0, C].map((part) => {
        const all = new Float64Array(T * size);
        for (let t = 0; t < T; t++) all.set(block.mixed.subarray(t * 3 * C + part + h * size, t * 3 * C + part + (h + 1) * size), t * size);
        const one = norms(all, size);
        for (let t = 0; places && t < T; t++) {
          for (let j = 0; j < size; j += 2) { // RoPE turns pairs
            const angle = t * 10000 ** (-j / size), [cos, sin] = [Math.cos(angle), Math.sin(angle)], i = t * size + j;
            [one[i], one[i + 1]] = [one[i] * cos - one[i + 1] * sin, one[i] * sin + one[i + 1] * cos];
          }
        }
        return one;
      });
      const weights = new Float64Array(T * T);
      for (let t = 0; t < T; t++) {
        const last = ahead ? T - 1 : t;
        let most = -Infinity, sum = 0;
        for (let s = 0; s <= last; s++) {
          let dot = 0;
          for (let i = 0; i < size; i++) dot += q[t * size + i] * k[s * size + i];
          weights[t * T + s] = (sharpness * dot) / Math.sqrt(size);
          most = Math.max(most, weights[t * T + s]);
        }
        for (let s = 0; s <= last; s++) sum += weights[t * T + s] = Math.exp(weights[t * T + s] - most);
        for (let s = 0; s <= last; s++) {
          const w = (weights[t * T + s] /= sum);
          for (let i = 0; i < size; i++) block.gathered[t * C + h * size + i] += w * block.mixed[s * 3 * C + 2 * C + h * size + i];
        }
      }
      block.weights.push(weights);
    }
  }

  // -ln p of each character, from those before it; the first has none
  nats() {
    const { V, ids, logits } = this;
    return ids.map((id, t) => {
      if (t === 0) return NaN;
      const row = logits.subarray((t - 1) * V, t * V), most = row.reduce((a, b) => Math.max(a, b), -Infinity);
      return most - row[id] + Math.log(row.reduce((sum, z) => sum + Math.exp(z - most), 0));
    });
  }
}

// whether what came after an earlier occurrence of the character before is this character: copying could tell it
export function copyable(ids) {
  return ids.map((id, t) => {
    for (let j = 1; j < t - 1; j++) if (ids[j - 1] === ids[t - 1] && ids[j] === id) return true;
    return false;
  });
}

const SIGNS = { " ": "␣", "\n": "⏎" };
const sign = (c) => SIGNS[c] ?? c;
const percent = (p) => `${Math.round(100 * p)} %`;
const NAMES = ["network", "text", "layer", "head", "place", "off", "sharpness", "ahead", "places"];
const MOST = 6; // nats: the longest bar of surprise

// the places that a row of weights favours, in words
export function favours(row, chars, count = 3) {
  const order = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, count).filter((j) => row[j] >= 0.05);
  return order.length ? order.map((j) => `${sign(chars[j])} at ${j} (${percent(row[j])})`).join(", ") : "no place in particular";
}

function render({ model, el }) {
  const given = model.get("given"), numbers = new Map(given.texts.map((c, id) => [c, id]));
  const nets = Object.fromEntries(Object.entries(given.networks).map(([name, { sizes, weights: raw }]) =>
    [name, { sizes, net: null, trained: null, raw }]));
  const state = {};
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const button = (text, act, className = "") => {
    const made = make("button", className, text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const group = (words) => {
    const made = make("div", "al-row");
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", words);
    made.append(make("span", "al-name", words));
    return made;
  };
  el.classList.add("al-attn");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ network and text
  const networks = group("Network"), examples = group("Text");
  const choices = Object.keys(nets).map((name) => {
    const made = button(name, () => change({ network: name, layer: 0, head: 0, off: [] }));
    networks.append(made);
    return [name, made];
  });
  for (const [name, text] of Object.entries(given.examples)) {
    examples.append(button(name, () => { input.value = text; change({ text, place: text.length - 1 }); }));
  }
  const input = Object.assign(make("textarea", "al-text"), { rows: 2, spellcheck: false, maxLength: given.longest });
  input.setAttribute("aria-label", `The text, up to ${given.longest} characters`);
  input.addEventListener("input", () => change({ text: input.value, place: Math.max(0, input.value.length - 1) }));
  const strange = make("p", "al-strange");
  strange.setAttribute("role", "status");

  // ------------------------------------------------------------------ heads, large and small
  const middle = make("div", "al-middle"), left = make("div", "al-left"), right = make("figure", "al-right");
  const grid = make("div", "al-heads"), breaks = make("div", "al-breaks");
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", "Heads; the arrow keys go from one to the next");
  const large = Object.assign(make("canvas"), { width: 640, height: 640 }), caption = make("figcaption");
  large.setAttribute("role", "img");
  right.append(large, caption);
  const toggle = button("", () => {
    const name = `${state.layer}.${state.head}`;
    change({ off: state.off.includes(name) ? state.off.filter((one) => one !== name) : [...state.off, name].sort() });
  }, "al-toggle");
  const sharp = Object.assign(make("input"), { type: "range", min: -20, max: 20, step: 1 });
  sharp.dataset.control = "sharpness";
  sharp.setAttribute("aria-label", "Scores times");
  const sharpShown = make("b"), sharpLabel = make("label", "al-sharp", "all scores times ");
  sharpLabel.append(sharpShown, sharp);
  sharp.addEventListener("input", () => change({ sharpness: sharpnessAt(+sharp.value) }));
  const box = (name, words) => {
    const check = Object.assign(make("input"), { type: "checkbox" }), label = make("label");
    check.dataset.control = name;
    label.append(check, words);
    check.addEventListener("change", () => change({ [name]: check.checked }));
    return [check, label];
  };
  const [ahead, aheadLabel] = box("ahead", " may look ahead (no mask)");
  const [places, placesLabel] = box("places", " knows places (RoPE)");
  const mend = button("as trained", () => change({ off: [], sharpness: 1, ahead: false, places: true }));
  breaks.append(make("span", "al-name", "Break it"), toggle, sharpLabel, aheadLabel, placesLabel, mend);
  left.append(grid, breaks);
  middle.append(left, right);
  let small = [];

  // ------------------------------------------------------------------ the line
  const strip = make("div", "al-strip");
  strip.tabIndex = 0;
  strip.setAttribute("role", "slider");
  strip.setAttribute("aria-label", "The character that looks");
  strip.setAttribute("aria-valuemin", 0);
  strip.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -8, PageUp: 8, Home: -999, End: 999 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(state.place + by);
  });
  const cells = Array.from({ length: given.longest }, (_, t) => {
    const cell = make("div", "al-cell"), above = make("i", "al-weight"), letter = make("span"), below = make("i", "al-nats"), was = make("i", "al-was");
    const track = make("div", "al-below");
    track.append(was, below);
    const holder = make("div", "al-above");
    holder.append(above);
    cell.append(holder, letter, track);
    cell.addEventListener("pointerenter", () => move(t));
    cell.addEventListener("pointerdown", () => { strip.focus(); move(t); });
    strip.append(cell);
    return { cell, above, letter, below, was };
  });
  const legend = make("p", "al-legend");
  legend.append(make("i", "al-k1"), "above: where the framed character looks", make("i", "al-k2"), "below: surprise at each character now", make("i", "al-k3"), "as trained");
  const looks = make("p", "al-looks"), verdict = make("p", "al-verdict");
  verdict.setAttribute("aria-live", "polite");
  el.append(networks, examples, input, strange, middle, strip, legend, looks, verdict);

  // ------------------------------------------------------------------ computing
  let ids = [], chars = [], now = [], trained = [], rest = null, last = "";

  function sharpnessAt(step) { return Number((10 ** (step / 20)).toFixed(3)); }

  function network() {
    const one = nets[state.network];
    if (!one.net) {
      const raw = one.raw, weights = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
      one.net = new Looker(one.sizes, weights);
    }
    return one.net;
  }

  const AS_TRAINED = { off: [], sharpness: 1, ahead: false, places: true };

  function compute() {
    const known = [...state.text].filter((c) => numbers.has(c)).slice(0, given.longest);
    const missing = [...new Set([...state.text].filter((c) => !numbers.has(c)))];
    strange.textContent = missing.length ? `left out, the networks do not know: ${missing.join(" ")}` : "";
    chars = known.length ? known : ["\n"];
    ids = chars.map((c) => numbers.get(c));
    state.place = Math.max(0, Math.min(state.place, ids.length - 1));
    const net = network(), key = `${state.network} ${ids.join()}`;
    if (key !== last) {
      net.run(ids, AS_TRAINED);
      trained = net.nats();
      last = key;
    }
    net.run(ids, state);
    now = net.nats();
  }

  function change(what) {
    Object.assign(state, what);
    compute();
    if ("network" in what) rebuild();
    paint();
    settle();
  }

  function move(place) {
    const to = Math.max(0, Math.min(place, ids.length - 1));
    if (to === state.place) return;
    state.place = to;
    paintPlace();
    settle();
  }

  // ------------------------------------------------------------------ drawing
  function rebuild() {
    const { n_layer, n_head } = nets[state.network].sizes;
    grid.replaceChildren();
    small = [];
    for (let l = 0; l < n_layer; l++) {
      const row = make("div", "al-layer");
      row.append(make("span", "", `block ${l}`));
      for (let h = 0; h < n_head; h++) {
        const made = button("", () => change({ layer: l, head: h }), "al-head"), canvas = Object.assign(make("canvas"), { width: 64, height: 64 });
        made.dataset.head = `${l}.${h}`;
        made.append(canvas, make("span", "", `${l}.${h}`));
        made.addEventListener("keydown", (event) => {
          const [dl, dh] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
          if (dl === undefined) return;
          event.preventDefault();
          const to = { layer: Math.min(n_layer - 1, Math.max(0, l + dl)), head: Math.min(n_head - 1, Math.max(0, h + dh)) };
          change(to);
          grid.querySelector(`[data-head="${to.layer}.${to.head}"]`).focus();
        });
        row.append(made);
        small.push({ l, h, made, canvas });
      }
      grid.append(row);
    }
  }

  function matrix(canvas, weights, T) {
    const context = canvas.getContext("2d"), pixels = context.createImageData(T, T);
    for (let i = 0; i < T * T; i++) {
      const w = Math.sqrt(weights[i]), future = i % T > Math.floor(i / T);
      const paper = future && !state.ahead ? [233, 237, 241] : [255, 255, 255];
      [0, 1, 2].forEach((c) => { pixels.data[4 * i + c] = paper[c] + w * ([0, 82, 140][c] - paper[c]); });
      pixels.data[4 * i + 3] = 255;
    }
    const sheet = Object.assign(document.createElement("canvas"), { width: T, height: T });
    sheet.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(sheet, 0, 0, canvas.width, canvas.height);
    return context;
  }

  function paint() {
    const net = network(), T = ids.length;
    for (const [name, made] of choices) made.setAttribute("aria-pressed", name === state.network);
    for (const { l, h, made, canvas } of small) {
      matrix(canvas, net.blocks[l].weights[h], T);
      const off = state.off.includes(`${l}.${h}`), chosen = l === state.layer && h === state.head;
      made.classList.toggle("al-off", off);
      made.setAttribute("aria-pressed", chosen);
      made.setAttribute("aria-label", `block ${l}, head ${h}${off ? ", switched off" : ""}`);
      made.tabIndex = chosen ? 0 : -1;
    }
    const off = state.off.includes(`${state.layer}.${state.head}`);
    toggle.textContent = `switch head ${state.layer}.${state.head} ${off ? "on" : "off"}`;
    toggle.setAttribute("aria-pressed", off);
    sharp.value = Math.round(20 * Math.log10(state.sharpness));
    sharpShown.textContent = String(Number(state.sharpness.toPrecision(2)));
    sharp.setAttribute("aria-valuetext", sharpShown.textContent);
    ahead.checked = state.ahead;
    places.checked = state.places;
    cells.forEach(({ cell, letter, below, was }, t) => {
      cell.hidden = t >= T;
      if (t >= T) return;
      const text = sign(chars[t]);
      if (letter.textContent !== text) letter.textContent = text;
      below.style.height = t ? `${Math.min(100, (100 * now[t]) / MOST)}%` : "0";
      was.style.height = t ? `${Math.min(100, (100 * trained[t]) / MOST)}%` : "0";
      cell.title = t ? `${now[t].toFixed(2)} nats (as trained ${trained[t].toFixed(2)})` : "";
    });
    strip.setAttribute("aria-valuemax", T - 1);
    judge();
    paintPlace();
  }

  function paintPlace() {
    const net = network(), T = ids.length, weights = net.blocks[state.layer].weights[state.head];
    const row = weights.subarray(state.place * T, (state.place + 1) * T);
    cells.forEach(({ cell, above }, t) => {
      if (t >= T) return;
      above.style.height = `${100 * row[t]}%`;
      cell.classList.toggle("al-here", t === state.place);
    });
    const context = matrix(large, weights, T), step = large.height / T;
    context.strokeStyle = "#d55e00";
    context.lineWidth = 3;
    context.strokeRect(1.5, state.place * step, large.width - 3, Math.max(4, step));
    const words = `${sign(chars[state.place])} at ${state.place} looks at ${favours(row, chars)}`;
    looks.textContent = `Head ${state.layer}.${state.head}: ${words}.`;
    strip.setAttribute("aria-valuenow", state.place);
    strip.setAttribute("aria-valuetext", words);
    caption.textContent = `head ${state.layer}.${state.head}: a row for each character that looks, a column for each it looks at; darker is more`;
    large.setAttribute("aria-label", caption.textContent);
    el.dataset.drawn = JSON.stringify({ network: state.network, head: `${state.layer}.${state.head}`, place: state.place, weights: [...row], nats: now.slice(1), trained: trained.slice(1) });
  }

  function judge() {
    const told = copyable(ids), mean = (nats, which) => {
      const some = nats.filter((_, t) => t > 0 && which(t));
      return some.length ? some.reduce((a, b) => a + b, 0) / some.length : null;
    };
    const parts = [["the line", () => true], ["what copying could tell", (t) => told[t]], ["the rest", (t) => !told[t]]];
    const say = (x) => x.toFixed(2);
    const words = parts.map(([name, which]) => [name, mean(now, which), mean(trained, which)]).filter(([, a]) => a !== null)
      .map(([name, a, b]) => `${name} ${say(a)}${Math.abs(a - b) >= 0.005 ? ` (as trained ${say(b)})` : ""}`);
    const a = mean(now, () => true), b = mean(trained, () => true);
    verdict.textContent = words.length ? `Surprise in nats a character: ${words.join("; ")}.` : "One character: nothing to predict.";
    if (state.ahead) verdict.textContent += " It sees the answers, and was never taught to use them.";
    verdict.classList.toggle("al-no", a !== null && a - b > 0.1);
  }

  // ------------------------------------------------------------------ the kernel hears of it once all is at rest
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set(Object.fromEntries(NAMES.map((name) => [name, state[name]]))); // at once: one by one, the others would be old
      model.save_changes();
    }, 250);
  }
  const read = () => { for (const name of NAMES) state[name] = model.get(name); };
  const heard = () => {
    if (NAMES.every((name) => JSON.stringify(model.get(name)) === JSON.stringify(state[name]))) return;
    read();
    input.value = state.text;
    compute();
    rebuild();
    paint();
  };
  for (const name of NAMES) model.on(`change:${name}`, heard);
  read();
  input.value = state.text;
  compute();
  rebuild();
  paint();
  return () => {
    clearTimeout(rest);
    for (const name of NAMES) model.off(`change:${name}`, heard);
  };
}
export default { render };
