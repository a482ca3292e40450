// The schedules arrive once; everything is computed and drawn here, and the kernel hears of it when the hand is still.
// The numbers and words are those of step_back() and verdict() in posterior.py; a browser test holds the two together.
const [WIDTH, HEIGHT] = [880, 500];
const [BLUE, ORANGE, GREEN, RED, INK, GREY, FAINT] = ["#0072b2", "#b36b00", "#007a5a", "#d55e00", "#1d2733", "#51606f", "#c9d1da"];
const ROAD = { left: 70, right: 520, top: 50, bottom: 196, low: -4, high: 4 }; // the three densities; handles run below it
const NEAR = { left: 568, right: 872, top: 50, bottom: 196 }; // the posterior and the step that the guess makes, close up
const COST = { left: 70, right: 862, top: 352, bottom: 462, low: -6, high: 5 }; // what this guess costs at every t, powers of ten
const RAILS = { x0: 236, eps: 268, guess: 300 }; // heights of the three rails

const numbers = (view) => new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const cent = (x) => Math.round(100 * x) / 100;
const minus = (text) => String(text).replace("-", "−");

function nats(x) {
  if (x === 0 || (Math.abs(x) >= 0.01 && Math.abs(x) < 1000)) return x.toFixed(2);
  return x.toExponential(1).replace("e+", "e");
}

function price(bars, t, variance) { // what a step costs: fixed + weight times the squared error
  const now = bars[t], before = bars[t - 1], a = now / before, beta = 1 - a;
  const own = ((1 - before) * beta) / (1 - now), ofX0 = (Math.sqrt(before) * beta) / (1 - now);
  const sigma2 = t === 1 || variance === "beta" ? beta : own, ratio = own / sigma2;
  const fixed = t === 1 ? Math.log(2 * Math.PI * sigma2) / 2 : (ratio - 1 - Math.log(ratio)) / 2;
  return { a, beta, own, ofX0, ofXt: (Math.sqrt(a) * (1 - before)) / (1 - now), sigma2, fixed, weight: ofX0 ** 2 / (2 * sigma2) };
}

function stepBack(bars, { t, x0, eps, guess, variance }) {
  const p = price(bars, t, variance), now = bars[t], before = bars[t - 1];
  const xt = Math.sqrt(now) * x0 + Math.sqrt(1 - now) * eps;
  return {
    xt, weight: p.weight, nats: p.fixed + p.weight * (x0 - guess) ** 2,
    prior: { mean: Math.sqrt(before) * x0, sd: Math.sqrt(1 - before) },
    likelihood: { mean: xt / Math.sqrt(p.a), sd: Math.sqrt(p.beta / p.a) },
    posterior: { mean: p.ofX0 * x0 + p.ofXt * xt, sd: Math.sqrt(p.own) },
    reverse: { mean: p.ofX0 * guess + p.ofXt * xt, sd: Math.sqrt(p.sigma2) },
  };
}

function verdict(step, { t, x0, eps, guess }) {
  const off = Math.abs(x0 - guess), error = off.toFixed(2);
  if (t === 1) {
    return { bad: step.weight * off ** 2 > 1, words: "The last step: x_0 has no width left, so there is no KL. The term is"
      + ` -log p(x_0 | x_1) = ${nats(step.nats)} nats, a density: it may be negative. An error of ${error} adds ${nats(step.weight * off ** 2)} of them.` };
  }
  const ratio = step.posterior.sd / step.reverse.sd;
  let head = `An error of ${error} in the guess has its price.`;
  if (off === 0 && ratio > 0.9999) head = "The guess is right, and so is the width: this step costs nothing.";
  else if (off === 0) head = `The guess is right, and the step still costs: its width is ${(1 / ratio).toFixed(2)} times the posterior's.`;
  else if (step.nats > 1) head = `Expensive: at this t, an error of ${error} in the guess is seen at once.`;
  else if (step.nats < 1e-3) head = `Nearly free: at this t, an error of ${error} in the guess hardly matters.`;
  const cost = step.nats === 0 ? "" : `It costs ${nats(step.nats)} nats; `;
  const seldom = Math.abs(eps) > 3 ? " (x_t lies where noise leads less than once in 300 times.)" : "";
  return { bad: step.nats > 1, words: `${head} ${cost}w_t = ${nats(step.weight)}.${seldom}` };
}

