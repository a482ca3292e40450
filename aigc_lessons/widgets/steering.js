// A guided flow of three hundred points and the tilted density, computed and drawn here; the kernel hears of it when the hand is still.
// Numbers and words are those of steer() and verdict() in steering.py; a browser test holds the two together.
const [WIDTH, HEIGHT, SIDE, TOP] = [880, 448, 420, 24];
const LEFT = { left: 4 }, RIGHT = { left: 452 };
const [BLUE, ORANGE, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#1d2733", "#51606f", "#c9d1da"];
const PATHS = 30; // so many points show where they came from

const minus = (text) => String(text).replace("-", "−");

function render({ model, el }) {
  const given = model.get("given"), { means, labels, variance, names, times, abars, reach, cells, strongest, T } = given;
  const K = means.length, ANY = names.length - 1, view = given.noise;
  const noise = Float64Array.from(new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
  const N = noise.length / 2, LAST = times.length - 1;
  let [label, against, scale, first, last] = ["label", "against", "scale", "first", "last"].map((name) => model.get(name));
  let frame = LAST, frames = [], shares, claimed, asked, outside, density;

  // ------------------------------------------------------------------ the mathematics
  const belongs = (k, y) => y === ANY || labels[k] === y;
  const logs = new Float64Array(K), own = [0, 0], other = [0, 0];
  function estimate(y, x, v, root, ratio, into) { // E[x0 | x_t, y]; `logs` are set
    let most = -Infinity, total = 0;
    for (let k = 0; k < K; k++) if (belongs(k, y) && logs[k] > most) most = logs[k];
    into[0] = into[1] = 0;
    for (let k = 0; k < K; k++) {
      if (!belongs(k, y)) continue;
      const r = Math.exp(logs[k] - most);
      total += r;
      into[0] += r * (means[k][0] + ratio * (x[0] - root * means[k][0]));
      into[1] += r * (means[k][1] + ratio * (x[1] - root * means[k][1]));
    }
    into[0] /= total;
    into[1] /= total;
  }
  function logSum(y, x) { // log of the sum of exp(-|x - mean|^2 / 2v) over the Gaussians of a label
    let most = -Infinity, total = 0;
    for (let k = 0; k < K; k++) logs[k] = -((x[0] - means[k][0]) ** 2 + (x[1] - means[k][1]) ** 2) / (2 * variance);
    for (let k = 0; k < K; k++) if (belongs(k, y) && logs[k] > most) most = logs[k];
    for (let k = 0; k < K; k++) if (belongs(k, y)) total += Math.exp(logs[k] - most);
    return most + Math.log(total);
  }
  function place(x) {
    let least = Infinity, at = K;
    for (let k = 0; k < K; k++) {
      const squared = (x[0] - means[k][0]) ** 2 + (x[1] - means[k][1]) ** 2;
      if (squared < least) [least, at] = [squared, k];
    }
    return least > given.off * variance ? K : at;
  }
  function flow() {
    const x = [0, 0];
    frames = [noise];
    for (let j = 0; j < LAST; j++) {
      const [a, b, t] = [abars[j], abars[j + 1], times[j]], v = a * variance + 1 - a, root = Math.sqrt(a), ratio = (root * variance) / v;
      const guided = first <= t && t <= last && first <= last, before = frames[j], after = new Float64Array(2 * N);
      for (let i = 0; i < 2 * N; i += 2) {
        [x[0], x[1]] = [before[i], before[i + 1]];
        for (let k = 0; k < K; k++) logs[k] = -((x[0] - root * means[k][0]) ** 2 + (x[1] - root * means[k][1]) ** 2) / (2 * v);
        estimate(label, x, v, root, ratio, own);
        if (guided) {
          estimate(against, x, v, root, ratio, other);
          own[0] = other[0] + scale * (own[0] - other[0]);
          own[1] = other[1] + scale * (own[1] - other[1]);
        }
        for (let d = 0; d < 2; d++) after[i + d] = Math.sqrt(b) * own[d] + Math.sqrt(1 - b) * ((x[d] - root * own[d]) / Math.sqrt(1 - a));
      }
      frames.push(after);
    }
    const end = frames[LAST];
    shares = new Float64Array(K + 1);
    asked = 0;
    for (let i = 0; i < 2 * N; i += 2) {
      [x[0], x[1]] = [end[i], end[i + 1]];
      shares[place(x)] += 1 / N;
      asked += Math.exp(logSum(label, x) - logSum(ANY, x)) / N;
    }
  }
  function tilt() {
    const x = [0, 0], log = new Float64Array(cells * cells), h = (2 * reach) / cells;
    let most = -Infinity, total = 0;
    for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
      [x[0], x[1]] = [h * (i + 0.5) - reach, h * (j + 0.5) - reach];
      const null_ = logSum(against, x), value = null_ + scale * (logSum(label, x) - null_);
      log[i * cells + j] = value;
      if (value > most) most = value;
    }
    density = log.map((value) => Math.exp(value - most));
    for (const value of density) total += value;
    claimed = new Float64Array(K + 1);
    outside = 0;
    for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
      [x[0], x[1]] = [h * (i + 0.5) - reach, h * (j + 0.5) - reach];
      const p = density[i * cells + j] / total;
      claimed[place(x)] += p;
      if (!i || !j || i === cells - 1 || j === cells - 1) outside += p;
    }
    shade();
  }
  const wrong = () => shares.reduce((sum, share, k) => sum + Math.abs(share - claimed[k]) / 2, 0);
  function verdict() {
    let head = "As claimed: the points lie where the tilted density says.", bad = true;
    if (outside > given.outside || claimed[K] > given.many) head = "Sent away: away from one class only, the density that is asked for leaves the data, and the points follow.";
    else if (shares[K] > given.many) head = "Off the data: pushed too hard, many points end where nothing is. The tilted density never leaves the data.";
    else if (asked < 0.9) head = "Not as asked: the label counts too little.";
    else if (wrong() > given.wrong) head = "Wrong shares: every point may be a good one, but they crowd where the tilted density does not.";
    else bad = false;
    const of = (values) => [...values].filter((_, k) => k < K && labels[k] === label).map((value) => (100 * value).toFixed(0)).join(" : ");
    return [`${head} Percent at the hills of ${names[label]}: ${of(shares)}, claimed ${of(claimed)}. Off the data: ${Math.round(N * shares[K])} of ${N}.`
      + ` Read as ${names[label]} by the exact classifier: ${(100 * asked).toFixed(0)} %.`, bad];
  }

  // ------------------------------------------------------------------ what can be pressed, moved and read
  el.classList.add("al-steering");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  const row = make("div", { className: "al-row" });
  const choice = (title, name, offered, chosen) => {
    const group = make("span", { className: "al-group" });
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", title);
    group.append(make("span", { className: "al-note", textContent: title }));
    const buttons = offered.map((y) => {
      const one = make("button", { type: "button", textContent: names[y] });
      one.dataset[name] = y;
      one.addEventListener("click", () => { chosen(y); again(); });
      group.append(one);
      return one;
    });
    row.append(group);
    return buttons;
  };
  const towards = choice("towards", "label", [...Array(ANY).keys()], (y) => { label = y; });
  const leave = choice("away from", "against", [ANY, ...Array(ANY).keys()], (y) => { against = y; });
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const sliders = make("div", { className: "al-sliders" });
  const slider = (name, min, max, step, changed) => {
    const words = make("span"), input = make("input", { type: "range", min, max, step }), box = make("label");
    input.dataset.control = name;
    input.addEventListener("input", () => changed(+input.value));
    box.append(words, input);
    sliders.append(box);
    return [words, input];
  };
  const [scaleWords, scaleInput] = slider("scale", 0, strongest, 0.25, (value) => { scale = value; again(); });
  const [frameWords, frameInput] = slider("frame", 0, LAST, 1, (value) => { frame = value; paint(); });
  const [lastWords, lastInput] = slider("last", 0, T, 50, (value) => { last = value; again(); });
  const [firstWords, firstInput] = slider("first", 0, T, 50, (value) => { first = value; again(); });
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(row, canvas, sliders, says);

  let rest = null, telling = false;
  function again() {
    flow();
    tilt();
    paint();
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set({ label, against, scale, first, last });
      telling = false;
      model.save_changes();
    }, 300);
  }

  // ------------------------------------------------------------------ drawing
  const ground = make("canvas", { width: cells, height: cells });
  function shade() {
    const paper = ground.getContext("2d"), image = paper.createImageData(cells, cells), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
      const ink = Math.sqrt(density[i * cells + j]); // so that small hills can be seen
      pixels[(cells - 1 - j) * cells + i] = 0xff000000 | (Math.round(255 - 77 * ink) << 16) | (Math.round(255 - 141 * ink) << 8) | Math.round(255 - 255 * ink);
    }
    paper.putImageData(image, 0, 0);
  }
  let pen;
  const px = (box, x) => box.left + ((x + reach) / (2 * reach)) * SIDE, py = (y) => TOP + ((reach - y) / (2 * reach)) * SIDE;
  function say(text, x, y, { weight = 400, colour = INK, size = 12.5, align = "left" } = {}) {
    pen.font = `${weight} ${size}px system-ui, sans-serif`;
    pen.textAlign = align;
    pen.strokeStyle = "#ffffffd0"; // a pale rim, to be read over points and paths
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }
  function circles(box) {
    const radius = (Math.sqrt(given.off * variance) / (2 * reach)) * SIDE;
    for (let k = 0; k < K; k++) {
      const mine = labels[k] === label, [x, y] = [px(box, means[k][0]), py(means[k][1])];
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.strokeStyle = mine ? INK : FAINT;
      pen.lineWidth = mine ? 1.6 : 1.2;
      pen.setLineDash(mine ? [] : [4, 3]);
      pen.stroke();
      pen.setLineDash([]);
    }
  }
  function signs(box, values) { // names of the hills, and percentages at those of the chosen label
    const radius = (Math.sqrt(given.off * variance) / (2 * reach)) * SIDE;
    for (let k = 0; k < K; k++) {
      const mine = labels[k] === label, up = means[k][1] > 0.9 || (means[k][1] > -0.5 && means[k][0] < 0), y = py(means[k][1]);
      const text = mine && values ? `${names[labels[k]]} ${(100 * values[k]).toFixed(0)} %` : names[labels[k]];
      say(text, px(box, means[k][0]), up ? y - radius - 5 : y + radius + 14, { align: "center", weight: mine ? 700 : 400, colour: mine ? INK : GREY });
    }
  }
  function frameOf(box, title, draw) {
    say(title, box.left, 15, { weight: 600 });
    pen.save();
    pen.beginPath();
    pen.rect(box.left, TOP, SIDE, SIDE);
    pen.clip();
    draw();
    pen.restore();
    pen.strokeStyle = FAINT;
    pen.lineWidth = 1;
    pen.strokeRect(box.left, TOP, SIDE, SIDE);
  }
  function paths() {
    for (let i = 0; i < PATHS; i++) for (let j = 0; j < frame; j++) {
      const guided = first <= times[j] && times[j] <= last && first <= last;
      pen.beginPath();
      pen.moveTo(px(RIGHT, frames[j][2 * i]), py(frames[j][2 * i + 1]));
      pen.lineTo(px(RIGHT, frames[j + 1][2 * i]), py(frames[j + 1][2 * i + 1]));
      pen.strokeStyle = guided ? ORANGE : GREY;
      pen.lineWidth = guided ? 1.5 : 0.6;
      pen.stroke();
    }
  }
  function paint() {
    const sharp = Math.max(1, window.devicePixelRatio || 1);
    if (canvas.width !== WIDTH * sharp) [canvas.width, canvas.height] = [WIDTH * sharp, HEIGHT * sharp];
    pen = canvas.getContext("2d");
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    const null_ = `p(x|${names[against]})`, w = scale;
    frameOf(LEFT, against === ANY ? `claimed: p(x) p(${names[label]}|x)^${scale}` : `claimed: p(x|${names[label]})^${w} ${null_}^${minus(1 - scale)}`, () => {
      pen.drawImage(ground, LEFT.left, TOP, SIDE, SIDE);
      circles(LEFT);
      signs(LEFT, claimed);
    });
    frameOf(RIGHT, `guided points at t = ${times[frame]}${frame === LAST ? ", the samples" : ""}`, () => {
      paths();
      circles(RIGHT);
      pen.fillStyle = BLUE;
      pen.globalAlpha = 0.7;
      for (let i = 0; i < 2 * N; i += 2) {
        pen.beginPath();
        pen.arc(px(RIGHT, frames[frame][i]), py(frames[frame][i + 1]), 2.2, 0, 2 * Math.PI);
        pen.fill();
      }
      pen.globalAlpha = 1;
      signs(RIGHT, frame === LAST ? shares : null);
    });
    for (const [buttons, chosen] of [[towards, label], [leave, against]]) {
      for (const one of buttons) one.setAttribute("aria-pressed", String(+(one.dataset.label ?? one.dataset.against) === chosen));
    }
    [scaleInput.value, frameInput.value, lastInput.value, firstInput.value] = [scale, frame, last, first];
    scaleWords.innerHTML = `scale <b>w = ${scale}</b>`;
    frameWords.innerHTML = `show the walk at <b>t = ${times[frame]}</b>`;
    lastWords.innerHTML = `guide from <b>t = ${last}</b>`;
    firstWords.innerHTML = first <= last ? `down to <b>t = ${first}</b>` : `down to <b>t = ${first}</b>: nowhere`;
    scaleInput.setAttribute("aria-label", "guidance scale");
    frameInput.setAttribute("aria-label", "time shown, from noise to data");
    lastInput.setAttribute("aria-label", "guided from this time on");
    firstInput.setAttribute("aria-label", "guided down to this time");
    const [words, bad] = verdict();
    says.textContent = words;
    says.classList.toggle("al-no", bad);
    canvas.setAttribute("aria-label", `Left, the tilted density; right, ${N} guided points at t = ${times[frame]}. ${words}`);
    const end = frames[LAST], mean = (f) => { let sum = 0; for (let i = 0; i < 2 * N; i += 2) sum += f(end[i], end[i + 1]) / N; return sum; };
    el.dataset.drawn = [label, against, scale, first, last, frame].join(" ");
    el.dataset.moments = [mean((x) => x), mean((_, y) => y), mean((x, y) => x * y), asked, outside, ...claimed].join(" ");
  }

  const fromKernel = () => {
    if (telling) return;
    [label, against, scale, first, last] = ["label", "against", "scale", "first", "last"].map((name) => model.get(name));
    flow();
    tilt();
    paint();
  };
  const heard = ["label", "against", "scale", "first", "last"].map((name) => `change:${name}`);
  for (const event of heard) model.on(event, fromKernel);
  flow();
  tilt();
  paint();
  return () => { clearTimeout(rest); for (const event of heard) model.off(event, fromKernel); };
}

export default { render };
