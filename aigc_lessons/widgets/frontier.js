// Pictures and measurements arrive once; everything is drawn here, and the kernel hears of it when the hand is still.
// The words are those of verdict() in frontier.py; a browser test holds the two together.
const [WIDTH, HEIGHT] = [880, 404];
const [INK, GREY, FAINT] = ["#1d2733", "#51606f", "#c9d1da"];
const PLOT = { left: 46, right: 424, top: 40, bottom: 340 };
const LOOKS = { ddpm: ["#d55e00", [2, 3], "diamond"], ddim: ["#e69f00", [7, 4], "square"], heun: ["#009e73", [9, 3, 2, 3], "triangle"], dpmpp_2m: ["#0072b2", [], "circle"] };
const TITLES = { ratio: "Fréchet ratio", accuracy: "digits read right", distance: "distance to the full walk" };
const TICKS = { ratio: [1.2, 1.5, 2, 3, 5, 10, 20, 50, 100], accuracy: [0.5, 0.7, 0.8, 0.9, 0.95, 1], distance: [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1] };
const [SIDE, SPACE] = [74, 81]; // of a digit, and from one to the next
const SHELF = { left: 476, drawn: 40, end: 220 };

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function verdict(at, end, plain, name, scale, method) {
  let head, bad = false;
  if (at.ratio > 1.5 * end) [head, bad] = [`Broken: too few evaluations for ${name}.`, true];
  else if (end > 1.5 * plain) [head, bad] = [`Guidance ${scale} is too strong: read with ease, but too much alike, and no price mends that.`, true];
  else if (method === "ddpm") head = "Dice: other digits than the walk's, however many steps; their distance says nothing.";
  else if (at.distance < 0.1) head = "The digits of the full walk, to the eye.";
  else head = "Good digits, but not yet those of the full walk.";
  const words = `${head} ${at.evaluations} evaluations (${at.steps} steps): Fréchet ratio ${at.ratio.toFixed(2)}`
    + ` (${at.low.toFixed(2)} to ${at.high.toFixed(2)}; the full walk ${end.toFixed(2)}), read right ${(100 * at.accuracy).toFixed(1)} %,`
    + ` distance to the full walk ${at.distance.toFixed(3)}.`;
  return { words, bad };
}

