// A Gaussian q over a density p with two humps, placed by hand; the kernel hears of it when the hand is still.
// Numbers and words are those of kl() and verdict() in divergence.py; a browser test holds the two together.
const [WIDTH, HEIGHT, REACH] = [880, 400, 6]; // x is shown from -REACH to REACH
const [BLUE, ORANGE, GREEN, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#009e73", "#1d2733", "#51606f", "#c9d1da"];
const TOP = { left: 8, right: 872, top: 26, bottom: 186 }, LOW = { left: 8, right: 872, top: 226, bottom: 372 };
const minus = (text) => String(text).replace("-", "−");

function render({ model, el }) {
  const { left, spread, farthest, narrowest, widest, apart: [nearest, farApart], grid: [from, to, count], near, directions, minima } = model.get("given");
  const traits = ["mean", "width", "apart", "direction"];
  let { mean, width, apart, direction } = Object.fromEntries(traits.map((name) => [name, model.get(name)]));
  let rolling = false, frame = 0, rest = null, telling = false;

  // ------------------------------------------------------------------ the numbers
  const gap = (to - from) / (count - 1);
  const logNormal = (x, m, w) => -((x - m) ** 2) / (2 * w * w) - Math.log(w) - Math.log(2 * Math.PI) / 2;
  function logP(x) {
    const a = Math.log(left) + logNormal(x, -apart / 2, spread), b = Math.log(1 - left) + logNormal(x, apart / 2, spread);
    const most = Math.max(a, b);
    return most + Math.log(Math.exp(a - most) + Math.exp(b - most));
  }
  let p = null; // log p on the grid, for the present distance of the humps
  const prepare = () => { p = Float64Array.from({ length: count }, (_, i) => logP(from + i * gap)); };
  function kl(name, m = mean, w = width) {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const q = logNormal(from + i * gap, m, w);
      sum += name === "forward" ? Math.exp(p[i]) * (p[i] - q) : Math.exp(q) * (q - p[i]);
    }
    return sum * gap;
  }
  // the minima that Python found, for the nearest distance it looked at
  const known = () => minima[Object.keys(minima).reduce((best, key) => (Math.abs(+key - apart) < Math.abs(+best - apart) ? key : best))][direction];
  function verdict() {
    const list = known(), here = kl(direction), best = list[0][2];
    const own = list.reduce((a, b) => (Math.abs(b[0] - mean) < Math.abs(a[0] - mean) ? b : a));
    const between = Math.abs(mean) < apart / 4 && width < apart / 4 && apart >= 2;
    let head = "Not there yet.";
    if (here < best + near) head = "Found: no Gaussian is better in this direction.";
    else if (direction === "reverse" && Math.abs(own[0] - mean) < 0.3 && here < own[2] + near) head = "A trap: every small move makes it worse, but another place is better.";
    else if (between && direction === "forward") head = "Between the humps: p has points where q has next to nothing, and each of them costs.";
    else if (between) head = "Between the humps: q has its points where p has next to nothing, and each of them costs.";
    else if (direction === "forward" && width < own[1] / 1.4) head = "Too narrow: a part of p is left out, and pays for it.";
    else if (direction === "reverse" && width > own[1] * 1.4 && apart >= 2) head = "Too wide: q spills into places where p has next to nothing.";
    return `${head} ${directions[direction]} = ${here.toFixed(3)} nats, the lowest is ${best.toFixed(3)}.`;
  }
  // one step downhill in the mean and the log of the width, halved until it helps; false at the bottom
  function downhill() {
    const h = 1e-4, here = kl(direction), u = Math.log(width);
    const g = [(kl(direction, mean + h) - kl(direction, mean - h)) / (2 * h), (kl(direction, mean, Math.exp(u + h)) - kl(direction, mean, Math.exp(u - h))) / (2 * h)];
    const steep = Math.hypot(...g);
    if (steep < 1e-4) return false;
    for (let size = Math.min(0.5, 0.15 / steep); size > 1e-6; size /= 2) {
      const m = Math.min(farthest, Math.max(-farthest, mean - size * g[0])), w = Math.min(widest, Math.max(narrowest, Math.exp(u - size * g[1])));
      if (kl(direction, m, w) < here - 1e-9) { [mean, width] = [m, w]; return true; }
    }
    return false;
  }

  // ------------------------------------------------------------------ what can be pressed, moved and read
  el.classList.add("al-kl");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  const button = (text, press) => { const one = make("button", { type: "button", textContent: text }); one.addEventListener("click", press); return one; };
  const row = make("div", { className: "al-row" }), group = make("span");
  group.style.display = "contents";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "direction of the divergence");
  const choices = Object.entries(directions).map(([name, text]) => {
    const one = button(`${name}: ${text}`, () => { halt(); direction = name; paint(); settle(); });
    one.dataset.direction = name;
    return one;
  });
  group.append(...choices);
  const roll = button("roll downhill", () => (rolling ? halt() : start()));
  const put = (name, m, w) => button(name, () => { halt(); [mean, width] = [m(), w]; paint(); settle(); });
  row.append(group, make("span", { className: "al-note", textContent: "put q:" }), put("between", () => 0, 0.5), put("left hump", () => -apart / 2, 0.5),
    put("right hump", () => apart / 2, 0.5), put("over both", () => 0, 2), roll);
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const sliders = make("div", { className: "al-sliders" });
  function slider(name, min, max, step, value, changed) {
    const label = make("label"), words = make("span"), input = make("input", { type: "range", min, max, step });
    input.dataset.control = name;
    input.addEventListener("input", () => { halt(); changed(+input.value); paint(); settle(); });
    label.append(words, input);
    sliders.append(label);
    return () => {
      input.value = value();
      const text = minus({ mean, width, apart }[name].toFixed(2));
      words.replaceChildren(`${{ mean: "mean of q ", width: "width of q ", apart: "distance of the humps " }[name]}`, make("b", { textContent: text }));
      input.setAttribute("aria-valuetext", text);
    };
  }
  const shown = [
    slider("mean", -farthest, farthest, 0.05, () => mean, (value) => { mean = value; }),
    slider("width", Math.log(narrowest), Math.log(widest), 0.02, () => Math.log(width), (value) => { width = Math.min(widest, Math.max(narrowest, Math.exp(value))); }),
    slider("apart", nearest, farApart, 0.4, () => apart, (value) => { apart = value; prepare(); }),
  ];
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(row, canvas, sliders, says);

  // q is taken hold of anywhere and moved sideways
  let held = null;
  const place = (event) => { const box = canvas.getBoundingClientRect(); return ((event.clientX - box.left) / box.width * WIDTH - TOP.left) / (TOP.right - TOP.left) * 2 * REACH - REACH; };
  canvas.addEventListener("pointerdown", (event) => { halt(); held = mean - place(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => { if (held === null) return; mean = Math.min(farthest, Math.max(-farthest, place(event) + held)); paint(); settle(); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });

  function halt() { rolling = false; cancelAnimationFrame(frame); }
  function start() {
    rolling = true;
    const go = () => {
      if (!rolling) return;
      for (let k = 0; k < 2; k++) if (rolling && !downhill()) rolling = false;
      paint();
      if (rolling) frame = requestAnimationFrame(go);
      else settle();
    };
    go();
  }
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      for (const [name, value] of Object.entries({ mean, width, apart, direction })) model.set(name, value);
      model.save_changes();
      telling = false;
    }, 250);
  }

  // ------------------------------------------------------------------ the picture
  const ratio = Math.max(1, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [WIDTH * ratio, HEIGHT * ratio];
  const paper = canvas.getContext("2d");
  paper.scale(ratio, ratio);
  const px = (x) => TOP.left + ((x + REACH) / (2 * REACH)) * (TOP.right - TOP.left);
  function say(text, x, y, { size = 12.5, colour = INK, align = "left", weight = 400 } = {}) {
    paper.font = `${weight} ${size}px system-ui, sans-serif`;
    [paper.fillStyle, paper.textAlign] = [colour, align];
    paper.fillText(text, x, y);
  }
  function curve(f, box, scale, base, { fill = null, stroke = null, dashes = [], keep = () => true } = {}) {
    paper.save();
    paper.beginPath();
    paper.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    paper.clip();
    paper.beginPath();
    paper.moveTo(box.left, base);
    for (let u = box.left; u <= box.right; u += 1.5) { const y = f(((u - TOP.left) / (TOP.right - TOP.left)) * 2 * REACH - REACH); paper.lineTo(u, base - scale * (keep(y) ? y : 0)); }
    paper.lineTo(box.right, base);
    if (fill) { paper.fillStyle = fill; paper.fill(); }
    if (stroke) { paper.strokeStyle = stroke; paper.lineWidth = 2; paper.setLineDash(dashes); paper.stroke(); paper.setLineDash([]); }
    paper.restore();
  }
  // slanted lines for what is added, so that it is not told by colour alone
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [8, 8];
  const thread = tile.getContext("2d");
  thread.fillStyle = "#fbe6bd"; thread.fillRect(0, 0, 8, 8);
  thread.strokeStyle = ORANGE; thread.lineWidth = 1.4;
  for (const k of [-8, 0, 8]) { thread.beginPath(); thread.moveTo(k, 8); thread.lineTo(k + 8, 0); thread.stroke(); }
  const hatched = paper.createPattern(tile, "repeat");

  function paint() {
    paper.clearRect(0, 0, WIDTH, HEIGHT);
    const q = (x) => Math.exp(logNormal(x, mean, width)), density = (x) => Math.exp(logP(x));
    const scale = (TOP.bottom - TOP.top) / 0.85;
    curve(density, TOP, scale, TOP.bottom, { fill: "#e3e8ee", stroke: GREY });
    curve(q, TOP, scale, TOP.bottom, { stroke: BLUE, dashes: [7, 4] });
    say("grey: p, two humps    dashed blue: q, your Gaussian (drag it)", TOP.left, TOP.top - 10);
    const term = (x) => { const a = logP(x), b = logNormal(x, mean, width); return direction === "forward" ? Math.exp(a) * (a - b) : Math.exp(b) * (b - a); };
    let most = 0.4;
    for (let x = -REACH; x <= REACH; x += 0.02) most = Math.max(most, term(x));
    const base = LOW.bottom - 34, unit = (base - LOW.top) / (1.04 * most);
    curve(term, LOW, unit, base, { fill: hatched, stroke: "#b35c00", keep: (y) => y > 0 });
    curve(term, LOW, unit, base, { fill: "#bfe5d9", stroke: GREEN, keep: (y) => y < 0 });
    paper.strokeStyle = GREY; paper.lineWidth = 1;
    for (const y of [base, TOP.bottom]) { paper.beginPath(); paper.moveTo(LOW.left, y); paper.lineTo(LOW.right, y); paper.stroke(); }
    const name = direction === "forward" ? "p log(p/q)" : "q log(q/p)";
    say(`${name}: the hatched area less the green one is ${directions[direction]}; the highest point is ${most.toFixed(1)} nats per unit`, LOW.left, LOW.top - 12);
    for (let x = -REACH + 1; x < REACH; x++) say(minus(x), px(x), HEIGHT - 12, { align: "center", size: 12, colour: GREY });
    const numbers = Object.fromEntries(Object.keys(directions).map((one) => [one, kl(one)]));
    Object.entries(directions).forEach(([one, text], k) => say(`${text} = ${numbers[one].toFixed(3)} nats`, TOP.right - 6, TOP.top + 14 + 20 * k, { align: "right", size: 14, weight: one === direction ? 700 : 400, colour: one === direction ? INK : GREY }));

    const words = verdict();
    says.textContent = words;
    says.classList.toggle("al-yes", words.startsWith("Found"));
    choices.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.direction === direction)));
    roll.textContent = rolling ? "stop" : "roll downhill";
    shown.forEach((show) => show());
    canvas.setAttribute("aria-label", `A density with two humps ${apart.toFixed(1)} apart, and a Gaussian with mean ${mean.toFixed(2)} and width ${width.toFixed(2)}. ${words}`);
    el.dataset.drawn = `${mean} ${width} ${apart} ${direction} ${numbers.forward} ${numbers.reverse} ${rolling}`;
  }

  const fromKernel = () => {
    if (telling || rolling || held !== null) return;
    [mean, width, apart, direction] = traits.map((name) => model.get(name));
    prepare();
    paint();
  };
  for (const name of traits) model.on(`change:${name}`, fromKernel);
  prepare();
  paint();
  return () => { clearTimeout(rest); halt(); for (const name of traits) model.off(`change:${name}`, fromKernel); };
}
export default { render };
