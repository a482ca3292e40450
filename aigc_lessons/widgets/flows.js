// All drives arrive once; every control only paints. The kernel hears of it when the hand is still.
const [WIDTH, HEIGHT, SIDE] = [880, 456, 424];
const PLANE = { left: 4, top: 26 }; // and as wide and high as SIDE
const CHART = { left: 508, right: 868, top: 44, bottom: 404 };
const [BLUE, ORANGE, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#1d2733", "#51606f", "#c9d1da"];
const shorts = (view) => new Int16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function render({ model, el }) {
  const given = model.get("given"), { reach, most, fine, points } = given;
  const data = shorts(given.data);
  const flows = Object.fromEntries(Object.entries(given.flows).map(([name, flow]) =>
    [name, { ...flow, walks: shorts(flow.walks), true: shorts(flow.true) }]));
  let choice = model.get("flow"), n = model.get("steps"), percent = model.get("percent"), point = model.get("point");
  let timer = null, rest = null;

  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  el.classList.add("al-flows");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the arrow keys
  const choices = make("div", { className: "al-choices" });
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Flow");
  const buttons = Object.keys(flows).map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => { choice = name; paint(); settle(); });
    choices.append(button);
    return button;
  });
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const row = (words, props) => {
    const label = make("label"), input = make("input", { type: "range", step: 1, ...props }), value = make("output");
    label.append(make("span", { textContent: words }), input, value);
    input.setAttribute("aria-label", words);
    return { label, input, value };
  };
  const count = row("Euler steps", { min: 1, max: most }), way = row("way from noise to data", { min: 0, max: 100 });
  const play = make("button", { type: "button", textContent: "▶ play" });
  const other = make("button", { type: "button", textContent: "follow another point" });
  const trails = make("label", { className: "al-check" }), shown = make("input", { type: "checkbox", checked: true });
  trails.append(shown, " paths of all points");
  const controls = make("div", { className: "al-controls" });
  controls.append(play, other, trails);
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(choices, canvas, count.label, way.label, controls, says);

  const ratio = Math.max(1, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [WIDTH * ratio, HEIGHT * ratio];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const px = (x) => PLANE.left + ((x / 1000 + reach) / (2 * reach)) * SIDE;
  const py = (y) => PLANE.top + ((reach - y / 1000) / (2 * reach)) * SIDE;
  const first = (steps) => (steps * (steps - 1)) / 2 + steps - 1; // states of all drives with fewer steps: sum of (k + 1)

  function dot(x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  // state of point i after `part` (0..1) of the way, on straight pieces between the states from `start` on
  function at(array, start, steps, part, i) {
    const k = Math.min(steps - 1, Math.floor(part * steps + 1e-9)), u = part * steps - k;
    const a = 2 * ((start + k) * points + i), b = a + 2 * points;
    return [px(array[a] + u * (array[b] - array[a])), py(array[a + 1] + u * (array[b + 1] - array[a + 1]))];
  }

  function path(array, start, steps, part, i) {
    for (let k = 0; k <= steps && k / steps <= part + 1e-9; k++) {
      const a = 2 * ((start + k) * points + i);
      if (k === 0) pen.moveTo(px(array[a]), py(array[a + 1]));
      else pen.lineTo(px(array[a]), py(array[a + 1]));
    }
    pen.lineTo(...at(array, start, steps, part, i));
  }

  function plane(flow, part) {
    const start = first(n);
    pen.save();
    pen.beginPath();
    pen.rect(PLANE.left, PLANE.top, SIDE, SIDE);
    pen.clip();
    pen.fillStyle = FAINT;
    for (let i = 0; i < data.length; i += 2) dot(px(data[i]), py(data[i + 1]), 1);
    if (shown.checked) {
      pen.strokeStyle = BLUE;
      pen.globalAlpha = 0.28;
      pen.lineWidth = 0.8;
      pen.beginPath();
      for (let i = 0; i < points; i++) path(flow.walks, start, n, part, i);
      pen.stroke();
    }
    pen.fillStyle = BLUE;
    pen.globalAlpha = 0.8;
    for (let i = 0; i < points; i++) dot(...at(flow.walks, start, n, part, i), 2.2);
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = INK;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    path(flow.true, 0, fine, 1, point);
    pen.stroke();
    pen.setLineDash([]);
    const [tx, ty] = at(flow.true, 0, fine, 1, point);
    pen.strokeRect(tx - 4, ty - 4, 8, 8);
    pen.strokeStyle = ORANGE;
    pen.beginPath();
    path(flow.walks, start, n, part, point);
    pen.stroke();
    pen.fillStyle = ORANGE;
    for (let k = 0; k <= n && k / n <= part + 1e-9; k++) dot(...at(flow.walks, start, n, k / n, point), 3);
    const [x, y] = at(flow.walks, start, n, part, point);
    pen.strokeStyle = INK;
    pen.lineWidth = 1.6;
    dot(x, y, 5.5);
    pen.stroke();
    pen.restore();
    pen.strokeStyle = FAINT;
    pen.lineWidth = 1;
    pen.strokeRect(PLANE.left, PLANE.top, SIDE, SIDE);
    pen.fillStyle = INK;
    pen.font = "12.5px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.fillText("blue: points · grey: data · orange: one point · dashed: its true path", PLANE.left, 16);
  }

  const top = Math.max(0.5, ...Object.values(flows).map((flow) => Math.max(...flow.torn)));
  const cx = (steps) => CHART.left + (Math.log2(steps) / Math.log2(most)) * (CHART.right - CHART.left);
  const cy = (torn) => CHART.bottom - (Math.min(torn, top) / top) * (CHART.bottom - CHART.top);
  const marks = ["circle", "square", "triangle", "cross"];

  function mark(kind, x, y, size) {
    pen.beginPath();
    if (kind === "circle") pen.arc(x, y, size, 0, 2 * Math.PI);
    else if (kind === "square") pen.rect(x - size, y - size, 2 * size, 2 * size);
    else if (kind === "triangle") { pen.moveTo(x, y - size); pen.lineTo(x + size, y + size); pen.lineTo(x - size, y + size); pen.closePath(); }
    else { pen.rect(x - size, y - 1, 2 * size, 2); pen.rect(x - 1, y - size, 2, 2 * size); }
    pen.fill();
  }

  function chart() {
    pen.font = "12.5px system-ui, sans-serif";
    pen.fillStyle = INK;
    pen.textAlign = "left";
    pen.fillText("mean distance of the ends from the true ends", CHART.left - 34, 16);
    pen.font = "12px system-ui, sans-serif";
    pen.strokeStyle = FAINT;
    pen.lineWidth = 0.6;
    pen.fillStyle = GREY;
    const tick = top > 1.2 ? 0.5 : 0.2;
    pen.textAlign = "right";
    for (let y = 0; y <= top + 1e-9; y += tick) {
      pen.beginPath();
      pen.moveTo(CHART.left, cy(y));
      pen.lineTo(CHART.right, cy(y));
      pen.stroke();
      pen.fillText(y.toFixed(1), CHART.left - 7, cy(y) + 4);
    }
    pen.textAlign = "center";
    for (let s = 1; s <= most; s *= 2) pen.fillText(String(s), cx(s), CHART.bottom + 18);
    pen.fillText("Euler steps", (CHART.left + CHART.right) / 2, CHART.bottom + 38);
    pen.strokeStyle = GREY;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(cx(n), CHART.top);
    pen.lineTo(cx(n), CHART.bottom);
    pen.stroke();
    Object.entries(flows).forEach(([name, flow], j) => {
      const colour = name === choice ? BLUE : GREY;
      pen.strokeStyle = pen.fillStyle = colour;
      pen.lineWidth = name === choice ? 2.2 : 1;
      pen.beginPath();
      flow.torn.forEach((torn, k) => pen.lineTo(cx(k + 1), cy(torn)));
      pen.stroke();
      for (let s = 1; s <= most; s *= 2) mark(marks[j % 4], cx(s), cy(flow.torn[s - 1]), name === choice ? 4 : 3);
      const y = CHART.top + 10 + 18 * j;
      mark(marks[j % 4], CHART.right - 150, y - 4, 4);
      pen.textAlign = "left";
      pen.font = `${name === choice ? "600 " : ""}12px system-ui, sans-serif`;
      pen.fillText(name, CHART.right - 138, y);
    });
    pen.fillStyle = ORANGE;
    dot(cx(n), cy(flows[choice].torn[n - 1]), 5.5);
    pen.strokeStyle = INK;
    pen.lineWidth = 1.4;
    pen.stroke();
  }

  function paint() {
    const flow = flows[choice], words = flow.verdicts[n - 1];
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    plane(flow, percent / 100);
    chart();
    count.input.value = n;
    count.value.textContent = n;
    way.input.value = percent;
    way.value.textContent = `t = ${(1 - percent / 100).toFixed(2)}`;
    way.input.setAttribute("aria-valuetext", way.value.textContent);
    says.textContent = words;
    says.classList.toggle("al-no", !words.startsWith("Holds"));
    canvas.setAttribute("aria-label", `${choice}, ${n} steps, ${way.value.textContent}. ${words}`);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === choice));
    el.dataset.drawn = `${choice} ${n} ${percent} ${point}`;
  }

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set({ flow: choice, steps: n, percent, point });
      model.save_changes();
    }, 250);
  }

  function stop() {
    cancelAnimationFrame(timer);
    timer = null;
    play.textContent = "▶ play";
  }

  count.input.addEventListener("input", () => { n = Number(count.input.value); paint(); settle(); });
  way.input.addEventListener("input", () => { stop(); percent = Number(way.input.value); paint(); settle(); });
  shown.addEventListener("change", paint);
  other.addEventListener("click", () => { point = (point + 1) % points; paint(); settle(); });
  play.addEventListener("click", () => {
    if (timer !== null) { stop(); settle(); return; }
    play.textContent = "❚❚ pause";
    const begun = performance.now() - (percent < 100 ? percent * 25 : 0);
    const frame = (now) => {
      percent = Math.min(100, Math.max(0, Math.floor((now - begun) / 25)));
      paint();
      if (percent < 100) timer = requestAnimationFrame(frame);
      else { stop(); settle(); }
    };
    timer = requestAnimationFrame(frame);
  });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) * WIDTH) / box.width;
    const y = ((event.clientY - box.top) * HEIGHT) / box.height;
    if (x <= PLANE.left + SIDE) { // the point whose path now stands nearest to the click
      let best = Infinity;
      for (let i = 0; i < points; i++) {
        const [u, v] = at(flows[choice].walks, first(n), n, percent / 100, i), away = (u - x) ** 2 + (v - y) ** 2;
        if (away < best) [best, point] = [away, i];
      }
    } else {
      const steps = 2 ** (((x - CHART.left) / (CHART.right - CHART.left)) * Math.log2(most));
      n = Math.min(most, Math.max(1, Math.round(steps)));
    }
    paint();
    settle();
  });
  const follow = () => {
    [choice, n, percent, point] = [model.get("flow"), model.get("steps"), model.get("percent"), model.get("point")];
    paint();
  };
  for (const name of ["flow", "steps", "percent", "point"]) model.on(`change:${name}`, follow);
  paint();
  return () => {
    stop();
    clearTimeout(rest);
    for (const name of ["flow", "steps", "percent", "point"]) model.off(`change:${name}`, follow);
  };
}
export default { render };
