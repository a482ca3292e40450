// Two shapes, aligned at their last axes. Everything is decided and drawn here; the kernel only hears the shapes, at rest.
// The words are those of verdict() in primer.py; a browser test holds the two together.
const DRAWN = 6; // axes longer than this are said, not drawn
const WIDTH = 860; // room for three blocks of the largest size
const COLOURS = [["#cfe3f1", "#0072b2"], ["#fbe7bf", "#e69f00"], ["#c9e9df", "#009e73"]]; // a, b, a + b: as in plots.py
const word = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
const count = (shape) => shape.reduce((product, size) => product * size, 1);

function align(a, b) {
  const n = Math.max(a.length, b.length), columns = [];
  for (let axis = 0; axis < n; axis++) {
    const p = a[axis - n + a.length], q = b[axis - n + b.length];
    let out = null, says = "refused";
    if (p === undefined) [out, says] = [q, q === 1 ? "missing in a" : "missing in a: stretched"];
    else if (q === undefined) [out, says] = [p, p === 1 ? "missing in b" : "missing in b: stretched"];
    else if (p === q) [out, says] = [p, "equal"];
    else if (p === 1) [out, says] = [q, "a stretched"];
    else if (q === 1) [out, says] = [p, "b stretched"];
    columns.push({ p, q, out, says });
  }
  return columns;
}
const fits = (columns) => columns.every((column) => column.out !== null);
const result = (columns) => columns.map((column) => column.out);

function verdict(a, b) {
  const columns = align(a, b);
  if (fits(columns)) {
    const shape = result(columns);
    const says = `a + b has shape ${word(shape)}: ${count(shape)} sums from ${count(a)} and ${count(b)} numbers.`;
    const trap = count(a) === count(b) && count(b) < count(shape);
    return trap ? says + " No error, but each number of a met each number of b. If it should meet only its partner, give both the same shape." : says;
  }
  const axis = columns.findLastIndex((column) => column.out === null), { p, q } = columns[axis];
  const cures = [];
  for (const k of [1, 2, 3]) {
    const ones = Array(k).fill(1), code = ["...", ...Array(k).fill("None")].join(", ");
    for (const [x, y, text] of [[[...a, ...ones], b, `a[${code}] + b`], [a, [...b, ...ones], `a + b[${code}]`]]) {
      const tried = align(x, y);
      if (fits(tried)) cures.push(`${text} has shape ${word(result(tried))}`);
    }
  }
  return `Refused: ${p} against ${q}, and neither is 1. The size of tensor a (${p}) must match the size of tensor b (${q})`
    + ` at non-singleton dimension ${axis}.` + (cures.length ? ` These fit: ${cures.slice(0, 2).join("; ")}.` : "");
}

function parse(text) {
  const inside = text.trim().replace(/^[([]/, "").replace(/[)\]]$/, "").trim();
  const sizes = inside === "" ? [] : inside.replace(/,$/, "").split(/[\s,]+/).filter(Boolean);
  if (sizes.length > 4 || !sizes.every((size) => /^\d{1,5}$/.test(size))) return null;
  return sizes.map(Number);
}

