// The tree arrives once; opening a branch only redraws. The kernel hears of the choice once the hand is still.
const HEIGHT = 470;
const ROOT = { x: 0, w: 80, h: 80 };
const BRANCH = { x: 100, w: 150, h: 52, step: 84 };
const LEAF = { x: 270, w: 232, h: 38, step: 41.5 };
const SVG = "http://www.w3.org/2000/svg";
const ICONS = { // strokes in a box of 24 x 24
  text: "M4 6h16M4 11h16M4 16h10",
  audio: "M4 10v4M8 6v12M12 9v6M16 4v16M20 10v4",
  image: "M3 5h18v14H3zM3 16l5-5 4 4 3-3 6 6M15 9h1",
  space: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  areas: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h6v6h-6z",
};

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function address(file) {
  const here = window.location;
  return here.pathname.includes("/tree/") ? new URL(file, here.href).href : null;
}

function render({ model, el }) {
  const tree = model.get("tree");
  const entries = new Map([[tree.key, tree]]); // key -> entry; parents by key
  const parents = new Map();
  for (const branch of tree.branches) {
    entries.set(branch.key, branch);
    parents.set(branch.key, tree);
    for (const leaf of branch.leaves) {
      entries.set(leaf.key, leaf);
      parents.set(leaf.key, branch);
    }
  }
  const children = (entry) => entry.branches ?? entry.leaves ?? [];
  const branchOf = (entry) => (entry.leaves ? entry : entry.branches ? null : parents.get(entry.key));

  el.classList.add("al-aigc");
  const stage = make("div", "al-stage");
  stage.style.height = `${HEIGHT}px`;
  stage.style.width = `${LEAF.x + LEAF.w}px`;
  stage.setAttribute("role", "tree");
  stage.setAttribute("aria-label", "Map of AIGC; the arrow keys open and close branches");
  const curves = drawn("svg", { width: LEAF.x + LEAF.w, height: HEIGHT, "aria-hidden": "true" });
  const card = make("div", "al-card");
  card.setAttribute("aria-live", "polite");
  const invitation = make("p", "al-invitation", "← open a branch");
  Object.assign(invitation.style, { left: `${LEAF.x}px`, top: `${HEIGHT / 2 - 10}px` });
  stage.append(curves, invitation);
  const legend = make("p", "al-legend");
  for (const [mark, words] of [["al-dot al-ready", "lesson written"], ["al-dot", "planned"], ["al-star", "sample"]]) {
    legend.append(make("i", mark), make("span", "", words));
  }
  const left = make("div", "al-left");
  left.append(stage, legend);
  el.append(left, card);

  // ------------------------------------------------------------------ the tree
  const nodes = new Map(); // key -> element, for what is visible
  const branchY = (i) => HEIGHT / 2 + (i - (tree.branches.length - 1) / 2) * BRANCH.step;
  const leafY = (i, n) => HEIGHT / 2 + (i - (n - 1) / 2) * LEAF.step;

  function node(entry, level, box, y, i, n) {
    const element = make("div", `al-node al-level-${level}`);
    Object.assign(element.style, { left: `${box.x}px`, top: `${y - box.h / 2}px`, width: `${box.w}px`, height: `${box.h}px` });
    const facts = { role: "treeitem", "aria-level": level, "aria-setsize": n, "aria-posinset": i + 1, tabindex: -1 };
    for (const [name, value] of Object.entries(facts)) element.setAttribute(name, value);
    element.dataset.key = entry.key;
    const words = make("span", "al-words");
    words.append(make("b", "", entry.name), make("small", "", entry.chinese));
    words.lastChild.lang = "zh-Hans";
    element.append(words);
    element.addEventListener("click", () => choose(entry.key, true, true));
    nodes.set(entry.key, element);
    stage.append(element);
    return element;
  }

  function curve(x0, y0, x1, y1, colour, strong) {
    const middle = (x0 + x1) / 2;
    const d = `M${x0} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1} ${y1}`;
    return drawn("path", { d, fill: "none", stroke: colour, "stroke-width": strong ? 2.4 : 1.4 });
  }

  function icon(key) {
    const svg = drawn("svg", { viewBox: "0 0 24 24", width: 21, height: 21, "aria-hidden": "true", class: "al-icon" });
    svg.append(drawn("path", { d: ICONS[key] }));
    return svg;
  }

  node(tree, 1, ROOT, HEIGHT / 2, 0, 1).setAttribute("aria-expanded", "true");
  const trunk = drawn("g", {});
  const twigs = drawn("g", {});
  curves.append(trunk, twigs);
  const boughs = new Map();
  tree.branches.forEach((branch, i) => {
    const element = node(branch, 2, BRANCH, branchY(i), i, tree.branches.length);
    element.style.setProperty("--colour", branch.colour);
    element.prepend(icon(branch.key));
    const path = curve(ROOT.x + ROOT.w, HEIGHT / 2, BRANCH.x, branchY(i), branch.colour, false);
    boughs.set(branch.key, path);
    trunk.append(path);
  });

  let open = null;
  function show(branch) {
    if (branch === open) return;
    for (const leaf of open?.leaves ?? []) {
      nodes.get(leaf.key).remove();
      nodes.delete(leaf.key);
    }
    twigs.replaceChildren();
    open = branch;
    for (const other of tree.branches) {
      nodes.get(other.key).setAttribute("aria-expanded", String(other === branch));
      boughs.get(other.key).setAttribute("stroke-width", other === branch ? 2.8 : 1.4);
    }
    invitation.hidden = !!branch;
    if (!branch) return;
    const from = branchY(tree.branches.indexOf(branch));
    branch.leaves.forEach((leaf, i) => {
      const y = leafY(i, branch.leaves.length);
      const element = node(leaf, 3, LEAF, y, i, branch.leaves.length);
      element.style.setProperty("--colour", branch.colour);
      element.prepend(make("i", leaf.lesson?.ready ? "al-dot al-ready" : "al-dot"));
      if (leaf.sample) element.append(make("i", "al-star"));
      const marks = [leaf.lesson?.ready ? "lesson written" : leaf.lesson ? "planned" : "no lesson yet", ...(leaf.sample ? ["with a sample"] : [])];
      element.setAttribute("aria-label", [leaf.name, leaf.chinese, ...marks].join(", "));
      twigs.append(curve(BRANCH.x + BRANCH.w, from, LEAF.x, y, branch.colour, false));
    });
  }

  // ------------------------------------------------------------------ what the card says
  function chips(words, keys) {
    const row = make("p", "al-chips");
    row.append(make("span", "al-label", words));
    for (const key of keys) {
      const chip = make("button", "al-chip", entries.get(key).name);
      chip.type = "button";
      chip.style.setProperty("--colour", (branchOf(entries.get(key)) ?? tree).colour);
      chip.addEventListener("click", () => choose(key, true, true));
      row.append(chip);
    }
    return row;
  }

  function lessonLine(leaf) {
    const line = make("p", "al-lesson");
    const lesson = leaf.lesson;
    if (!lesson) line.textContent = "No lesson builds it yet.";
    else if (!lesson.ready) line.textContent = `Planned for lesson ${lesson.number}, ${lesson.title}: not written yet.`;
    else {
      line.textContent = `Built in lesson ${lesson.number}, ${lesson.title}. `;
      const url = address(lesson.file);
      if (url) line.append(Object.assign(make("a", "", "Open it"), { href: url }));
    }
    line.prepend(make("i", lesson?.ready ? "al-dot al-ready" : "al-dot"));
    return line;
  }

  function tell(entry) {
    const branch = branchOf(entry);
    card.style.setProperty("--colour", branch ? branch.colour : "#1d2733");
    const head = make("h4", "", entry.name);
    head.append(Object.assign(make("span", "", entry.chinese), { lang: "zh-Hans" }));
    const said = [head, make("p", "", `${entry.means} ${entry.works}`)];
    if (children(entry).length) {
      const all = entry.leaves ? [entry] : entry.branches;
      const leaves = all.flatMap((one) => one.leaves);
      const ready = leaves.filter((leaf) => leaf.lesson?.ready).length;
      said.push(make("p", "al-lesson", `${leaves.length} entries; for ${ready} of them a lesson is written.`));
    } else {
      if (entry.sample) {
        const figure = make("figure");
        if (entry.sample.picture) {
          figure.append(Object.assign(make("img"), { src: entry.sample.picture, alt: entry.sample.made_by }));
        }
        if (entry.sample.text) figure.append(make("pre", "", entry.sample.text));
        figure.append(make("figcaption", "", `Sample: ${entry.sample.made_by}`));
        said.push(figure);
      }
      said.push(lessonLine(entry));
      const known = make("p");
      known.append(make("span", "al-label", "Known from"), entry.products.join(" · "));
      said.push(known);
      if (entry.uses.length) said.push(chips("Draws on", entry.uses));
      if (entry.used_in.length) said.push(chips("At work in", entry.used_in));
    }
    card.replaceChildren(...said);
  }

  // ------------------------------------------------------------------ choosing
  let chosen = null;
  let rest = null;
  function choose(key, focus, report) {
    const entry = entries.get(key) ?? tree;
    nodes.get(chosen)?.setAttribute("tabindex", -1);
    nodes.get(chosen)?.setAttribute("aria-selected", "false");
    show(branchOf(entry));
    chosen = entry.key;
    const element = nodes.get(chosen);
    element.setAttribute("tabindex", 0);
    element.setAttribute("aria-selected", "true");
    [...twigs.children].forEach((path, i) => path.setAttribute("stroke-width", open.leaves[i] === entry ? 2.8 : 1.4));
    tell(entry);
    el.dataset.chosen = chosen;
    if (focus) element.focus({ preventScroll: true });
    if (report) {
      clearTimeout(rest);
      rest = setTimeout(() => { model.set("chosen", chosen); model.save_changes(); }, 300);
    }
  }

  function neighbour(key) {
    const entry = entries.get(chosen);
    const visible = [tree, ...tree.branches.flatMap((branch) => (branch === open ? [branch, ...branch.leaves] : [branch]))];
    const at = visible.indexOf(entry);
    switch (key) {
      case "ArrowDown": return visible[at + 1];
      case "ArrowUp": return visible[at - 1];
      case "ArrowRight": return children(entry)[0];
      case "ArrowLeft": return parents.get(chosen);
      case "Home": return tree;
      case "End": return visible.at(-1);
      default: return null;
    }
  }

  el.addEventListener("keydown", (event) => {
    event.stopPropagation(); // or JupyterLab takes the arrow keys
    if (!stage.contains(event.target)) return;
    const next = neighbour(event.key);
    if (next === null) return;
    event.preventDefault();
    if (next) choose(next.key, true, true);
  });

  const fromKernel = () => { if (model.get("chosen") !== chosen) choose(model.get("chosen"), false, false); };
  model.on("change:chosen", fromKernel);
  choose(model.get("chosen"), false, false);
  return () => { clearTimeout(rest); model.off("change:chosen", fromKernel); };
}
export default { render };
