// All frames arrive once; choosing, scrubbing and following only paint. The kernel hears of it when the hand is still.
const [WIDTH, HEIGHT, SIDE] = [880, 452, 424];
const PLANE = { left: 4, top: 24 }; // and as wide and high as SIDE
const CHART = { left: 496, right: 868, top: 40, bottom: 404 };
const [BLUE, ORANGE, INK, GREY, FAINT] = ["#0072b2", "#e69f00", "#1d2733", "#51606f", "#c9d1da"];
const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function render({ model, el }) {
  const given = model.get("given"), { reach, T, points } = given;
  const [data, grid, field, expected] = [given.data, given.grid, given.arrows, given.expected].map(floats);
  const walks = Object.fromEntries(Object.entries(given.walks).map(([name, walk]) =>
    [name, { ...walk, x: floats(walk.x), x0: floats(walk.x0), nats: floats(walk.nats) }]));
  let choice = model.get("walk"), t = model.get("t"), point = model.get("point"), timer = null, rest = null;

  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  el.classList.add("al-paths");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the arrow keys
  const choices = make("div", { className: "al-choices" });
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Sampler");
  const buttons = Object.keys(walks).map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => { choice = name; paint(); settle(); });
    choices.append(button);
    return button;
  });
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const controls = make("div", { className: "al-controls" });
  const play = make("button", { type: "button", textContent: "▶ play" });
  const slider = make("input", { type: "range", min: 0, max: T, step: 1 }); // from noise on the left to data on the right
  slider.setAttribute("aria-label", "time, from noise to data");
  const other = make("button", { type: "button", textContent: "follow another point" });
  const label = make("label"), arrows = make("input", { type: "checkbox", checked: true });
  label.append(arrows, " arrows: the way the network points");
  controls.append(play, slider, other, label);
  const reading = make("p", { className: "al-reading" }), says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(choices, canvas, controls, reading, says);

  const ratio = Math.max(1, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [WIDTH * ratio, HEIGHT * ratio];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const px = (x) => PLANE.left + ((x + reach) / (2 * reach)) * SIDE, py = (y) => PLANE.top + ((reach - y) / (2 * reach)) * SIDE;
  const frameAt = (times, t) => times.findIndex((time) => time <= t); // times fall; the first that has been reached

  // the chart's range: what real data shows, and some room for samplers that go wrong
  const [least, most] = [Math.min(...expected), Math.max(...expected)], room = 0.35 * (most - least);
  const [low, high] = [least - room, most + room];
  const cx = (time) => CHART.left + ((T - time) / T) * (CHART.right - CHART.left);
  const cy = (nats) => CHART.bottom - ((Math.min(high, Math.max(low, nats)) - low) / (high - low)) * (CHART.bottom - CHART.top);

  function dot(x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  function plane(walk, k) {
    pen.save();
    pen.beginPath();
    pen.rect(PLANE.left, PLANE.top, SIDE, SIDE);
    pen.clip();
    pen.fillStyle = FAINT;
    for (let i = 0; i < data.length; i += 2) dot(px(data[i]), py(data[i + 1]), 1);
    if (arrows.checked) {
      const start = frameAt(given.arrow_times, t) * grid.length;
      pen.strokeStyle = GREY;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let i = 0; i < grid.length; i += 2) {
        const [dx, dy] = [field[start + i], field[start + i + 1]], length = Math.hypot(dx, dy);
        if (length < 0.02) continue;
        const scale = Math.min(1, 1.4 / length) * 15, [x, y] = [px(grid[i]), py(grid[i + 1])]; // pixels for a length of 1
        const [ex, ey] = [x + scale * dx, y - scale * dy], [ux, uy] = [dx / length, -dy / length];
        pen.moveTo(x, y);
        pen.lineTo(ex, ey);
        pen.moveTo(ex - 3.5 * ux - 2 * uy, ey - 3.5 * uy + 2 * ux);
        pen.lineTo(ex, ey);
        pen.lineTo(ex - 3.5 * ux + 2 * uy, ey - 3.5 * uy - 2 * ux);
      }
      pen.stroke();
    }
    const start = 2 * points * k;
    pen.fillStyle = BLUE;
    pen.globalAlpha = 0.75;
    for (let i = 0; i < 2 * points; i += 2) dot(px(walk.x[start + i]), py(walk.x[start + i + 1]), 2);
    pen.globalAlpha = 1;
    const at = (array, j) => [px(array[2 * (points * j + point)]), py(array[2 * (points * j + point) + 1])];
    pen.strokeStyle = ORANGE;
    pen.lineWidth = 1.6;
    pen.beginPath();
    for (let j = 0; j <= k; j++) pen.lineTo(...at(walk.x, j));
    pen.stroke();
    const [x, y] = at(walk.x, k), [gx, gy] = at(walk.x0, k);
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(gx, gy);
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 2;
    pen.strokeStyle = INK;
    pen.strokeRect(gx - 4, gy - 4, 8, 8);
    pen.fillStyle = ORANGE;
    dot(x, y, 5.5);
    pen.beginPath();
    pen.arc(x, y, 5.5, 0, 2 * Math.PI);
    pen.stroke();
    pen.restore();
    pen.strokeStyle = FAINT;
    pen.lineWidth = 1;
    pen.strokeRect(PLANE.left, PLANE.top, SIDE, SIDE);
    pen.fillStyle = INK;
    pen.font = "12.5px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.fillText("blue: points · grey: data · orange: path of one · square: its estimate of x₀", PLANE.left, 15);
  }

  function chart(walk, k) {
    pen.font = "12.5px system-ui, sans-serif";
    pen.fillStyle = INK;
    pen.textAlign = "left";
    pen.fillText("surprise of the points: median of −log p_t(x_t), nats", CHART.left - 22, 15);
    pen.strokeStyle = FAINT;
    pen.lineWidth = 0.6;
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = GREY;
    pen.textAlign = "right";
    for (let nats = Math.ceil(low); nats <= high; nats++) {
      pen.beginPath();
      pen.moveTo(CHART.left, cy(nats));
      pen.lineTo(CHART.right, cy(nats));
      pen.stroke();
      pen.fillText(String(nats).replace("-", "−"), CHART.left - 6, cy(nats) + 4);
    }
    pen.textAlign = "center";
    for (let time = 0; time <= T; time += T / 5) pen.fillText(String(time), cx(time), CHART.bottom + 18);
    pen.fillText("t", (CHART.left + CHART.right) / 2, CHART.bottom + 36);
    const curve = (times, nats, last, colour, dashes) => {
      pen.strokeStyle = colour;
      pen.lineWidth = 2;
      pen.setLineDash(dashes);
      pen.beginPath();
      for (let j = 0; j <= last; j++) pen.lineTo(cx(times[j]), cy(nats[j]));
      pen.stroke();
      pen.setLineDash([]);
    };
    curve(given.arrow_times, expected, expected.length - 1, INK, [6, 4]);
    curve(walk.times, walk.nats, k, BLUE, []);
    pen.fillStyle = BLUE;
    dot(cx(walk.times[k]), cy(walk.nats[k]), 5);
    pen.textAlign = "left";
    pen.fillStyle = INK;
    pen.fillText("- - real data under the same noise", CHART.left + 8, CHART.bottom - 26);
    pen.fillStyle = BLUE;
    pen.fillText("— these points", CHART.left + 8, CHART.bottom - 9);
    pen.strokeStyle = GREY;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(cx(t), CHART.top);
    pen.lineTo(cx(t), CHART.bottom);
    pen.stroke();
  }

  function paint() {
    const walk = walks[choice], k = frameAt(walk.times, t), here = walk.nats[k];
    const honest = expected[frameAt(given.arrow_times, t)];
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    plane(walk, k);
    chart(walk, k);
    slider.value = T - t;
    slider.setAttribute("aria-valuetext", `t = ${t}`);
    const number = (x) => x.toFixed(2).replace("-", "−");
    reading.textContent = `t = ${t}: surprise ${number(here)} nats, of real data ${number(honest)}. Point ${point} of ${points}.`;
    canvas.setAttribute("aria-label", `${choice}, ${reading.textContent}`);
    says.textContent = walk.verdict;
    says.classList.toggle("al-no", !walk.good);
    for (const button of buttons) button.setAttribute("aria-pressed", button.textContent === choice);
    el.dataset.drawn = `${choice} ${t} ${point}`;
  }

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set({ walk: choice, t, point });
      model.save_changes();
    }, 300);
  }
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶ play"; };
  play.addEventListener("click", () => {
    if (timer) { stop(); settle(); return; }
    if (t === 0) t = T;
    play.textContent = "❚❚ pause";
    timer = setInterval(() => {
      t = Math.max(0, t - Math.round(T / 100));
      paint();
      if (t === 0) { stop(); settle(); }
    }, 60);
  });
  slider.addEventListener("input", () => { stop(); t = T - slider.value; paint(); settle(); });
  arrows.addEventListener("change", paint);
  other.addEventListener("click", () => { point = (point + 1) % points; paint(); settle(); });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect(), scale = WIDTH / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    if (x > CHART.left - 10) {
      stop();
      t = Math.round(Math.min(1, Math.max(0, 1 - (x - CHART.left) / (CHART.right - CHART.left))) * T);
    } else { // follow the nearest point
      const walk = walks[choice], start = 2 * points * frameAt(walk.times, t);
      let best = Infinity;
      for (let i = 0; i < points; i++) {
        const far = Math.hypot(px(walk.x[start + 2 * i]) - x, py(walk.x[start + 2 * i + 1]) - y);
        if (far < best) [best, point] = [far, i];
      }
    }
    paint();
    settle();
  });
  const fromKernel = () => {
    [choice, t, point] = [model.get("walk"), model.get("t"), model.get("point")];
    paint();
  };
  model.on("change:walk change:t change:point", fromKernel);
  paint();
  return () => { stop(); clearTimeout(rest); model.off("change:walk change:t change:point", fromKernel); };
}
export default { render };
