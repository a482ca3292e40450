// The merges arrive once; every key is tokenized here, by bpe.js.
const SIGNS = { " ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍" };
const FILLS = 4;
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function shown(bytes) {
  try {
    return Array.from(strict.decode(Uint8Array.from(bytes)), (c) => SIGNS[c] ?? (/[\p{C}\p{Z}]/u.test(c) ? unicode(c) : c)).join("");
  } catch {
    return `⟨${hex(bytes)}⟩`;
  }
}

const unicode = (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const hex = (bytes) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const wellFormed = (text) => text.replace(/[\ud800-\udfff]/gu, "\ufffd"); // half of a surrogate pair is no text

// where the slider can stand: every one of the first merges, then ever larger steps
function stopsUpTo(most) {
  const stops = [];
  for (let k = 0; k < most; k = Math.max(k + 1, Math.round(k * 1.06))) stops.push(k);
  return [...stops, most];
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function render({ model, el }) {
  const given = model.get("given"), stops = stopsUpTo(given.most);
  let text = model.get("text"), used = model.get("used"), timer = null;
  el.classList.add("al-tokens");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ what is typed, and how many merges are used
  const examples = make("div", "al-examples");
  examples.setAttribute("role", "group");
  examples.setAttribute("aria-label", "Examples");
  for (const [name, words] of Object.entries(given.examples)) {
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => { text = box.value = words; paint(); settle(); });
    examples.append(button);
  }
  const boxLabel = make("label", "al-box", "Type here, in any language:");
  const box = Object.assign(make("textarea"), { rows: 4, maxLength: given.longest, spellcheck: false, value: text });
  boxLabel.append(box);
  box.addEventListener("input", () => { text = wellFormed(box.value); paint(); settle(); });
  const sliderLabel = make("label", "al-merges"), sliderSays = make("b");
  const slider = Object.assign(make("input"), { type: "range", min: 0, max: stops.length - 1, step: 1 });
  slider.setAttribute("aria-label", "merges used");
  slider.addEventListener("input", () => { used = stops[+slider.value]; paint(); settle(); });
  const sliderHead = make("span");
  sliderHead.append(make("span", "", "merges used, from bytes alone to all that were learned"), sliderSays);
  sliderLabel.append(sliderHead, slider);

  // ------------------------------------------------------------------ one panel for each tokenizer
  const panels = make("div", "al-panels");
  const parts = Object.entries(given.tokenizers).map(([name, merges]) => {
    const one = { name, tokenizer: build(merges, given.byte_order), at: null, ids: [] };
    const panel = make("section");
    panel.dataset.name = name;
    panel.setAttribute("aria-label", `Tokens of the tokenizer ${name}`);
    one.stats = make("p", "al-stats");
    one.last = make("p", "al-last");
    one.list = make("ol", "al-list");
    one.list.setAttribute("aria-label", "tokens; the arrow keys go from one to the next");
    one.detail = make("p", "al-detail");
    one.detail.setAttribute("aria-live", "polite");
    const look = (event) => {
      const k = [...one.list.children].indexOf(event.target.closest("li"));
      if (k >= 0) point(one, k);
    };
    one.list.addEventListener("mouseover", look);
    one.list.addEventListener("focusin", look);
    one.list.addEventListener("keydown", (event) => {
      const k = { ArrowRight: one.at + 1, ArrowDown: one.at + 1, ArrowLeft: one.at - 1, ArrowUp: one.at - 1, Home: 0, End: one.ids.length - 1 }[event.key];
      if (k === undefined) return;
      event.preventDefault();
      one.list.children[k]?.focus();
    });
    panel.append(make("h4", "", name), one.stats, one.last, one.list, one.detail);
    panels.append(panel);
    return one;
  });
  const says = make("p", "al-verdict");
  says.setAttribute("role", "status");
  el.append(examples, boxLabel, sliderLabel, panels, says);

  function point(one, k) {
    if (one.at !== null) one.list.children[one.at]?.classList.remove("al-at");
    one.at = k;
    [...one.list.children].forEach((item, i) => { item.tabIndex = i === k ? 0 : -1; });
    one.list.children[k].classList.add("al-at");
    const id = one.ids[k], bytes = one.tokenizer.bytes[id], pair = one.tokenizer.merges[id - 256];
    const made = pair ? `merge ${id - 255}: ${pair.map((part) => shown(one.tokenizer.bytes[part])).join(" + ")}` : "a single byte";
    one.detail.textContent = `token ${k + 1}: id ${id}, ${shown(bytes)} · ${plural(bytes.length, "byte")}${shown(bytes).startsWith("⟨") ? "" : ` (${hex(bytes)})`} · ${made}`;
  }

  function paint() {
    slider.value = stops.findLastIndex((stop) => stop <= used);
    sliderSays.textContent = `${used} of ${given.most}`;
    slider.setAttribute("aria-valuetext", sliderSays.textContent);
    const size = utf8.encode(text).length;
    let cut = 0;
    for (const one of parts) {
      const { tokenizer } = one, mine = Math.min(used, tokenizer.merges.length);
      one.ids = encode(text, tokenizer, mine);
      one.at = null;
      one.list.replaceChildren(...one.ids.map((id, k) => {
        const words = shown(tokenizer.bytes[id]), item = make("li", `al-token al-fill${k % FILLS}`, words);
        if (words.startsWith("⟨")) { item.classList.add("al-cut"); cut++; }
        item.dataset.id = id;
        item.tabIndex = k ? -1 : 0;
        item.setAttribute("aria-label", `${words}, id ${id}`);
        return item;
      }));
      one.stats.textContent = one.ids.length
        ? `${plural(one.ids.length, "token")} · ${plural(size, "byte")} · ${(size / one.ids.length).toFixed(2)} bytes a token`
        : "no tokens";
      const pair = tokenizer.merges[mine - 1];
      one.last.textContent = pair
        ? `last merge used: ${pair.map((part) => shown(tokenizer.bytes[part])).join(" + ")} → ${shown(tokenizer.bytes[255 + mine])}`
        : "no merge used: every byte is a token";
      one.detail.textContent = "Point at a token, or walk through them with the arrow keys.";
    }
    const counts = parts.map(({ ids }) => ids.length), most = counts.indexOf(Math.max(...counts)), fewest = counts.indexOf(Math.min(...counts));
    says.classList.toggle("al-no", cut > 0);
    says.textContent = (counts[most] === counts[fewest]
      ? (parts.length > 1 ? "Each needs as many tokens." : "")
      : `“${parts[most].name}” needs ${(counts[most] / counts[fewest]).toFixed(2)} times the tokens of “${parts[fewest].name}”.`)
      + (cut ? ` ${plural(cut, "token")} with dashed edges: bytes that are no whole characters.` : " Every token is made of whole characters.");
    if (!text) says.textContent = "Nothing typed yet.";
    el.dataset.drawn = `${used} ${counts.join(" ")}`;
  }

  function settle() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      model.set("text", text);
      model.set("used", used);
      model.save_changes();
    }, 200);
  }

  model.on("change:text", () => { if (model.get("text") !== text) { text = box.value = model.get("text"); paint(); } });
  model.on("change:used", () => { if (model.get("used") !== used) { used = model.get("used"); paint(); } });
  paint();
  return () => clearTimeout(timer);
}

export default { render };
