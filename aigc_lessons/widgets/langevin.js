// Five hundred walkers, moved and drawn here; the kernel hears of the controls when the hand is still.
// Numbers and words are those of walk() and verdict() in langevin.py; a browser test holds the two together.
const [WIDTH, HEIGHT, LAST] = [880, 340, 1000]; // no walk takes more steps than LAST
const [BLUE, ORANGE, GREEN, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#009e73", "#1d2733", "#51606f", "#c9d1da"];
const LAND = { left: 4, top: 26, width: 528, height: 300, reach: 4.0 }; // the hills, x from -reach to reach
const SHARE = { left: 588, right: 858, top: 30, bottom: 180 }, LEVEL = { left: 588, right: 858, top: 222, bottom: 310 };

const minus = (text) => String(text).replace("-", "−");

// mulberry32: number i of the stream, as a share of 1
function uniform(seed, i) {
  const a = (seed + Math.imul(i + 1, 0x6d2b79f5)) | 0;
  let t = Math.imul(a ^ (a >>> 15), a | 1);
  t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

// the distribution function of the standard normal, to 1e-7 (Abramowitz and Stegun 7.1.26)
function ndtr(z) {
  const x = Math.abs(z) / Math.SQRT2, s = 1 / (1 + 0.3275911 * x);
  const tail = s * (0.254829592 + s * (-0.284496736 + s * (1.421413741 + s * (-1.453152027 + s * 1.061405429)))) * Math.exp(-x * x);
  return z < 0 ? tail / 2 : 1 - tail / 2;
}

function render({ model, el }) {
  const { far, spread, left, walkers, seed, sizes, starts, lowest, highest, noisiest, annealed } = model.get("given");
  let { size, log_snr: logSnr, anneal, start } = { size: model.get("size"), log_snr: model.get("log_snr"), anneal: model.get("anneal"), start: model.get("start") };
  const x = new Float64Array(2 * walkers), z = new Float64Array(2 * walkers);
  let steps = 0, crossings = 0, shares = [], levels = [], playing = false;

  // ------------------------------------------------------------------ the walk
  const noise = (level) => { const abar = 1 / (1 + Math.exp(-level)); return [abar, abar * spread * spread + 1 - abar]; };
  const levelOf = (k) => (!anneal || k >= annealed ? logSnr : noisiest + ((logSnr - noisiest) * k) / annealed);
  const trueShare = (level) => { const [abar, v] = noise(level), q = (Math.sqrt(abar) * far) / Math.sqrt(v); return left * ndtr(q) + (1 - left) * ndtr(-q); };
  const leftNow = () => { let n = 0; for (let i = 0; i < x.length; i += 2) n += x[i] < 0; return n / walkers; };
  function normals(draw) {
    for (let i = 0; i < walkers; i++) {
      const k = 2 * (walkers * draw + i), radius = Math.sqrt(-2 * Math.log(1 - uniform(seed, k))), angle = 2 * Math.PI * uniform(seed, k + 1);
      z[2 * i] = radius * Math.cos(angle);
      z[2 * i + 1] = radius * Math.sin(angle);
    }
  }
  function restart() {
    normals(0);
    for (let i = 0; i < x.length; i++) x[i] = start === "noise" ? z[i] : start === "left" ? (i % 2 ? 0 : -far) + spread * z[i] : 0;
    [steps, crossings, shares, levels] = [0, 0, [leftNow()], []];
  }
  function step() {
    const level = levelOf(steps), [abar, v] = noise(level), h = size * v, shake = Math.sqrt(2 * h), at = Math.sqrt(abar) * far;
    normals(steps + 1);
    for (let i = 0; i < x.length; i += 2) {
      // the right hill's share in this place: 1 / (1 + left / right)
      const right = 1 / (1 + (left / (1 - left)) * Math.exp((-2 * at * x[i]) / v));
      const before = x[i] < 0;
      x[i] += (h * ((2 * right - 1) * at - x[i])) / v + shake * z[i];
      x[i + 1] += (-h * x[i + 1]) / v + shake * z[i + 1];
      crossings += before !== x[i] < 0;
    }
    steps++;
    shares.push(leftNow());
    levels.push(level);
  }
  const farthest = () => x.reduce((most, value) => (Math.abs(value) < most ? most : Math.abs(value)), 0);
  function verdict() {
    const level = levelOf(Math.max(steps - 1, 0)), [abar, v] = noise(level);
    if (!(farthest() < 20)) return ["It flew apart: with a step of 2 hill variances or more, each step overshoots by more than it corrects. Restart.", true];
    const share = shares.at(-1), truth = trueShare(level), off = Math.abs(share - truth) / Math.sqrt((truth * (1 - truth)) / walkers);
    let across = 0;
    for (let i = 1; i < x.length; i += 2) across += (x[i] * x[i]) / walkers / v;
    let head = "Right: both weights and spread agree with the truth.", bad = false;
    if (steps === 0) head = "Not a step yet: press run.";
    else if (anneal && steps < annealed) head = "Annealing: the noise is still falling.";
    else {
      bad = true;
      if (Math.sqrt(abar) * far < 1.5 * Math.sqrt(v)) head = "One hill: walkers get everywhere at this noise level, but they are noisy data, not data.";
      else if (size >= 0.4 && across > 1.2) head = "Too wide: steps this large shake more than the score can gather.";
      else if (off > 4) head = "Wrong weights: the shares are frozen, since hardly anybody crosses the valley at this noise level.";
      else if (Math.abs(across - 1) > 0.3) head = "Not there yet: the walkers are still moving in.";
      else bad = false;
    }
    const words = `${head} Left of the middle: ${(100 * share).toFixed(1)} %, the truth is ${(100 * truth).toFixed(1)} % (${off.toFixed(1)} standard errors off).`
      + ` Variance across: ${across.toFixed(2)} of the right one. The middle was crossed ${crossings} times.`;
    return [words, bad];
  }

  // ------------------------------------------------------------------ what can be pressed, moved and read
  el.classList.add("al-langevin");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  const button = (text, press) => { const one = make("button", { type: "button", textContent: text }); one.addEventListener("click", press); return one; };
  const row = make("div", { className: "al-row" });
  const run = button("run", () => (playing ? pause() : play()));
  run.classList.add("al-run");
  const ten = button("10 steps", () => { pause(); forward(10); });
  const again = button("restart", () => { restart(); paint(); });
  const cool = button("anneal", () => { anneal = !anneal; restart(); paint(); settle(); });
  const begins = starts.map((name) => button(name, () => { start = name; restart(); paint(); settle(); }));
  const group = make("span");
  group.style.display = "contents";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "where the walkers start");
  group.append(make("span", { className: "al-note", textContent: "start:" }), ...begins);
  row.append(run, ten, again, group, make("span", { className: "al-note", textContent: "noise falls slowly:" }), cool);
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const sliders = make("div", { className: "al-sliders" });
  const slider = (name, min, max, by, changed) => {
    const label = make("label"), words = make("span"), input = make("input", { type: "range", min, max, step: by });
    input.dataset.control = name;
    input.addEventListener("input", () => { changed(+input.value); paint(); settle(); });
    label.append(words, input);
    sliders.append(label);
    return [words, input];
  };
  const [sizeWords, sizeInput] = slider("size", 0, sizes.length - 1, 1, (i) => { size = sizes[i]; });
  const [snrWords, snrInput] = slider("noise", lowest, highest, 0.5, (value) => { logSnr = value; });
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(row, canvas, sliders, says);

  let rest = null, telling = false, frame = null;
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set({ size, log_snr: logSnr, anneal, start });
      telling = false;
      model.save_changes();
    }, 300);
  }
  function forward(n) {
    for (let k = 0; k < n && steps < LAST && farthest() < 1e3; k++) step();
    paint();
  }
  function play() {
    if (steps >= LAST) restart();
    playing = true;
    const go = () => {
      forward(2);
      if (!playing) return;
      if (steps >= LAST || !(farthest() < 1e3) || !el.isConnected) pause();
      else frame = requestAnimationFrame(go);
    };
    frame = requestAnimationFrame(go);
  }
  function pause() {
    playing = false;
    cancelAnimationFrame(frame);
    paint();
  }

  // ------------------------------------------------------------------ drawing
  let paper;
  function say(text, px, py, { size: points = 12, weight = 400, align = "left", colour = GREY } = {}) {
    paper.font = `${weight} ${points}px system-ui, sans-serif`;
    paper.textAlign = align;
    paper.fillStyle = colour;
    paper.fillText(text, px, py);
  }
  function line(points, colour, width = 2, dash = []) {
    paper.beginPath();
    points.forEach(([px, py], i) => (i ? paper.lineTo(px, py) : paper.moveTo(px, py)));
    paper.strokeStyle = colour;
    paper.lineWidth = width;
    paper.setLineDash(dash);
    paper.stroke();
    paper.setLineDash([]);
  }
  const GRID = 4, cells = make("canvas", { width: LAND.width / GRID, height: LAND.height / GRID });
  let shaded = null;
  const unit = LAND.width / (2 * LAND.reach), middle = [LAND.left + LAND.width / 2, LAND.top + LAND.height / 2];
  function shade(level) { // the density, darker where there is more of it; drawn anew only when the level moves
    const key = level.toFixed(2);
    if (shaded === key) return;
    shaded = key;
    const { width: W, height: H } = cells, ground = cells.getContext("2d"), image = ground.createImageData(W, H), pixels = new Uint32Array(image.data.buffer);
    const [abar, v] = noise(level), at = Math.sqrt(abar) * far, top = left + (1 - left) * Math.exp((-2 * at * at) / v);
    for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
      const px = ((j + 0.5) * GRID - LAND.width / 2) / unit, py = ((i + 0.5) * GRID - LAND.height / 2) / unit;
      const p = (left * Math.exp(-((px + at) ** 2) / 2 / v) + (1 - left) * Math.exp(-((px - at) ** 2) / 2 / v)) * Math.exp((-py * py) / 2 / v) / top;
      const ink = Math.sqrt(p); // so that the small hill can be seen
      pixels[i * W + j] = 0xff000000 | (Math.round(255 - 24 * ink) << 16) | (Math.round(255 - 58 * ink) << 8) | Math.round(255 - 110 * ink);
    }
    ground.putImageData(image, 0, 0);
  }
  function plot(box, title, values, low, high, ticks, colour, write = (tick) => tick) {
    const up = (value) => box.bottom - ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (box.bottom - box.top);
    const across = (k) => box.left + (k / LAST) * (box.right - box.left);
    say(title, box.left, box.top - 9, { weight: 600, colour: INK, size: 12.5 });
    for (const tick of ticks) {
      line([[box.left, up(tick)], [box.right, up(tick)]], "#e4e9ee", 1);
      say(write(tick), box.left - 6, up(tick) + 4, { align: "right", size: 11 });
    }
    line([[box.left, box.top], [box.left, box.bottom], [box.right, box.bottom]], FAINT, 1);
    for (const k of [0, 500, LAST]) say(k, across(k), box.bottom + 13, { align: k === LAST ? "right" : "center", size: 10.5 });
    line(values.map((value, k) => [across(k), up(value)]), colour, 2);
    return [across, up];
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

    // the land and who walks on it
    const level = levelOf(Math.max(steps - 1, 0));
    shade(level);
    say(`walkers after ${steps} steps, over the density at log-SNR ${minus(level.toFixed(1))}`, LAND.left, LAND.top - 9, { weight: 600, colour: INK, size: 12.5 });
    paper.imageSmoothingEnabled = true;
    paper.drawImage(cells, LAND.left, LAND.top, LAND.width, LAND.height);
    line([[middle[0], LAND.top], [middle[0], LAND.top + LAND.height]], GREY, 1, [4, 3]);
    for (const side of [0, 1]) {
      paper.fillStyle = side ? "#b35c00" : BLUE;
      for (let i = 0; i < x.length; i += 2) {
        if (x[i] < 0 === (side === 1)) continue;
        const px = middle[0] + unit * x[i], py = middle[1] - unit * x[i + 1];
        if (px > LAND.left + 2 && px < LAND.left + LAND.width - 2 && py > LAND.top + 2 && py < LAND.top + LAND.height - 2) paper.fillRect(px - 1.2, py - 1.2, 2.4, 2.4);
      }
    }
    paper.strokeStyle = FAINT;
    paper.lineWidth = 1;
    paper.strokeRect(LAND.left + 0.5, LAND.top + 0.5, LAND.width - 1, LAND.height - 1);
    const share = shares.at(-1), truth = trueShare(level);
    say(`${(100 * share).toFixed(1)} % left`, LAND.left + 8, LAND.top + 18, { weight: 600, colour: BLUE, size: 13 });
    say(`${(100 - 100 * share).toFixed(1)} % right`, LAND.left + LAND.width - 8, LAND.top + 18, { weight: 600, colour: "#b35c00", size: 13, align: "right" });

    // what came of it, over the steps
    const [across, up] = plot(SHARE, "share left of the middle, over the steps", shares, 0, 1, [0, 0.5, 1], BLUE);
    line([[across(0), up(truth)], [across(LAST), up(truth)]], INK, 1.3, [6, 4]);
    say("truth", SHARE.right, up(truth) + (truth > 0.85 ? 14 : -6), { align: "right", size: 11, colour: INK });
    plot(LEVEL, "log-SNR of each step", levels.length ? levels : [level], lowest, highest, [-5, 0, 5], GREEN, minus);

    const [words, bad] = verdict();
    says.textContent = words;
    says.classList.toggle("al-no", bad);
    run.textContent = playing ? "pause" : "run";
    cool.setAttribute("aria-pressed", String(anneal));
    begins.forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === start)));
    sizeWords.replaceChildren("step size ", make("b", { textContent: `${size} hill variances` }));
    snrWords.replaceChildren(anneal ? "noise falls to log-SNR " : "noise level, log-SNR ", make("b", { textContent: minus(logSnr.toFixed(1)) }));
    [sizeInput.value, snrInput.value] = [sizes.indexOf(size), logSnr];
    sizeInput.setAttribute("aria-valuetext", `${size} hill variances`);
    snrInput.setAttribute("aria-valuetext", `log-SNR ${logSnr.toFixed(1)}`);
    canvas.setAttribute("aria-label", `Five hundred walkers on two hills after ${steps} steps. ${words}`);
    const sums = [0, 0, 0];
    for (let i = 0; i < x.length; i += 2) { sums[0] += x[i]; sums[1] += x[i + 1]; sums[2] += x[i] * x[i + 1]; }
    el.dataset.moments = sums.map((sum) => (sum / walkers).toPrecision(9)).join(" ");
    el.dataset.drawn = `${steps} ${size} ${logSnr} ${anneal} ${start} ${share} ${playing}`;
  }

  const fromKernel = () => {
    if (telling) return;
    [size, logSnr, anneal, start] = [model.get("size"), model.get("log_snr"), model.get("anneal"), model.get("start")];
    restart();
    paint();
  };
  const heard = ["change:size", "change:log_snr", "change:anneal", "change:start"];
  for (const event of heard) model.on(event, fromKernel);
  restart();
  paint();
  return () => { clearTimeout(rest); playing = false; cancelAnimationFrame(frame); for (const event of heard) model.off(event, fromKernel); };
}
export default { render };
