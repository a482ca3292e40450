// The network runs here: its weights arrive once. A line is read again from the first letter that changed; when a part is
// switched, from the start. Moving along the line only paints.
const [WIDTH, LEFT, ROW, TOP] = [880, 126, 27, 26];
const [BLUE, INK, GREY, FAINT] = ["#0072b2", "#1d2733", "#51606f", "#c9d1da"];
const SIGNS = { " ": "␣", "\n": "⏎" };
const seen = (text) => SIGNS[text] ?? text;

// read_line() of lens.py: for each letter, what the head reads at each station, and how much each part wrote
export class LineReader {
  constructor(net) { Object.assign(this, { net, ids: [], off: "", letters: [] }); }

  read(ids, off) {
    const same = off.join() === this.off ? ids.findIndex((id, k) => id !== this.ids[k]) : 0;
    const from = same < 0 ? Math.min(ids.length, this.letters.length) : Math.min(same, this.letters.length);
    this.net.cut(from);
    this.letters.length = from;
    for (const id of ids.slice(from)) this.letters.push(this.letter(id, new Set(off)));
    Object.assign(this, { ids: [...ids], off: off.join() });
    return this.letters;
  }

  letter(id, off) {
    const p = [], wrote = [];
    let before = null;
    this.net.read(id, (part, x) => {
      p.push(softmax(this.net.says(x)));
      let sum = 0;
      for (let i = 0; i < x.length; i++) sum += (x[i] - (before ? before[i] : 0)) ** 2;
      wrote.push(Math.sqrt(sum / x.length));
      before = x.slice();
      return !off.has(part);
    });
    return { p, wrote };
  }
}

// mean surprise of a line's letters at each station, in nats
export function losses(letters, ids) {
  return letters[0].p.map((_, s) => {
    let sum = 0;
    for (let k = 0; k + 1 < ids.length; k++) sum -= Math.log(letters[k].p[s][ids[k + 1]]);
    return sum / Math.max(1, ids.length - 1);
  });
}

export const likeliest = (p, n) => [...p.keys()].sort((i, j) => p[j] - p[i] || i - j).slice(0, n);

// what the explorer says about the parts that are off, and whether the line is still read
export function verdict(names, off, whole, now, ln_V, broken) {
  const said = `${now.toFixed(2)} nats a letter`;
  if (!off.length) return [`All parts write. Surprise of this line: ${said}.`, true];
  const missing = off.map((part) => names[part]).join(", "), more = now - whole;
  const head = `Without ${missing}: ${said}, with all parts ${whole.toFixed(2)}.`;
  if (now > ln_V) return [`${head} Worse than knowing nothing (${ln_V.toFixed(2)}): the parts behind read what they were never trained on.`, false];
  if (more > broken) return [`${head} Broken: the line has become ${more.toFixed(2)} nats a letter more surprising.`, false];
  if (more > 0.05) return [`${head} It helped, by ${more.toFixed(2)} nats a letter.`, true];
  return [`${head} On this line it is hardly missed.`, true];
}

const percent = (p) => (p < 0.005 ? "<1 %" : `${Math.round(100 * p)} %`);