function render({ model, el }) {
  el.classList.add("al-broadcast");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys
  const make = (tag, props = {}) => Object.assign(document.createElement(tag), props);
  const shapes = { a: [...model.get("a")], b: [...model.get("b")] };

  const examples = make("div", { className: "al-examples" });
  for (const { name, a, b } of model.get("examples")) {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => { shapes.a = [...a]; shapes.b = [...b]; paint(); settle(); });
    examples.append(button);
  }
  const typed = make("div", { className: "al-typed" });
  const fields = {};
  for (const name of ["a", "b"]) {
    const label = make("label", { textContent: `shape of ${name} ` });
    fields[name] = make("input", { type: "text", spellcheck: false });
    fields[name].dataset.shape = name;
    fields[name].addEventListener("input", () => {
      const shape = parse(fields[name].value);
      fields[name].setAttribute("aria-invalid", String(!shape));
      if (shape) { shapes[name] = shape; paint(fields[name]); settle(); }
      else says.textContent = "Write up to four whole numbers with commas between them, for example 3, 1.";
    });
    label.append(fields[name]);
    typed.append(label);
  }
  const table = make("table");
  const says = make("p", { className: "al-verdict" });
  says.setAttribute("aria-live", "polite");
  const picture = make("canvas");
  picture.setAttribute("role", "img");
  el.append(examples, typed, table, says, picture);

  let rest = null, telling = false;
  const settle = () => {
    clearTimeout(rest);
    rest = setTimeout(() => {
      telling = true; // after the first set the model holds a new a and an old b: not to be listened to
      model.set("a", [...shapes.a]);
      model.set("b", [...shapes.b]);
      telling = false;
      model.save_changes();
    }, 300);
  };
  const change = (name, place, by) => {
    shapes[name][place] = Math.max(1, shapes[name][place] + by);
    paint();
    settle();
  };

  // the table is built anew only when the number of axes changes: filling it is what must be fast, and keeps the focus
  let built = "", cells = [];
  function build(a, b) {
    built = `${a.length} ${b.length}`;
    const n = Math.max(a.length, b.length);
    const rows = ["axis", "a", "b", "a + b", ""].map((title) => {
      const row = make("tr");
      row.append(make("th", { textContent: title, scope: "row" }));
      return row;
    });
    cells = Array.from({ length: n }, (_, axis) => {
      const column = { parts: [make("th", { textContent: axis - n, scope: "col" })], tiles: {} };
      for (const name of ["a", "b"]) column.parts.push(tile(column, name, axis - n + shapes[name].length));
      column.out = make("td", { className: "al-out" });
      column.what = make("td", { className: "al-what" });
      column.parts.push(column.out, column.what);
      column.parts.forEach((part, row) => rows[row].append(part));
      return column;
    });
    table.replaceChildren(...rows);
  }
  function tile(column, name, place) {
    const cell = make("td", { className: `al-${name}` });
    if (place < 0) {
      cell.append(make("span", { className: "al-missing", textContent: "(1)" }));
      return cell;
    }
    const box = column.tiles[name] = make("span", { tabIndex: 0, className: "al-tile" });
    box.dataset.tile = `${name}${shapes[name].length - place}`; // a1 is the last axis of a, a2 the one before
    box.setAttribute("role", "spinbutton");
    box.setAttribute("aria-valuemin", 1);
    box.setAttribute("aria-label", `axis ${place - shapes[name].length} of ${name}`);
    box.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      change(name, place, by);
    });
    const [less, more] = [["−", -1, "shorter"], ["+", 1, "longer"]].map(([sign, by, title]) => {
      const knob = make("button", { type: "button", textContent: sign, tabIndex: -1, title });
      knob.addEventListener("click", () => change(name, place, by));
      return knob;
    });
    cell.append(less, box, more);
    return cell;
  }

  function paint(typing) {
    const { a, b } = shapes, columns = align(a, b);
    for (const name of ["a", "b"]) {
      if (fields[name] === typing) continue; // the hand is in it
      fields[name].value = shapes[name].join(", ");
      fields[name].setAttribute("aria-invalid", "false");
    }
    if (built !== `${a.length} ${b.length}`) build(a, b);
    columns.forEach(({ p, q, out, says }, axis) => {
      const { tiles, parts, out: sum, what } = cells[axis];
      for (const [name, size] of [["a", p], ["b", q]]) {
        if (!tiles[name]) continue;
        tiles[name].textContent = size;
        tiles[name].setAttribute("aria-valuenow", size);
        tiles[name].setAttribute("aria-valuetext", `${size}, ${says}`);
      }
      sum.textContent = out === null ? "✗" : out;
      what.textContent = says;
      for (const part of parts) part.classList.toggle("al-refused", out === null);
    });
    says.textContent = verdict(a, b);
    says.classList.toggle("al-no", !fits(columns));
    picture.setAttribute("aria-label", says.textContent);
    draw(columns);
    el.dataset.drawn = `${word(a)} ${word(b)}`;
  }

  // a, b and their sum as sheets of cells; what was only stretched is dashed. On a canvas: a hundred SVG texts cost 10 ms.
  function draw(columns) {
    const ok = fits(columns), { a, b } = shapes, three = (shape) => [...Array(3 - shape.length).fill(1), ...shape];
    const blocks = [["a", a, columns.map((c) => (ok ? c.out : c.p ?? 1))], ["b", b, columns.map((c) => (ok ? c.out : c.q ?? 1))]];
    if (ok) blocks.push(["a + b", result(columns), result(columns)]);
    const all = blocks.flatMap(([, , full]) => full);
    const small = columns.length <= 3 && Math.max(1, ...all) <= DRAWN && Math.min(1, ...all) >= 1;
    const sheets = small ? blocks.map(([, , full]) => three(full)) : [];
    const cell = 30, shift = 9, top = 26, tall = Math.max(0, ...sheets.map(([S, R]) => R * cell + (S - 1) * shift));
    const paper = surface(top + tall + 6);
    if (!small) {
      say(paper, "Up to three axes, each of 1 to 6, are drawn; the rule is the same for all.", 4, 16, 12);
      return;
    }
    const number = (shape, i, j, unit) => {
      const [, rows, row] = three(shape);
      return unit * (Math.min(i, rows - 1) * row + Math.min(j, row - 1) + 1);
    };
    let left = 4;
    blocks.forEach(([name, shape, full], k) => {
      const [S, R, C] = sheets[k], real = three(shape), [fill, edge] = COLOURS[k];
      if (k) { say(paper, !ok ? "?" : "+="[k - 1], left + 4, top + tall / 2 + 7, 22); left += 30; }
      say(paper, `${name}  ${word(shape)}`, left, 15, 13, { weight: 600 });
      for (let s = S - 1; s >= 0; s--) for (let i = 0; i < R; i++) for (let j = 0; j < C; j++) {
        const copied = s >= real[0] || i >= real[1] || j >= real[2];
        const x = left + j * cell + s * shift, y = top + i * cell + (S - 1 - s) * shift;
        paper.setLineDash(copied ? [4, 3] : []);
        paper.lineWidth = copied ? 1.1 : 1.7;
        paper.fillStyle = copied ? "#fff" : fill;
        paper.strokeStyle = edge;
        paper.beginPath();
        paper.roundRect(x + 0.5, y + 0.5, cell - 3, cell - 3, 3);
        paper.fill();
        paper.stroke();
        if (s) continue; // numbers on the front sheet only
        const value = (k !== 1 ? number(a, i, j, 10) : 0) + (k !== 0 ? number(b, i, j, 1) : 0);
        say(paper, value, x + 14, y + 18.5, 12, { align: "center", colour: copied ? "#66737f" : "#1d2733" });
      }
      left += Math.max(C * cell + (S - 1) * shift, 74) + 14;
    });
  }
  function surface(height) {
    const sharp = Math.max(1, window.devicePixelRatio || 1);
    if (picture.dataset.size !== `${height} ${sharp}`) { // a new size costs a layout of the page: only when it changes
      picture.dataset.size = `${height} ${sharp}`;
      [picture.width, picture.height] = [WIDTH * sharp, height * sharp];
      picture.style.aspectRatio = `${WIDTH} / ${height}`;
    }
    const paper = picture.getContext("2d");
    paper.setTransform(sharp, 0, 0, sharp, 0, 0);
    paper.clearRect(0, 0, WIDTH, height);
    return paper;
  }
  function say(paper, text, x, y, size, { weight = 400, align = "left", colour = "#1d2733" } = {}) {
    paper.font = `${weight} ${size}px system-ui, sans-serif`;
    paper.textAlign = align;
    paper.fillStyle = colour;
    paper.fillText(text, x, y);
  }

  const fromKernel = () => {
    if (telling) return;
    shapes.a = [...model.get("a")];
    shapes.b = [...model.get("b")];
    paint();
  };
  model.on("change:a", fromKernel);
  model.on("change:b", fromKernel);
  paint();
  return () => { clearTimeout(rest); model.off("change:a", fromKernel); model.off("change:b", fromKernel); };
}
export default { render };
