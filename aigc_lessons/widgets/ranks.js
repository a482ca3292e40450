// The series is here; a slider chooses the rank, a box whether embeddings were trained. All pictures are drawn from its rows.
const NS = "http://www.w3.org/2000/svg", W = 400, H = 230, LEFT = 46, BOTTOM = 34, TOP = 14;

export const share = (x) => `${(100 * x).toFixed(1)} %`;

export function summaryOf(row, all, embeddings) {
  const name = row.label === "all" ? "All weights" : `Rank ${row.label}${embeddings ? " and the embeddings" : ""}`;
  return `${name}: ${row.parameters.toLocaleString("en")} weights trained (${share(row.parameters / all.parameters)}), `
    + `${share(row.held_out)} of the held-out answers exact, ${row.nats.toFixed(2)} nats a token on prose, ${share(row.recall)} of the facts still told.`;
}

// how much of the sum of squares the first k singular values hold
export function captured(singular, k) {
  const squares = singular.map((s) => s * s), sum = squares.reduce((a, b) => a + b, 0);
  return sum ? squares.slice(0, k).reduce((a, b) => a + b, 0) / sum : 1;
}

function render({ model, el }) {
  const { rows: both } = model.get("given"), all = both[0].at(-1);
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const svg = (tag, attributes, text) => {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  el.classList.add("al-ranks");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const labelBox = make("label", "al-line", "rank "), slider = Object.assign(make("input"), { type: "range", min: 0, max: both[0].length - 1, step: 1 });
  const shown = make("b");
  slider.dataset.control = "place";
  slider.setAttribute("aria-label", "Rank of the change");
  const wordsBox = make("label"), words = Object.assign(make("input"), { type: "checkbox" });
  words.dataset.control = "embeddings";
  wordsBox.append(words, document.createTextNode(" train the embeddings too"));
  labelBox.append(slider, shown);
  const controls = make("div", "al-controls");
  controls.append(labelBox, wordsBox);
  const pictures = make("div", "al-pictures"), said = make("p", "al-said");
  said.setAttribute("role", "status");
  const panel = (title) => {
    const box = make("figure"), picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
    box.append(make("figcaption", "", title), picture);
    pictures.append(box);
    return picture;
  };
  const learned = panel("Learned against forgotten: each point is a rank"), spectrum = panel("Singular values of the change of one layer");
  el.append(controls, pictures, said);

  const nats = both.flat().map((row) => row.nats), most = Math.max(...nats) * 1.06, least = 0.9 * Math.min(...nats);
  const x = (n) => LEFT + ((W - LEFT - 14) * (n - least)) / (most - least), y = (p) => TOP + (H - TOP - BOTTOM) * (1 - p);
  const top = Math.max(...both.flat().flatMap((row) => row.singular)) * 1.05, bars = all.singular.length;
  const bx = (i) => LEFT + ((W - LEFT - 14) * i) / bars, by = (s) => TOP + (H - TOP - BOTTOM) * (1 - s / top), wide = ((W - LEFT - 14) / bars) * 0.7;

  function axes(picture, below, beside, ticks) {
    picture.append(svg("line", { x1: LEFT, x2: W - 10, y1: H - BOTTOM, y2: H - BOTTOM, class: "al-axis" }), svg("line", { x1: LEFT, x2: LEFT, y1: TOP, y2: H - BOTTOM, class: "al-axis" }));
    picture.append(svg("text", { x: (W + LEFT) / 2, y: H - 4, "text-anchor": "middle" }, below), svg("text", { x: 12, y: (H - BOTTOM + TOP) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(H - BOTTOM + TOP) / 2})` }, beside));
    for (const [text, tx, ty, anchor] of ticks) picture.append(svg("text", { x: tx, y: ty, "text-anchor": anchor, class: "al-tick" }, text));
  }

  function paint() {
    const at = +slider.value, rows = both[+words.checked], row = rows[at];
    shown.textContent = row.label;
    slider.setAttribute("aria-valuetext", row.label === "all" ? "all weights" : `rank ${row.label}`);
    learned.replaceChildren();
    axes(learned, "nats a token on prose (right: more forgotten)", "exact answers", [
      ...[0, 0.5, 1].map((p) => [`${100 * p} %`, LEFT - 4, y(p) + 4, "end"]),
      ...[least, (least + most) / 2, most].map((n) => [n.toFixed(2), x(n), H - BOTTOM + 13, "middle"]),
    ]);
    for (const one of both[+!words.checked].slice(0, -1)) learned.append(svg("circle", { cx: x(one.nats), cy: y(one.held_out), r: 3, class: "al-other" }));
    rows.forEach((one, i) => {
      const chosen = i === at;
      learned.append(svg("circle", { cx: x(one.nats), cy: y(one.held_out), r: chosen ? 8 : 4.5, class: chosen ? "al-chosen" : "al-point" }));
      const below = y(one.held_out) + 19 + 14 * (i % 4); // points that lie together keep their names apart
      learned.append(svg("line", { x1: x(one.nats), x2: x(one.nats), y1: y(one.held_out) + 8, y2: below - 10, class: "al-leader" }));
      learned.append(svg("text", { x: x(one.nats), y: below, "text-anchor": "middle", class: chosen ? "al-bold" : "" }, one.label));
    });
    spectrum.replaceChildren();
    axes(spectrum, "number of the singular value", "size", [["0", LEFT - 4, y(0) + 4, "end"], [top.toFixed(1), LEFT - 4, TOP + 4, "end"],
      ...[1, 8, 16, 24].filter((k) => k <= bars).map((k) => [`${k}`, bx(k - 1) + wide / 2, H - BOTTOM + 13, "middle"])]);
    row.singular.forEach((s, i) => spectrum.append(svg("rect", { x: bx(i), y: by(s), width: wide, height: Math.max(0, H - BOTTOM - by(s)), class: "al-bar" })));
    spectrum.append(svg("polyline", { points: all.singular.map((s, i) => `${bx(i) + wide / 2},${by(s)}`).join(" "), class: "al-full" }));
    spectrum.append(svg("text", { x: W - 12, y: TOP + 10, "text-anchor": "end" }, "bars: this change · line: all weights"));
    const k = row.label === "all" ? null : +row.label;
    said.textContent = summaryOf(row, all, words.checked) + (k && k < bars ? ` The first ${k === 1 ? "singular value of the full change holds" : `${k} singular values of the full change hold`} ${share(captured(all.singular, k))} of its size (sum of squares, of the ${bars} shown).` : "");
  }

  const say = (trait, value) => { model.set(trait, value); model.save_changes(); paint(); };
  slider.addEventListener("input", () => say("place", +slider.value));
  words.addEventListener("change", () => say("embeddings", words.checked));
  function heard() {
    if (+slider.value === model.get("place") && words.checked === model.get("embeddings")) return;
    slider.value = model.get("place");
    words.checked = model.get("embeddings");
    paint();
  }
  for (const trait of ["place", "embeddings"]) model.on(`change:${trait}`, heard);
  slider.value = model.get("place");
  words.checked = model.get("embeddings");
  paint();
  return () => { for (const trait of ["place", "embeddings"]) model.off(`change:${trait}`, heard); };
}
export default { render };