function render({ model, el }) {
  const given = model.get("given"), drawn = bytes(given.drawn), end = bytes(given.end);
  const { methods, prices, scales, measures, names } = given, KEYS = ["steps", "evaluations", "accuracy", "ratio", "low", "high", "distance"];
  const at = (m, b, s) => Object.fromEntries(KEYS.map((key) => [key, given[key][s][m][b]]));
  let method = methods.indexOf(model.get("method")), price = prices.indexOf(model.get("price"));
  let scale = scales.indexOf(model.get("scale")), measure = model.get("measure");

  el.classList.add("al-frontier");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);

  // ------------------------------------------------------------------ what can be chosen
  const groups = [];
  function group(label, options, write, read, choose) {
    const box = make("span", { className: "al-choices" });
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", label);
    box.append(make("span", { className: "al-note", textContent: label }));
    options.forEach((option, i) => {
      const button = make("button", { type: "button", textContent: write(option) });
      button.addEventListener("click", () => { choose(i, option); paint(); settle(); });
      box.append(button);
      groups.push([button, () => read() === i]);
    });
    return box;
  }
  const first = make("div", { className: "al-choices" }), second = make("div", { className: "al-choices" });
  first.append(
    group("sampler", methods, (m) => names[m], () => method, (i) => { method = i; }),
    group("guidance", scales, String, () => scale, (i) => { scale = i; }),
  );
  second.append(group("shown over evaluations", measures, (m) => TITLES[m], () => measures.indexOf(measure), (_, m) => { measure = m; }));
  const board = make("div", { className: "al-board" }), canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const slider = make("input", { type: "range", className: "al-price", min: 0, max: prices.length - 1, step: 1 });
  slider.setAttribute("aria-label", "evaluations of the network");
  slider.addEventListener("input", () => { price = +slider.value; paint(); settle(); });
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  board.append(canvas, slider);
  el.append(first, second, board, says);

  let rest = null, telling = false;
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set({ method: methods[method], price: prices[price], scale: scales[scale], measure });
      telling = false;
      model.save_changes();
    }, 300);
  }

  // ------------------------------------------------------------------ drawing
  const paid = given.evaluations.flat(2), [least, most] = [Math.min(...paid), Math.max(...paid)];
  const across = (evaluations) => PLOT.left + 14 + (Math.log(evaluations / least) / Math.log(most / least)) * (PLOT.right - PLOT.left - 28);
  slider.style.left = `${(100 * (PLOT.left + 6)) / WIDTH}%`;
  slider.style.width = `${(100 * (PLOT.right - PLOT.left - 12)) / WIDTH}%`;
  slider.style.top = `${(100 * 378) / HEIGHT}%`;
  function ruler() { // the axis of what is measured, at this guidance: logarithmic, except for shares
    const values = methods.flatMap((_, m) => prices.map((_, b) => given[measure][scale][m][b]));
    if (measure === "ratio") values.push(given.ends[scale]);
    const log = measure !== "accuracy", way = log ? Math.log : (x) => x;
    const [low, high] = [Math.min(...values), Math.max(...values)].map(way), room = 0.06 * (high - low || 1);
    return { ticks: TICKS[measure].filter((tick) => way(tick) > low - room && way(tick) < high + room),
      height: (value) => PLOT.bottom - ((way(value) - low + room) / (high - low + 2 * room)) * (PLOT.bottom - PLOT.top) };
  }

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
  function mark(shape, x, y, r, colour) {
    paper.beginPath();
    if (shape === "circle") paper.arc(x, y, r, 0, 7);
    else {
      const corners = { square: [[-1, -1], [1, -1], [1, 1], [-1, 1]], triangle: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]] }[shape];
      corners.forEach(([u, v], i) => (i ? paper.lineTo(x + r * u, y + r * v) : paper.moveTo(x + r * u, y + r * v)));
      paper.closePath();
    }
    paper.fillStyle = colour;
    paper.fill();
  }
  const cell = make("canvas", { width: 28, height: 28 }), ground = cell.getContext("2d"), image = ground.createImageData(28, 28);
  const pixels = new Uint32Array(image.data.buffer);
  function digits(source, start, top) { // two rows of five; grey value 255 is ink
    for (let k = 0; k < 10; k++) {
      for (let i = 0; i < 784; i++) pixels[i] = 0xff000000 | ((255 - source[start + 784 * k + i]) * 0x010101);
      ground.putImageData(image, 0, 0);
      const x = SHELF.left + SPACE * (k % 5), y = top + SPACE * Math.floor(k / 5);
      paper.imageSmoothingEnabled = false;
      paper.drawImage(cell, x, y, SIDE, SIDE);
      paper.strokeStyle = FAINT;
      paper.lineWidth = 1;
      paper.strokeRect(x - 0.5, y - 0.5, SIDE + 1, SIDE + 1);
    }
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
    const here = at(method, price, scale), { ticks, height } = ruler(), key = methods[method];

    // the frontier
    methods.forEach((m, i) => {
      const x = PLOT.left + 6 + 92 * i, [colour, dash, shape] = LOOKS[m];
      line([[x, 22], [x + 30, 22]], colour, 2, dash);
      mark(shape, x + 15, 22, 4, colour);
      say(names[m], x + 36, 26, { weight: i === method ? 700 : 400, colour: INK });
    });
    for (const tick of ticks) {
      line([[PLOT.left, height(tick)], [PLOT.right, height(tick)]], "#e4e9ee", 1);
      say(measure === "accuracy" ? `${Math.round(100 * tick)} %` : tick, PLOT.left - 5, height(tick) + 4, { align: "right", size: 11 });
    }
    line([[PLOT.left, PLOT.top], [PLOT.left, PLOT.bottom], [PLOT.right, PLOT.bottom]], FAINT, 1);
    for (const p of prices) say(p, across(p), PLOT.bottom + 15, { align: "center", size: 11 });
    say("evaluations of the network for a digit", (PLOT.left + PLOT.right) / 2, PLOT.bottom + 31, { align: "center" });
    if (measure === "ratio") {
      line([[PLOT.left, height(given.ends[scale])], [PLOT.right, height(given.ends[scale])]], INK, 1, [4, 3]);
      say("full walk", PLOT.left + 5, height(given.ends[scale]) - 5, { size: 11, colour: INK });
    }
    line([[across(here.evaluations), PLOT.top], [across(here.evaluations), PLOT.bottom]], FAINT, 1);
    const order = methods.map((_, i) => i).filter((i) => i !== method).concat(method); // the chosen one on top
    for (const i of order) {
      const [colour, dash, shape] = LOOKS[methods[i]];
      const places = prices.map((_, b) => [across(given.evaluations[scale][i][b]), height(given[measure][scale][i][b])]);
      line(places, colour, i === method ? 2.6 : 1.4, dash);
      for (const [x, y] of places) mark(shape, x, y, i === method ? 4.5 : 3, colour);
    }
    const spot = [across(here.evaluations), height(here[measure])];
    paper.beginPath();
    paper.arc(...spot, 10, 0, 7);
    paper.strokeStyle = INK;
    paper.lineWidth = 2.2;
    paper.stroke();

    // the digits
    say(`${names[key]}, guidance ${scales[scale]}, ${here.evaluations} evaluations`, SHELF.left, SHELF.drawn - 12, { weight: 600, colour: INK, size: 13 });
    digits(drawn, 7840 * ((scale * methods.length + method) * prices.length + price), SHELF.drawn);
    say("the same noise, after 60 steps of 2M", SHELF.left, SHELF.end - 8, { weight: 600, colour: INK, size: 13 });
    digits(end, 7840 * scale, SHELF.end);

    const { words, bad } = verdict(here, given.ends[scale], given.ends[0], names[key], scales[scale], key);
    if (says.textContent !== words) says.textContent = words;
    says.classList.toggle("al-no", bad);
    for (const [button, pressed] of groups) button.setAttribute("aria-pressed", String(pressed()));
    slider.value = price;
    slider.setAttribute("aria-valuetext", `${here.evaluations} evaluations, ${here.steps} steps`);
    canvas.setAttribute("aria-label", `${TITLES[measure]} over evaluations for four samplers; ten digits by ${names[key]}. ${words}`);
    el.dataset.drawn = `${key} ${prices[price]} ${scales[scale]} ${measure}`;
  }

  canvas.addEventListener("pointerdown", (event) => { // the nearest point of all curves
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDTH, y = ((event.clientY - box.top) / box.height) * HEIGHT;
    if (x < PLOT.left - 8 || x > PLOT.right + 8 || y < PLOT.top - 12 || y > PLOT.bottom + 12) return;
    const { height } = ruler();
    let nearest = Infinity;
    methods.forEach((_, m) => prices.forEach((_, b) => {
      const off = Math.hypot(across(given.evaluations[scale][m][b]) - x, height(given[measure][scale][m][b]) - y);
      if (off < nearest) [nearest, method, price] = [off, m, b];
    }));
    paint(); settle();
  });
  const fromKernel = () => {
    if (telling) return;
    [method, price, scale, measure] = [methods.indexOf(model.get("method")), prices.indexOf(model.get("price")), scales.indexOf(model.get("scale")), model.get("measure")];
    paint();
  };
  const heard = ["method", "price", "scale", "measure"].map((name) => `change:${name}`);
  for (const event of heard) model.on(event, fromKernel);
  paint();
  return () => { clearTimeout(rest); for (const event of heard) model.off(event, fromKernel); };
}
export default { render };