function render({ model, el }) {
  const given = model.get("given");
  const roads = Object.fromEntries(Object.entries(given.roads).map(([name, view]) => [name, numbers(view)]));
  const KEYS = ["road", "t", "x0", "eps", "guess", "variance"], LIMIT = { x0: given.reach, guess: given.reach, eps: given.noise };
  const state = {};
  for (const key of KEYS) state[key] = model.get(key);
  const bars = () => roads[state.road], last = () => bars().length - 1;

  el.classList.add("al-posterior");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);

  // ------------------------------------------------------------------ what can be chosen, dragged and read
  const choices = make("div", { className: "al-choices" });
  function group(label, key, names) {
    const box = make("div", { className: "al-group" });
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", label);
    box.append(make("span", { className: "al-note", textContent: label }));
    const buttons = names.map((name) => {
      const button = make("button", { type: "button", textContent: name });
      button.addEventListener("click", () => {
        if (key === "road") { // stay at the same place of the road
          const share = state.t / last();
          state.road = name;
          state.t = clamp(Math.round(share * last()), 1, last());
        } else state[key] = name;
        paint(); settle();
      });
      box.append(button);
      return [key, name, button];
    });
    choices.append(box);
    return buttons;
  }
  const buttons = [...group("road", "road", Object.keys(roads)), ...group("width", "variance", ["posterior", "beta"])];
  const right = make("button", { type: "button", textContent: "guess right" });
  right.addEventListener("click", () => { state.guess = state.x0; paint(); settle(); });
  choices.append(right);

  const board = make("div", { className: "al-board" }), canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const slider = make("input", { type: "range", className: "al-time", min: 1, step: 1 });
  slider.setAttribute("aria-label", "step t");
  slider.addEventListener("input", () => { state.t = +slider.value; paint(); settle(); });
  const reading = make("p", { className: "al-reading" }), says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");

  const onRoad = (x) => ROAD.left + ((x - ROAD.low) / (ROAD.high - ROAD.low)) * (ROAD.right - ROAD.left);
  const NAMES = { x0: "x_0", eps: "x_t", guess: "your guess of x_0" };
  const at = (key, step) => (key === "eps" ? step.xt : state[key]);
  const put = (key, value) => { state[key] = cent(clamp(value, -LIMIT[key], LIMIT[key])); paint(); settle(); };
  const handles = Object.fromEntries(Object.keys(RAILS).map((key) => {
    const handle = make("span", { className: `al-handle al-${key}`, tabIndex: 0 });
    handle.dataset.handle = key;
    const about = { role: "slider", "aria-valuemin": -LIMIT[key], "aria-valuemax": LIMIT[key], "aria-label": NAMES[key] };
    for (const [name, value] of Object.entries(about)) handle.setAttribute(name, value);
    handle.addEventListener("pointerdown", (event) => { event.preventDefault(); handle.focus(); handle.setPointerCapture(event.pointerId); });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDTH;
      const place = ROAD.low + ((x - ROAD.left) / (ROAD.right - ROAD.left)) * (ROAD.high - ROAD.low), now = bars()[state.t];
      put(key, key === "eps" ? (place - Math.sqrt(now) * state.x0) / Math.sqrt(1 - now) : place);
    });
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 0.05, ArrowRight: 0.05, ArrowDown: -0.05, ArrowLeft: -0.05, PageUp: 0.5, PageDown: -0.5 }[event.key];
      if (!by) return;
      event.preventDefault();
      put(key, state[key] + by);
    });
    return [key, handle];
  }));
  board.append(canvas, slider, ...Object.values(handles));
  el.append(choices, board, reading, says);
  const atPointer = (event) => { // a press or drag in the lower plot moves t
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDTH, y = ((event.clientY - box.top) / box.height) * HEIGHT;
    if (y < COST.top - 8) return;
    state.t = Math.round(clamp(1 + ((last() - 1) * (x - COST.left)) / (COST.right - COST.left), 1, last()));
    paint(); settle();
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); atPointer(event); });
  canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) atPointer(event); });

  let rest = null, telling = false;
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set({ ...state });
      telling = false;
      model.save_changes();
    }, 300);
  }

  // ------------------------------------------------------------------ drawing
  let paper;
  function say(text, x, y, { size = 12, weight = 400, align = "left", colour = GREY } = {}) {
    paper.font = `${weight} ${size}px system-ui, sans-serif`;
    paper.textAlign = align;
    paper.fillStyle = colour;
    paper.fillText(text, x, y);
  }
  function line(points, colour, width = 2, dash = [], fill = "") {
    paper.beginPath();
    points.forEach(([x, y], i) => (i ? paper.lineTo(x, y) : paper.moveTo(x, y)));
    if (fill) { paper.fillStyle = fill; paper.fill(); }
    paper.strokeStyle = colour;
    paper.lineWidth = width;
    paper.setLineDash(dash);
    paper.stroke();
    paper.setLineDash([]);
  }
  const known = {};
  function priced() { // [t, fixed, weight] along a road, as fine as the screen; computed once
    const T = last(), shown = (t) => T <= 300 || t < 60 || t % 3 === 0 || t === T;
    const steps = () => Array.from({ length: T - 1 }, (_, i) => i + 2).filter(shown);
    return known[`${state.road} ${state.variance}`] ??= steps().map((t) => {
      const { fixed, weight } = price(bars(), t, state.variance);
      return [t, fixed, weight];
    });
  }
  const across = (time) => COST.left + ((time - 1) / (last() - 1)) * (COST.right - COST.left);
  const height = (cost) => COST.bottom - ((clamp(Math.log10(Math.max(cost, 1e-300)), COST.low, COST.high) - COST.low) / (COST.high - COST.low)) * (COST.bottom - COST.top);

  function bell({ mean, sd }, box, low, high, colour, dash, fill, tallest) { // a density, or a post where there is no width
    const place = (x) => box.left + ((x - low) / (high - low)) * (box.right - box.left), tall = box.bottom - box.top;
    paper.save();
    paper.beginPath();
    paper.rect(box.left, box.top - 4, box.right - box.left, tall + 4);
    paper.clip();
    if (sd === 0) line([[place(mean), box.bottom], [place(mean), box.top]], colour, 3, dash);
    else {
      const points = [];
      for (let z = -5; z <= 5.001; z += 0.1) points.push([place(mean + z * sd), box.bottom - tall * tallest * Math.exp((-z * z) / 2)]);
      line(points, colour, 2.2, dash, fill);
    }
    paper.restore();
  }

  function paint() {
    const sharp = Math.max(1, window.devicePixelRatio || 1);
    if (canvas.width !== WIDTH * sharp) { // a new size costs a layout of the page: only when it changes
      [canvas.width, canvas.height] = [WIDTH * sharp, HEIGHT * sharp];
      canvas.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
    }
    paper = canvas.getContext("2d");
    paper.setTransform(sharp, 0, 0, sharp, 0, 0);
    paper.clearRect(0, 0, WIDTH, HEIGHT);
    const { t, x0, guess } = state, step = stepBack(bars(), state), { words, bad } = verdict(step, state);
    const { prior, likelihood, posterior, reverse } = step;

    // the three densities, each as tall as the plot: their places and widths are what matters
    const keys = [["prior q(x_{t−1} | x_0)", BLUE, [7, 4]], ["likelihood q(x_t | x_{t−1})", ORANGE, [2, 3]], ["posterior", GREEN, []]];
    keys.forEach(([name, colour, dash], i) => {
      const x = ROAD.left + [0, 172, 364][i];
      line([[x, 34], [x + 22, 34]], colour, 2.2, dash);
      say(name, x + 27, 38, { colour: INK, size: 12 });
    });
    say("prior × likelihood = posterior, over x_{t−1}", ROAD.left, 16, { weight: 600, colour: INK, size: 12.5 });
    for (const tick of [-4, -3, -2, -1, 0, 1, 2, 3, 4]) {
      line([[onRoad(tick), ROAD.top], [onRoad(tick), RAILS.guess + 8]], "#eef1f4", 1);
      say(minus(tick), onRoad(tick), ROAD.bottom + 13, { align: "center", size: 10.5 });
    }
    bell(posterior, ROAD, ROAD.low, ROAD.high, GREEN, [], "#cde9e0", 1);
    bell(prior, ROAD, ROAD.low, ROAD.high, BLUE, [7, 4], "", 1);
    bell(likelihood, ROAD, ROAD.low, ROAD.high, ORANGE, [2, 3], "", 1);
    line([[ROAD.left, ROAD.bottom], [ROAD.right, ROAD.bottom]], FAINT, 1);
    for (const [key, y] of Object.entries(RAILS)) {
      line([[ROAD.left, y], [ROAD.right, y]], FAINT, 1);
      say({ x0: "x_0", eps: "x_t", guess: "guess" }[key], ROAD.left - 10, y + 4, { align: "right", colour: INK, weight: 600 });
    }

    // close up: the posterior, and the step that the guess makes
    const wide = Math.max(4.5 * posterior.sd, 4.5 * reverse.sd, Math.abs(reverse.mean - posterior.mean) + 3.5 * reverse.sd);
    const [low, high] = [posterior.mean - wide, posterior.mean + wide];
    const narrow = Math.min(posterior.sd, reverse.sd) || reverse.sd;
    say("close up: the posterior and your step back", NEAR.left, 16, { weight: 600, colour: INK, size: 12.5 });
    line([[NEAR.left, 34], [NEAR.left + 22, 34]], GREEN, 2.2);
    say("posterior", NEAR.left + 27, 38, { colour: INK });
    line([[NEAR.left + 104, 34], [NEAR.left + 126, 34]], RED, 2.2, [5, 3]);
    say("yours: p(x_{t−1} | x_t)", NEAR.left + 131, 38, { colour: INK });
    bell(posterior, NEAR, low, high, GREEN, [], "#cde9e0", posterior.sd ? narrow / posterior.sd : 1);
    bell(reverse, NEAR, low, high, RED, [5, 3], "", narrow / reverse.sd);
    line([[NEAR.left, NEAR.bottom], [NEAR.right, NEAR.bottom]], FAINT, 1);
    const digits = clamp(Math.ceil(1 - Math.log10(wide)), 1, 5);
    [low, posterior.mean, high].forEach((x, i) => say(minus(x.toFixed(digits)), [NEAR.left, (NEAR.left + NEAR.right) / 2, NEAR.right][i], NEAR.bottom + 13, { align: ["left", "center", "right"][i], size: 10.5 }));
    const apart = posterior.sd ? `means ${(Math.abs(reverse.mean - posterior.mean) / posterior.sd).toFixed(2)} widths apart` : "the posterior has no width left";
    say(t === 1 ? "−log p(x_0 | x_1)" : "KL", NEAR.left, 250, { size: 13, colour: INK });
    say(`${minus(nats(step.nats))} nats`, NEAR.left, 278, { size: 24, weight: 700, colour: bad ? "#a34700" : INK });
    say(apart, NEAR.left, 300, { size: 12 });

    // what the same guess costs at every t
    say(`what this guess would cost at every t, in nats (${state.variance} width)`, COST.left, COST.top - 10, { weight: 600, colour: INK, size: 12.5 });
    for (const power of [-6, -3, 0, 3]) {
      const y = height(10 ** power);
      line([[COST.left, y], [COST.right, y]], power ? "#e4e9ee" : "#8a97a4", 1, power ? [] : [4, 3]);
      say({ "-6": "10⁻⁶", "-3": "10⁻³", 0: "1", 3: "1000" }[power], COST.left - 6, y + 4, { align: "right", size: 11 });
    }
    const T = last(), square = (x0 - guess) ** 2;
    const costs = priced().map(([k, fixed, weight]) => [across(k), height(fixed + weight * square)]);
    line(costs, BLUE, 2);
    if (T <= 10) for (const [x, y] of costs) { paper.beginPath(); paper.arc(x, y, 3, 0, 7); paper.fillStyle = BLUE; paper.fill(); }
    line([[COST.left, COST.top], [COST.left, COST.bottom], [COST.right, COST.bottom]], FAINT, 1);
    for (const time of [1, Math.round(T / 4), Math.round(T / 2), Math.round((3 * T) / 4), T]) say(time, across(time), COST.bottom + 34, { align: "center", size: 10.5 });
    line([[across(t), COST.top], [across(t), COST.bottom]], RED, 1.4);

    for (const [key, name, button] of buttons) button.setAttribute("aria-pressed", String(state[key] === name));
    for (const [key, handle] of Object.entries(handles)) {
      handle.style.left = `${(100 * clamp(onRoad(at(key, step)), ROAD.left - 20, ROAD.right + 20)) / WIDTH}%`;
      handle.style.top = `${(100 * RAILS[key]) / HEIGHT}%`;
      handle.setAttribute("aria-valuenow", state[key]);
      handle.setAttribute("aria-valuetext", key === "eps" ? `x_t = ${step.xt.toFixed(3)}, eps = ${state.eps.toFixed(2)}` : state[key].toFixed(2));
    }
    slider.max = T;
    slider.value = t;
    slider.setAttribute("aria-valuetext", `t = ${t} of ${T}`);
    const one = (name, normal) => `${name} ${normal.mean.toFixed(4)} ± ${normal.sd.toFixed(4)}`;
    const detail = `x_t ${step.xt.toFixed(4)}, ${one("prior", prior)}, ${one("likelihood", likelihood)}, ${one("posterior", posterior)}, yours ${one("", reverse).trim()}`;
    reading.replaceChildren(make("b", { textContent: `t = ${t} of ${T}: ` }), detail);
    says.textContent = words;
    says.classList.toggle("al-no", bad);
    canvas.setAttribute("aria-label", `Prior, likelihood and posterior at t = ${t}: ${detail}. ${words}`);
    el.dataset.drawn = [state.road.replace(" ", "_"), t, x0, state.eps, guess, state.variance].join(" ");
  }
  slider.style.left = `${(100 * (COST.left - 8)) / WIDTH}%`;
  slider.style.width = `${(100 * (COST.right - COST.left + 16)) / WIDTH}%`;
  slider.style.top = `${(100 * (COST.bottom + 4)) / HEIGHT}%`;

  const fromKernel = () => {
    if (telling) return;
    for (const key of KEYS) state[key] = model.get(key);
    state.t = clamp(state.t, 1, last());
    paint();
  };
  for (const key of KEYS) model.on(`change:${key}`, fromKernel);
  paint();
  return () => { clearTimeout(rest); for (const key of KEYS) model.off(`change:${key}`, fromKernel); };
}
export default { render };
