// Sixty-four words, their reference and their reward arrive once; the tilted policy and both curves are computed here.
const [WIDTH, HEIGHT] = [880, 404];
const BARS = { left: 8, right: 494, top: 44, bottom: 316 }, CHART = { left: 566, right: 866, top: 44, bottom: 316 };
const [BLUE, SKY, ORANGE, INK, GREY, FAINT] = ["#0072b2", "#56b4e9", "#d55e00", "#1d2733", "#51606f", "#c9d1da"];
const FARTHEST = 6; // nats shown

function render({ model, el }) {
  const { words, log_ref: logRef, liked, ladder, most } = model.get("given");
  const counts = words.map((word) => word.split("o").length - 1);
  const total = (p, r) => p.reduce((sum, x, i) => sum + x * r[i], 0);
  const meanRef = total(logRef.map(Math.exp), liked);
  let beta = model.get("beta"), overpaid = model.get("overpaid"), rest = null, telling = false, along = [];

  function tilted(b) {
    const raised = logRef.map((l, i) => l + (liked[i] + overpaid * counts[i]) / b), top = Math.max(...raised);
    const powers = raised.map((x) => Math.exp(x - top)), Z = powers.reduce((a, x) => a + x, 0);
    return powers.map((x) => x / Z);
  }
  function told(b) {
    const p = tilted(b);
    return {
      p, liked: total(p, liked), learned: total(p, liked.map((l, i) => l + overpaid * counts[i])),
      kl: p.reduce((sum, x, i) => sum + (x > 0 ? x * (Math.log(x) - logRef[i]) : 0), 0),
    };
  }
  const prepare = () => { along = ladder.map(told); };

  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  el.classList.add("al-tilting");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the arrow keys
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const sliders = make("div", { className: "al-sliders" }), shown = [];
  function slider(name, text, max, read, write) {
    const label = make("label", { textContent: `${text} ` }), value = make("output");
    const range = make("input", { type: "range", min: 0, max, step: 1 });
    range.dataset.name = name;
    range.setAttribute("aria-label", text);
    range.addEventListener("input", () => { write(+range.value); paint(); settle(); });
    label.append(range, value);
    sliders.append(label);
    shown.push(() => { const [place, words] = read(); range.value = place; value.textContent = words; range.setAttribute("aria-valuetext", words); });
  }
  const rung = () => ladder.reduce((best, b, i) => (Math.abs(Math.log(b / beta)) < Math.abs(Math.log(ladder[best] / beta)) ? i : best), 0);
  slider("beta", "pull: β falls", ladder.length - 1, () => [rung(), `β = ${beta.toFixed(2)}`], (i) => { beta = ladder[i]; });
  slider("overpaid", "overpaid for each o", Math.round(most / 0.05), () => [Math.round(overpaid / 0.05), overpaid.toFixed(2)], (i) => { overpaid = 0.05 * i; prepare(); });
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  el.append(canvas, sliders, says);

  const ratio = Math.max(1, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [WIDTH * ratio, HEIGHT * ratio];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  function say(text, x, y, { size = 12.5, colour = INK, align = "left", weight = 400 } = {}) {
    pen.font = `${weight} ${size}px system-ui, sans-serif`;
    [pen.fillStyle, pen.textAlign] = [colour, align];
    pen.fillText(text, x, y);
  }
  function line(points, colour, width = 1, dashes = []) {
    [pen.strokeStyle, pen.lineWidth] = [colour, width];
    pen.setLineDash(dashes);
    pen.beginPath();
    points.forEach(([x, y]) => pen.lineTo(x, y));
    pen.stroke();
    pen.setLineDash([]);
  }

  // three groups of words, those that readers like best first; in each, the word that the reference finds likeliest first
  const order = words.map((_, i) => i).sort((a, b) => liked[b] - liked[a] || logRef[b] - logRef[a]);
  const groups = [...new Set(order.map((i) => liked[i]))], gap = 16;
  const wide = (BARS.right - BARS.left - gap * (groups.length - 1)) / words.length;
  const places = {};
  order.forEach((i, k) => { places[i] = BARS.left + k * wide + gap * groups.indexOf(liked[i]); });

  function bars(here) {
    const highest = Math.max(...here.p), top = [0.1, 0.25, 0.5, 1].find((y) => highest <= y);
    const py = (y) => BARS.bottom - (y / top) * (BARS.bottom - BARS.top - 16);
    say("filled: the policy now · outlined: the reference", BARS.left, 16);
    for (const share of [0, 0.5, 1]) {
      line([[BARS.left, py(share * top)], [BARS.right, py(share * top)]], FAINT, 0.8);
      if (share) say(`${100 * share * top} in 100`, BARS.left, py(share * top) - 3, { size: 11, colour: GREY });
    }
    order.forEach((i) => {
      pen.fillStyle = liked[i] === 1 ? BLUE : liked[i] ? SKY : ORANGE;
      pen.fillRect(places[i], py(here.p[i]), wide - 1.4, BARS.bottom - py(here.p[i]));
      pen.strokeStyle = INK;
      pen.lineWidth = 0.8;
      pen.strokeRect(places[i], py(Math.exp(logRef[i])), wide - 1.4, BARS.bottom - py(Math.exp(logRef[i])));
    });
    const named = [...order].sort((a, b) => here.p[b] - here.p[a]).slice(0, 3).filter((i) => here.p[i] > 0.04);
    const taken = [];
    named.forEach((i) => {
      const x = Math.max(BARS.left + 14, places[i] + wide / 2);
      let y = py(here.p[i]) - 5;
      while (taken.some(([u, v]) => Math.abs(u - x) < 28 && Math.abs(v - y) < 14)) y -= 14;
      taken.push([x, y]);
      say(words[i], x, y, { align: "center", weight: 700, size: 13 });
    });
    groups.forEach((value) => {
      const mine = order.filter((i) => liked[i] === value), share = mine.reduce((sum, i) => sum + here.p[i], 0);
      const middle = (places[mine[0]] + places[mine[mine.length - 1]] + wide) / 2;
      say(`readers like it ${value}`, middle, BARS.bottom + 18, { align: "center", size: 12 });
      say(`such as ${words[mine[0]]}`, middle, BARS.bottom + 34, { align: "center", size: 12, colour: GREY });
      say(`${(100 * share).toFixed(0)} in 100`, middle, BARS.bottom + 52, { align: "center", size: 13, weight: 700 });
    });
  }

  const cx = (kl) => CHART.left + (Math.min(kl, FARTHEST) / FARTHEST) * (CHART.right - CHART.left);
  const cy = (y) => CHART.bottom - Math.max(0, y) * (CHART.bottom - CHART.top);
  function chart(here) {
    say("what each reward says, over the distance gone", CHART.left - 34, 16);
    for (let y = 0; y <= 1; y += 0.25) {
      line([[CHART.left, cy(y)], [CHART.right, cy(y)]], FAINT, 0.8);
      say(y.toFixed(2), CHART.left - 6, cy(y) + 4, { align: "right", size: 11, colour: GREY });
    }
    for (let kl = 0; kl <= FARTHEST; kl++) say(String(kl), cx(kl), CHART.bottom + 16, { align: "center", size: 11, colour: GREY });
    say("nats from the reference: KL(policy ‖ reference)", (CHART.left + CHART.right) / 2, CHART.bottom + 34, { align: "center", size: 12, colour: GREY });
    const high = Math.max(1 + 2 * overpaid, 3 * overpaid); // of oto, or of ooo
    line(along.map((a) => [cx(a.kl), cy(a.learned / high)]), ORANGE, 2, [7, 4]);
    line(along.map((a) => [cx(a.kl), cy(a.liked)]), BLUE, 2.4);
    line([[cx(here.kl), CHART.top], [cx(here.kl), CHART.bottom]], GREY, 1);
    pen.fillStyle = ORANGE;
    pen.fillRect(cx(here.kl) - 5, cy(here.learned / high) - 5, 10, 10);
    pen.fillStyle = BLUE;
    pen.beginPath();
    pen.arc(cx(here.kl), cy(here.liked), 6, 0, 2 * Math.PI);
    pen.fill();
    say("● — what readers like", CHART.left, CHART.bottom + 54, { colour: BLUE, weight: 600 });
    say("■ - - the learned reward, of its highest", CHART.left, CHART.bottom + 72, { colour: ORANGE, weight: 600 });
  }

  function verdict(here) {
    const best = along.reduce((a, b) => (b.liked > a.liked ? b : a)), top = here.p.indexOf(Math.max(...here.p));
    let head;
    if (here.kl < 0.02) head = "Hardly moved: KL is dear, and the policy stays what it was.";
    else if (here.liked > best.liked - 0.01) head = "Here readers like it best.";
    else if (here.kl < best.kl) head = "On the way up: both rewards rise.";
    else if (here.liked < meanRef) head = "Hacked: the learned reward is far up, and readers liked the reference better.";
    else head = "Past the peak: the learned reward still rises, what readers like falls.";
    return `${head} Readers ${here.liked.toFixed(2)} of 1 (reference ${meanRef.toFixed(2)}, peak ${best.liked.toFixed(2)}), KL ${here.kl.toFixed(2)} nats; most likely now: ${words[top]}, ${(100 * here.p[top]).toFixed(0)} in 100.`;
  }

  function paint() {
    const here = told(beta), words = verdict(here);
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    bars(here);
    chart(here);
    says.textContent = words;
    says.classList.toggle("al-no", words.startsWith("Hacked") || words.startsWith("Past"));
    shown.forEach((show) => show());
    canvas.setAttribute("aria-label", `beta ${beta.toFixed(2)}, overpaid ${overpaid.toFixed(2)} for each o. ${words}`);
    el.dataset.drawn = `${beta} ${overpaid} ${here.kl} ${here.liked} ${here.learned}`;
  }
  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true;
      model.set("beta", beta);
      model.set("overpaid", overpaid);
      model.save_changes();
      telling = false;
    }, 250);
  }
  canvas.addEventListener("click", (event) => { // on the chart: the beta that leads so far
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDTH;
    if (x < CHART.left - 8) return;
    let near = 0;
    along.forEach((a, i) => { if (Math.abs(cx(a.kl) - x) < Math.abs(cx(along[near].kl) - x)) near = i; });
    beta = ladder[near];
    paint();
    settle();
  });
  const fromKernel = () => {
    if (telling) return;
    [beta, overpaid] = [model.get("beta"), model.get("overpaid")];
    prepare();
    paint();
  };
  model.on("change:beta change:overpaid", fromKernel);
  prepare();
  paint();
  return () => { clearTimeout(rest); model.off("change:beta change:overpaid", fromKernel); };
}
export default { render };