function render({ model, el }) {
  const given = model.get("given"), { texts, names, longest, shown } = given, raw = given.weights;
  const weights = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const reader = new LineReader(new GPT(given.sizes, weights)), whole = new LineReader(new GPT(given.sizes, weights));
  const numbers = new Map(texts.map((text, id) => [text, id])), stations = ["embedding", ...names];
  let ids = [], off = [], position = 0, letters = [], rest = null;

  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  el.classList.add("al-lens");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the arrow keys
  const label = make("label", { className: "al-line", textContent: "a line " });
  const line = make("input", { type: "text", spellcheck: false, maxLength: longest });
  label.append(line);
  const switches = make("div", { className: "al-switches" });
  switches.setAttribute("role", "group");
  switches.setAttribute("aria-label", "Parts that write to the stream; press one to switch it off");
  switches.append(make("span", { textContent: "parts that write:" }));
  const buttons = names.map((name, part) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      off = off.includes(part) ? off.filter((one) => one !== part) : [...off, part].sort((a, b) => a - b);
      read();
    });
    switches.append(button);
    return button;
  });
  const all = make("button", { type: "button", textContent: "all on", className: "al-all" });
  all.addEventListener("click", () => { off = []; read(); });
  switches.append(all);
  const height = TOP + ROW * (stations.length + 2) + 4;
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const slideLabel = make("label", { className: "al-place", textContent: "after letter " });
  const slider = make("input", { type: "range", min: 0, step: 1 });
  slideLabel.append(slider);
  const table = make("table"), says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(label, switches, canvas, slideLabel, table, says);

  const ratio = Math.max(1, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [WIDTH * ratio, height * ratio];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const wide = () => Math.min(22, (WIDTH - LEFT - 4) / Math.max(1, ids.length));

  function read() {
    const asked = [...line.value].filter((c) => numbers.has(c)).slice(0, longest).map((c) => numbers.get(c));
    const strange = [...new Set([...line.value].filter((c) => !numbers.has(c)))];
    line.title = strange.length ? `left out, the plays do not have them: ${strange.join(" ")}` : "";
    if (asked.length < 2) { says.textContent = "A line needs at least two letters."; return; }
    ids = asked;
    letters = reader.read(ids, off);
    position = Math.min(position, ids.length - 1);
    paint();
    settle();
  }

  function paint() {
    const w = wide(), size = Math.min(15, w * 1.05), right = ids[position + 1];
    pen.clearRect(0, 0, WIDTH, height);
    const write = (text, x, y, colour, font, align = "center") => {
      Object.assign(pen, { fillStyle: colour, font, textAlign: align, textBaseline: "middle" });
      pen.fillText(text, x, y);
    };
    const mono = (bold) => `${bold ? "700 " : ""}${size}px ui-monospace, monospace`, plain = "13px system-ui, sans-serif";
    const row = (k) => TOP + ROW * k;
    write("the head's first guess at every station; darker: surer; framed: it is the letter that comes", 0, 11, GREY, "12.5px system-ui, sans-serif", "left");
    write("it has read", LEFT - 8, row(0) + ROW / 2, GREY, plain, "right");
    write("what comes", LEFT - 8, row(stations.length + 1) + ROW / 2, GREY, plain, "right");
    stations.forEach((name, s) => {
      const gone = off.includes(s - 1);
      write(gone ? `${name} off` : name, LEFT - 8, row(s + 1) + ROW / 2, gone ? GREY : INK, plain, "right");
    });
    ids.forEach((id, k) => {
      const x = LEFT + w * k, middle = x + w / 2, next = ids[k + 1];
      write(seen(texts[id]), middle, row(0) + ROW / 2, INK, mono(k === position));
      if (next !== undefined) write(seen(texts[next]), middle, row(stations.length + 1) + ROW / 2, INK, mono(k === position));
      stations.forEach((_, s) => {
        const y = row(s + 1), p = letters[k].p[s], [top] = likeliest(p, 1), gone = off.includes(s - 1);
        pen.globalAlpha = 0.08 + 0.8 * p[top];
        pen.fillStyle = gone ? FAINT : BLUE;
        pen.fillRect(x + 0.5, y + 1, w - 1, ROW - 2);
        pen.globalAlpha = 1;
        if (top === next) {
          Object.assign(pen, { strokeStyle: INK, lineWidth: 1.4 });
          pen.strokeRect(x + 1.2, y + 1.7, w - 2.4, ROW - 3.4);
        }
        write(seen(texts[top]), middle, y + ROW / 2, gone ? GREY : p[top] > 0.55 ? "#fff" : INK, mono(top === next));
      });
    });
    Object.assign(pen, { strokeStyle: "#e69f00", lineWidth: 2.5 });
    pen.strokeRect(LEFT + w * position, row(0) + 1, w, ROW * (stations.length + 2) - 2);

    slider.max = ids.length - 1;
    slider.value = position;
    const so_far = ids.slice(0, position + 1).map((id) => texts[id]).join("");
    slider.setAttribute("aria-valuetext", `letter ${position + 1} of ${ids.length}, after ${so_far.slice(-12)}`);
    table.replaceChildren();
    const head = table.insertRow();
    for (const name of ["station", "wrote (rms)", `its ${shown} best guesses`, right === undefined ? "" : `“${seen(texts[right])}” comes`])
      head.append(make("th", { textContent: name, scope: "col" }));
    stations.forEach((name, s) => {
      const p = letters[position].p[s], line = table.insertRow();
      line.className = off.includes(s - 1) ? "al-off" : "";
      line.append(make("th", { textContent: name, scope: "row" }));
      line.insertCell().textContent = off.includes(s - 1) ? "off" : letters[position].wrote[s].toFixed(1);
      const guesses = line.insertCell();
      for (const id of likeliest(p, shown)) {
        const one = make("span", { className: id === right ? "al-right" : "" });
        one.append(make("b", { textContent: seen(texts[id]) }), make("i", { textContent: percent(p[id]) }));
        guesses.append(one);
      }
      line.insertCell().textContent = right === undefined ? "" : percent(p[right]);
    });
    buttons.forEach((button, part) => button.setAttribute("aria-pressed", String(!off.includes(part))));
    all.disabled = !off.length;
    const now = losses(letters, ids), before = off.length ? losses(whole.read(ids, []), ids) : now;
    const [text, good] = verdict(names, off, before.at(-1), now.at(-1), Math.log(texts.length), given.broken);
    says.textContent = text;
    says.classList.toggle("al-no", !good);
    canvas.setAttribute("aria-label", `After “${so_far.slice(-16)}” the head guesses, station by station: ` +
      stations.map((name, s) => `${name} ${seen(texts[likeliest(letters[position].p[s], 1)[0]])}`).join(", "));
    el.dataset.drawn = `${position} ${off.join("+")} ${now.at(-1).toFixed(3)}`;
  }

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set({ text: ids.map((id) => texts[id]).join(""), position, off });
      model.save_changes();
    }, 250);
  }

  line.addEventListener("input", read);
  slider.addEventListener("input", () => { position = +slider.value; paint(); settle(); });
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect(), k = Math.floor((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / wide());
    if (k < 0 || k >= ids.length) return;
    position = k;
    paint();
    settle();
  });
  const heard = () => {
    const text = ids.map((id) => texts[id]).join("");
    if (model.get("text") === text && model.get("position") === position && model.get("off").join() === off.join()) return;
    fromKernel();
  };
  function fromKernel() {
    if ([...line.value].filter((c) => numbers.has(c)).join("") !== model.get("text")) line.value = model.get("text");
    position = model.get("position");
    off = [...model.get("off")];
    read();
  }
  for (const name of ["text", "position", "off"]) model.on(`change:${name}`, heard);
  fromKernel();
  return () => {
    clearTimeout(rest);
    for (const name of ["text", "position", "off"]) model.off(`change:${name}`, heard);
  };
}
export default { render };
