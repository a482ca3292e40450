// Data and schedules arrive once; everything is computed and drawn here, and the kernel hears of it when the hand is still.
// The numbers and words are those of curves() and verdict() in forward.py; a browser test holds the two together.
const [WIDTH, HEIGHT] = [880, 506];
const [LOWEST, HIGHEST, GAP] = [-13, 12, 0.05]; // log-SNRs that a handle may have, and the least distance between two
const [BLUE, ORANGE, GREEN, RED, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#1d2733", "#51606f", "#c9d1da"];
const PLOT = { left: 46, right: 424 }; // the three plots over t share their left and right ends
const ROWS = { snr: [24, 214], amplitude: [262, 342], work: [390, 466] }; // and have their own tops and bottoms
const BINS = { left: 476, right: 872, top: 24, bottom: 176 };
const SCALES = [0.025, 0.05, 0.1, 0.2, 0.5, 1], SHARES = [2, 3, 5, 10, 20, 50, 100, 1000];

const numbers = (view) => new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const cent = (x) => Math.round(100 * x) / 100;
const minus = (text) => String(text).replace("-", "−");

// the standard normal's distribution function, to 1e-7 (Abramowitz and Stegun 7.1.26)
function ndtr(z) {
  const x = Math.abs(z) / Math.SQRT2, s = 1 / (1 + 0.3275911 * x);
  const tail = s * (0.254829592 + s * (-0.284496736 + s * (1.421413741 + s * (-1.453152027 + s * 1.061405429)))) * Math.exp(-x * x);
  return z < 0 ? tail / 2 : 1 - tail / 2;
}

function drawn(heights, places) { // straight lines from handle to handle
  let i = 0;
  return Float64Array.from({ length: places.at(-1) }, (_, k) => {
    while (places[i + 1] < k + 1) i++;
    return heights[i] + ((k + 1 - places[i]) / (places[i + 1] - places[i])) * (heights[i + 1] - heights[i]);
  });
}

function recoverable(snr, { power, count }) {
  let found = 0, all = 0;
  for (let k = 0; k < power.length; k++) {
    all += count[k] * power[k];
    found += (count[k] * power[k] * snr * power[k]) / (snr * power[k] + 1);
  }
  return found / all;
}

function curves(logSnr, data) {
  const T = logSnr.length, R = new Float64Array(T + 1), work = new Float64Array(T);
  const signal = new Float64Array(T + 1), noise = new Float64Array(T + 1);
  R[0] = signal[0] = 1;
  let top = 0;
  for (let t = 1; t <= T; t++) {
    const snr = Math.exp(logSnr[t - 1]);
    R[t] = recoverable(snr, data);
    signal[t] = Math.sqrt(snr / (1 + snr));
    noise[t] = Math.sqrt(1 / (1 + snr));
    work[t - 1] = T * (R[t - 1] - R[t]);
    if (work[t - 1] > work[top]) top = t - 1;
  }
  const wasted = work.map((w) => (w < 0.1 ? 1 : 0)), sum = (part) => part.reduce((a, b) => a + b, 0);
  const last = signal[T] ** 2;
  const kl = (last * (data.mean_square - 1) - Math.log1p(-last)) / 2;
  return { R, work, signal, noise, wasted, largest: top + 1, most: work[top], kl, mean: signal[T] * data.mean,
    early: sum(wasted.slice(0, top)), late: sum(wasted.slice(top)) };
}

const small = (x) => (x >= 0.01 ? x.toFixed(2) : x.toExponential(1).replace("e+", "e"));

function verdict(c, pixels) {
  const T = c.work.length, signed = (c.mean < 0 ? "" : "+") + c.mean.toFixed(3);
  let head = "It arrives, and few steps are wasted.", bad = true;
  if (c.kl > 1e-3) head = `It never gets there: a pixel of x_T still has mean ${signed}, and noise to start from has mean 0.`;
  else if (c.late > T / 5) head = "It destroys too early: the last steps move noise about, and a sampler must walk back through them.";
  else if (c.early > T / 5) head = "It starts too late: the first steps hardly touch the digits.";
  else if (c.most > 3) head = "It destroys in a rush: a sampler must undo much in few steps.";
  else {
    bad = false;
    if (c.most < 1.25) head = "Even: no step does much more than its share.";
  }
  const words = `${head} Wasted steps: ${((100 * (c.early + c.late)) / T).toFixed(1)} % (${c.early} early, ${c.late} late).`
    + ` The largest step, t = ${c.largest}, destroys ${c.most.toFixed(2)} fair shares.`
    + ` KL at T: ${small(c.kl)} nats a pixel, ${small(pixels * c.kl)} a picture.`;
  return { words, bad };
}

function histogram(data, signal, noise) {
  const { levels, shares, edges } = data, bins = new Float64Array(edges.length - 1), sigma = Math.max(noise, 1e-6);
  levels.forEach((level, i) => {
    if (!shares[i]) return;
    let before = ndtr((edges[0] - signal * level) / sigma);
    for (let e = 1; e < edges.length; e++) {
      const here = ndtr((edges[e] - signal * level) / sigma);
      bins[e - 1] += shares[i] * (here - before);
      before = here;
    }
  });
  return bins;
}

function toNormal(bins, normal) {
  let sum = 0, ours = 0, theirs = 0;
  bins.forEach((p, i) => { sum += Math.abs(p - normal[i]); ours += p; theirs += normal[i]; });
  return (sum + Math.abs(ours - theirs)) / 2;
}

function render({ model, el }) {
  const given = model.get("given"), data = { ...given };
  for (const name of ["edges", "power", "count", "levels", "shares"]) data[name] = numbers(given[name]);
  const { T, places } = given, normal = data.edges.slice(1).map((e, i) => ndtr(e) - ndtr(data.edges[i]));
  const schedules = Object.fromEntries(Object.entries(given.schedules).map(([name, view]) => [name, numbers(view)]));
  const things = Object.fromEntries(Object.entries(given.things).map(([name, { shape, x0, eps }]) => [name, { shape, x0: numbers(x0), eps: numbers(eps) }]));
  const level = (goal) => { // the log-SNR at which this share can be recovered: the same for every schedule
    let low = -30, high = 30;
    for (let i = 0; i < 60; i++) recoverable(Math.exp((low + high) / 2), data) < goal ? (low = (low + high) / 2) : (high = (low + high) / 2);
    return low;
  };
  const zone = [level(0.99), level(0.01)];

  el.classList.add("al-forward");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  let choice = model.get("choice"), handles = [...model.get("handles")], t = model.get("t");

  // ------------------------------------------------------------------ what can be chosen, dragged and read
  const choices = make("div", { className: "al-choices" });
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Schedule");
  const buttons = [...Object.keys(schedules), "own"].map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      choice = name;
      if (name !== "own") handles = fromCurve(schedules[name]);
      shape(); settle();
    });
    choices.append(button);
    return [name, button];
  });
  choices.append(make("span", { className: "al-note", textContent: "Drag a circle, or click it and press ↑ ↓: the schedule becomes your own." }));
  const board = make("div", { className: "al-board" }), canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const slider = make("input", { type: "range", className: "al-time", min: 1, max: T, step: 1 });
  slider.setAttribute("aria-label", "step t");
  slider.addEventListener("input", () => { t = +slider.value; paint(); settle(); });
  const reading = make("p", { className: "al-reading" }), says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  const circles = handles.map((_, i) => {
    const circle = make("span", { className: "al-handle", tabIndex: 0 });
    circle.dataset.handle = i;
    const about = { role: "slider", "aria-orientation": "vertical", "aria-valuemin": LOWEST, "aria-valuemax": HIGHEST, "aria-label": `log-SNR at t = ${places[i]}` };
    for (const [name, value] of Object.entries(about)) circle.setAttribute(name, value);
    circle.addEventListener("pointerdown", (event) => { event.preventDefault(); circle.focus(); circle.setPointerCapture(event.pointerId); });
    circle.addEventListener("pointermove", (event) => {
      if (!circle.hasPointerCapture(event.pointerId)) return;
      const box = canvas.getBoundingClientRect(), [top, bottom] = ROWS.snr;
      const y = ((event.clientY - box.top) / box.height) * HEIGHT;
      move(i, HIGHEST + ((y - top) / (bottom - top)) * (LOWEST - HIGHEST));
    });
    circle.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 0.25, ArrowRight: 0.25, ArrowDown: -0.25, ArrowLeft: -0.25, PageUp: 2, PageDown: -2 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(i, handles[i] + by);
    });
    return circle;
  });
  board.append(canvas, slider, ...circles);
  el.append(choices, board, reading, says);
  const atPointer = (event) => { // a press or drag over the plots moves t
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDTH;
    if (x < PLOT.left - 8 || x > PLOT.right + 8) return;
    t = Math.round(clamp((T * (x - PLOT.left)) / (PLOT.right - PLOT.left), 1, T));
    paint(); settle();
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); atPointer(event); });
  canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) atPointer(event); });

  const fromCurve = (logSnr) => places.map((place) => cent(clamp(logSnr[place - 1], LOWEST, HIGHEST)));
  function move(i, height) { // the others give way: a log-SNR never rises
    const last = handles.length - 1;
    handles[i] = cent(clamp(height, LOWEST + GAP * (last - i), HIGHEST - GAP * i));
    for (let j = i + 1; j <= last; j++) handles[j] = cent(Math.min(handles[j], handles[j - 1] - GAP));
    for (let j = i - 1; j >= 0; j--) handles[j] = cent(Math.max(handles[j], handles[j + 1] + GAP));
    choice = "own";
    shape(); settle();
  }

  let rest = null, telling = false;
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set({ choice, handles: [...handles], t });
      telling = false;
      model.save_changes();
    }, 300);
  }

  // ------------------------------------------------------------------ drawing
  let logSnr, now;
  function shape() {
    logSnr = choice === "own" ? drawn(handles, places) : schedules[choice];
    now = curves(logSnr, data);
    const { words, bad } = verdict(now, given.pixels);
    says.textContent = words;
    says.classList.toggle("al-no", bad);
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(name === choice));
    circles.forEach((circle, i) => {
      circle.style.left = `${(100 * across(places[i])) / WIDTH}%`;
      circle.style.top = `${(100 * height("snr", handles[i], HIGHEST, LOWEST)) / HEIGHT}%`;
      circle.setAttribute("aria-valuenow", handles[i]);
      circle.setAttribute("aria-valuetext", `${handles[i].toFixed(2)} at t = ${places[i]}`);
    });
    plots();
    paint();
  }
  const across = (time) => PLOT.left + (time / T) * (PLOT.right - PLOT.left);
  const height = (row, value, high, low) => ROWS[row][0] + ((high - value) / (high - low)) * (ROWS[row][1] - ROWS[row][0]);
  slider.style.left = `${(100 * (PLOT.left - 8)) / WIDTH}%`;
  slider.style.width = `${(100 * (PLOT.right - PLOT.left + 16)) / WIDTH}%`;
  slider.style.top = `${(100 * 483) / HEIGHT}%`;

  let paper;
  function say(text, x, y, { size = 12, weight = 400, align = "left", colour = GREY } = {}) {
    paper.font = `${weight} ${size}px system-ui, sans-serif`;
    paper.textAlign = align;
    paper.fillStyle = colour;
    paper.fillText(text, x, y);
  }
  function line(points, colour, width = 2, dash = []) {
    paper.beginPath();
    points.forEach(([x, y], i) => (i ? paper.lineTo(x, y) : paper.moveTo(x, y)));
    paper.strokeStyle = colour;
    paper.lineWidth = width;
    paper.setLineDash(dash);
    paper.stroke();
    paper.setLineDash([]);
  }
  function frame(row, title, ticks, high, low, write = (tick) => minus(tick)) {
    const [top, bottom] = ROWS[row];
    say(title, PLOT.left, top - 9, { weight: 600, colour: INK, size: 12.5 });
    for (const tick of ticks) {
      const y = height(row, tick, high, low);
      line([[PLOT.left, y], [PLOT.right, y]], "#e4e9ee", 1);
      say(write(tick), PLOT.left - 6, y + 4, { align: "right", size: 11 });
    }
    line([[PLOT.left, top], [PLOT.left, bottom], [PLOT.right, bottom]], FAINT, 1);
    for (const time of [0, 250, 500, 750, 1000]) say(time, across((time * T) / 1000), bottom + 13, { align: "center", size: 10.5 });
  }
  const curve = (row, values, high, low, from = 0) => Array.from(values, (v, k) => [across(k + from), height(row, clamp(v, low, high), high, low)]);
  const each = (values, step = 4) => values.filter((_, k) => k % step === 0 || k === values.length - 1); // as fine as the screen

  const cells = {};
  function picture(name, x, y, scale) {
    const { shape: [H, W], x0, eps } = things[name], cell = (cells[name] ??= Object.assign(document.createElement("canvas"), { width: W, height: H }));
    const ground = cell.getContext("2d"), image = ground.createImageData(W, H), pixels = new Uint32Array(image.data.buffer);
    const a = now.signal[t], b = now.noise[t];
    for (let i = 0; i < x0.length; i++) {
      const grey = Math.round(127.5 * (1 - clamp(a * x0[i] + b * eps[i], -1, 1)));
      pixels[i] = 0xff000000 | (grey * 0x010101);
    }
    ground.putImageData(image, 0, 0);
    paper.imageSmoothingEnabled = false;
    paper.drawImage(cell, x, y, W * scale, H * scale);
    paper.strokeStyle = FAINT;
    paper.lineWidth = 1;
    paper.strokeRect(x - 0.5, y - 0.5, W * scale + 1, H * scale + 1);
  }
  function points(x, y, side) {
    const { x0, eps } = things.spiral, a = now.signal[t], b = now.noise[t], place = (v) => ((v + 3.2) / 6.4) * side;
    paper.strokeStyle = FAINT;
    paper.strokeRect(x - 0.5, y - 0.5, side + 1, side + 1);
    paper.fillStyle = BLUE;
    for (let i = 0; i < x0.length; i += 2) {
      const [u, v] = [place(a * x0[i] + b * eps[i]), place(-a * x0[i + 1] - b * eps[i + 1])];
      if (u > 1 && u < side - 2 && v > 1 && v < side - 2) paper.fillRect(x + u - 1, y + v - 1, 2, 2);
    }
  }

  const sheet = make("canvas"); // the three plots over t, which stay as they are while only t moves
  function onto(target) {
    paper = target.getContext("2d");
    paper.setTransform(sharp, 0, 0, sharp, 0, 0);
    paper.clearRect(0, 0, WIDTH, HEIGHT);
  }
  let sharp = 0;
  function plots() {
    if (sharp !== Math.max(1, window.devicePixelRatio || 1)) { // a new size costs a layout of the page: only when it changes
      sharp = Math.max(1, window.devicePixelRatio || 1);
      for (const one of [canvas, sheet]) [one.width, one.height] = [WIDTH * sharp, HEIGHT * sharp];
      canvas.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
    }
    onto(sheet);

    // the schedule
    const [from, to] = zone.map((l) => height("snr", l, HIGHEST, LOWEST));
    paper.fillStyle = "#e3f3ee";
    paper.fillRect(PLOT.left, from, PLOT.right - PLOT.left, to - from);
    frame("snr", "log-SNR over t", [10, 5, 0, -5, -10], HIGHEST, LOWEST);
    say("in this band the digits drown", PLOT.left + 6, to + 13, { size: 11, colour: "#00644a" });
    for (const [name, dash] of [["linear", [2, 3]], ["cosine", [7, 4]]]) if (choice !== name) line(each(curve("snr", schedules[name], HIGHEST, LOWEST, 1)), "#8a97a4", 1.2, dash);
    line(each(curve("snr", logSnr, HIGHEST, LOWEST, 1)), BLUE, 2.4);
    [["linear", [2, 3]], ["cosine", [7, 4]]].forEach(([name, dash], i) => {
      line([[PLOT.right - 66, 34 + 14 * i], [PLOT.right - 44, 34 + 14 * i]], "#8a97a4", 1.2, dash);
      say(name, PLOT.right - 40, 38 + 14 * i, { size: 11 });
    });

    // signal and noise
    frame("amplitude", "", [0, 0.5, 1], 1, 0);
    const strokes = [["signal √ᾱ", now.signal, BLUE, 2, []], ["noise √(1 − ᾱ)", now.noise, ORANGE, 2, [7, 3]], ["recoverable R", now.R, GREEN, 2, [2, 2.5]]];
    strokes.forEach(([name, values, ...how], i) => {
      const x = PLOT.left + [0, 108, 252][i], y = ROWS.amplitude[0] - 13;
      line([[x, y], [x + 24, y]], ...how);
      say(name, x + 29, y + 4, { weight: 600, colour: INK });
      line(each(curve("amplitude", values, 1, 0)), ...how);
    });

    // what each step destroys
    const high = SHARES.find((one) => one >= now.most) ?? 1000;
    frame("work", "what step t destroys, in fair shares", [0, high / 2, high], high, 0, (tick) => +tick.toFixed(1));
    const heights = curve("work", now.work, high, 0, 1), floor = ROWS.work[1];
    paper.beginPath();
    paper.moveTo(across(1), floor);
    for (const [x, y] of heights) paper.lineTo(x, y);
    paper.lineTo(across(T), floor);
    paper.fillStyle = "#cfe3f1";
    paper.fill();
    line(each(heights, 2), BLUE, 1.5);
    line([[PLOT.left, height("work", 1, high, 0)], [PLOT.right, height("work", 1, high, 0)]], INK, 1, [4, 3]);
    for (let k = 0, start = 0; k <= T; k++) {
      if (k < T && now.wasted[k]) continue;
      if (k > start) hatch(across(start + 1), across(k), k - start);
      start = k + 1;
    }
  }

  function paint() {
    onto(canvas);
    paper.drawImage(sheet, 0, 0, WIDTH, HEIGHT);

    // the pixels
    const bins = histogram(data, now.signal[t], now.noise[t]), scale = SCALES.find((one) => one >= Math.max(...bins)) ?? 1;
    const wide = (BINS.right - BINS.left) / bins.length, tall = BINS.bottom - BINS.top, up = (p) => BINS.bottom - (p / scale) * tall;
    say("values of all the pixels at t", BINS.left, BINS.top - 9, { weight: 600, colour: INK, size: 12.5 });
    paper.fillStyle = "#7fb3d5";
    bins.forEach((p, i) => paper.fillRect(BINS.left + i * wide, up(p), wide, BINS.bottom - up(p)));
    line(Array.from(normal, (p, i) => [BINS.left + (i + 0.5) * wide, up(p)]), INK, 1.5, [5, 3]);
    line([[BINS.left, BINS.bottom], [BINS.right, BINS.bottom]], FAINT, 1);
    for (const v of [-3, -2, -1, 0, 1, 2, 3]) say(minus(v), BINS.left + ((v + 3.5) / 7) * (BINS.right - BINS.left), BINS.bottom + 13, { align: "center", size: 10.5 });
    const distance = toNormal(bins, normal);
    say("dashed: standard normal", BINS.right, BINS.top + 8, { align: "right", size: 11 });
    say(`distance ${distance.toFixed(3)}`, BINS.right, BINS.top + 24, { align: "right", weight: 600, colour: INK });

    // the three pictures
    const top = 222, side = 168;
    say("a digit", BINS.left, top - 8, { weight: 600, colour: INK, size: 12.5 });
    say("a spiral", BINS.left + 228, top - 8, { weight: 600, colour: INK, size: 12.5 });
    picture("digit", BINS.left, top, side / things.digit.shape[1]);
    points(BINS.left + 228, top, side);
    say("a sentence", BINS.left, 418, { weight: 600, colour: INK, size: 12.5 });
    picture("sentence", BINS.left, 426, (BINS.right - BINS.left) / things.sentence.shape[1]);

    // t, in all of them
    for (const [upper, lower] of Object.values(ROWS)) line([[across(t), upper], [across(t), lower]], RED, 1.2);
    slider.value = t;
    slider.setAttribute("aria-valuetext", `t = ${t}`);
    const words = `signal ${now.signal[t].toFixed(3)}, noise ${now.noise[t].toFixed(3)}, log-SNR ${logSnr[t - 1].toFixed(2)}, recoverable ${(100 * now.R[t]).toFixed(1)} %, pixels to normal ${distance.toFixed(3)}`;
    reading.replaceChildren(make("b", { textContent: `t = ${t}: ` }), words);
    canvas.setAttribute("aria-label", `A digit, a spiral and a sentence at t = ${t}: ${words}. ${says.textContent}`);
    el.dataset.drawn = `${choice} ${t} ${handles.join(" ")}`;
  }
  function hatch(x, end, steps) {
    const [top, bottom] = ROWS.work;
    paper.save();
    paper.beginPath();
    paper.rect(x, top, Math.max(1, end - x), bottom - top);
    paper.clip();
    for (let s = x - (bottom - top); s < end; s += 7) line([[s, bottom], [s + bottom - top, top]], "#e0a586", 1);
    paper.restore();
    if (end - x > 70) {
      paper.fillStyle = "#fff";
      paper.fillRect((x + end) / 2 - 34, top + 24, 68, 18);
      say(`${steps} wasted`, (x + end) / 2, top + 37, { align: "center", size: 11, colour: "#a34700" });
    }
  }

  const fromKernel = () => {
    if (telling) return;
    [choice, handles, t] = [model.get("choice"), [...model.get("handles")], model.get("t")];
    shape();
  };
  const heard = ["change:choice", "change:handles", "change:t"];
  for (const event of heard) model.on(event, fromKernel);
  shape();
  return () => { clearTimeout(rest); for (const event of heard) model.off(event, fromKernel); };
}
export default { render };
