// Networks that answer in the page. A browser test compares prompts and answers with Python's.
const SLICE = 12; // milliseconds of computing between two pictures
const SURE = [0.9, 0.5]; // from here on a token is sure; from here on likely; below it is a guess

// text -> ids; where markers are obeyed, what looks like one becomes one, the longest first
export function spell(text, bpe, special, obey) {
  const plain = (part) => encode(part, bpe, bpe.merges.length);
  if (!obey) return plain(text);
  const names = Object.keys(special).sort((a, b) => b.length - a.length);
  const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`(${escaped.join("|")})`)).flatMap((part, i) => (i % 2 ? [special[part]] : plain(part)));
}

// prompt_of() of widgets/chat.py
export function promptOf(turns, { bpe, special, markers, end }, template, obey) {
  const ids = (text) => spell(text, bpe, special, obey);
  if (!template) return ids(turns.at(-1).text);
  return [...turns.flatMap(({ role, text }) => [special[markers[role]], ...ids(text), special[end]]), special[markers.assistant]];
}

// say() of widgets/chat.py, one token of reading or writing at every step
export function* say(net, ids, end, longest) {
  let logits = null;
  net.cut(0);
  for (const id of ids.slice(-net.block)) yield void (logits = net.read(id));
  for (let n = 0; n < longest && net.length < net.block; n++) {
    const p = softmax(logits), order = Uint32Array.from(p, (_, i) => i).sort((i, j) => p[j] - p[i] || i - j);
    yield { id: order[0], p: p[order[0]], likeliest: Array.from(order.slice(0, 3), (i) => [i, p[i]]) };
    if (order[0] === end) return;
    logits = net.read(order[0]);
  }
}

function render({ model, el }) {
  const given = model.get("given"), special = given.special, names = Object.keys(given.weights);
  const floats = (raw) => new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const nets = Object.fromEntries(names.map((name) => [name, new GPT(given.sizes, floats(given.weights[name]))]));
  const bpe = build(given.merges, given.order), how = { bpe, special, markers: given.markers, end: given.end };
  const nameOf = new Map(Object.entries(special).map(([name, id]) => [id, name]));
  const utf8Decoder = new TextDecoder();
  const bytesOf = (ids) => Uint8Array.from(ids.flatMap((id) => bpe.bytes[id] ?? [...utf8.encode(nameOf.get(id))]));
  const textOf = (ids) => utf8Decoder.decode(bytesOf(ids));
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  let running = null, turns = [], last = null, lastPrompt = null;
  el.classList.add("al-chat");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the keys

  // ------------------------------------------------------------------ who answers, and what is broken
  const top = make("div", "al-row"), whoBox = make("fieldset"), group = `al-who-${Math.random()}`;
  whoBox.append(make("legend", "", "who answers"));
  const radios = names.map((name) => {
    const label = make("label"), input = Object.assign(make("input"), { type: "radio", name: group, value: name });
    label.append(input, document.createTextNode(` ${name}`));
    whoBox.append(label);
    input.addEventListener("change", () => { model.set("who", name); model.save_changes(); restart(); });
    return input;
  });
  const toggle = (trait, text) => {
    const label = make("label"), input = Object.assign(make("input"), { type: "checkbox" });
    input.dataset.control = trait;
    label.append(input, document.createTextNode(` ${text}`));
    input.addEventListener("change", () => { model.set(trait, input.checked); model.save_changes(); restart(); });
    return [label, input];
  };
  const [templateLabel, template] = toggle("template", "put the template around it");
  const [obeyLabel, obey] = toggle("obey", "obey markers in what is typed");
  top.append(whoBox, templateLabel, obeyLabel);
  const noteLabel = make("label", "al-line", "note of the system "), note = Object.assign(make("input"), { type: "text", spellcheck: false });
  note.dataset.control = "note";
  noteLabel.append(note);
  note.addEventListener("change", () => { model.set("note", note.value); model.save_changes(); restart(); });

  // ------------------------------------------------------------------ the conversation
  const log = make("div", "al-log"), form = make("form", "al-row"), box = Object.assign(make("input", "al-box"), { type: "text", spellcheck: false });
  log.setAttribute("role", "log");
  log.setAttribute("aria-label", "Conversation");
  log.tabIndex = 0;
  box.setAttribute("aria-label", "Your question");
  box.placeholder = "Ask about somebody";
  const send = Object.assign(make("button", "", "Send"), { type: "submit" }), fresh = Object.assign(make("button", "", "New conversation"), { type: "button" });
  form.append(box, send, fresh);
  form.addEventListener("submit", (event) => { event.preventDefault(); if (box.value.trim()) ask(box.value); });
  fresh.addEventListener("click", restart);
  const examples = make("div", "al-row");
  examples.setAttribute("role", "group");
  examples.setAttribute("aria-label", "Examples");
  for (const [name, text] of Object.entries(given.examples)) {
    const button = Object.assign(make("button", "", name), { type: "button" });
    button.addEventListener("click", () => { box.value = text; box.focus(); });
    examples.append(button);
  }

  // ------------------------------------------------------------------ below: how sure, and what the network reads
  const sure = make("div", "al-sure"), read = make("div", "al-read");
  const sureTitle = make("h4", "", "How sure, token by token"), readTitle = make("h4", "", "What the network reads and writes");
  sure.tabIndex = read.tabIndex = 0;
  sure.setAttribute("role", "group");
  sure.setAttribute("aria-label", "Probability of each token of the last answer");
  read.setAttribute("role", "group");
  read.setAttribute("aria-label", "Tokens of the conversation");
  const status = make("p", "al-status");
  status.setAttribute("role", "status");
  el.append(top, noteLabel, log, form, examples, status, sureTitle, sure, readTitle, read);

  const percent = (p) => (p > 0.995 ? "> 99 %" : p < 0.005 ? "< 1 %" : `${Math.round(100 * p)} %`);
  const piece = (id) => {
    const marker = nameOf.get(id), one = make("span", marker ? "al-marker" : "al-token", marker ?? textOf([id]).replaceAll("\n", "⏎"));
    one.title = `token ${id}`;
    return one;
  };

  function paint() {
    log.replaceChildren(...turns.map(({ role, text }) => {
      const line = make("div", `al-turn al-${role}`);
      line.append(make("b", "", role), make("span", "", text));
      return line;
    }));
    log.scrollTop = log.scrollHeight;
    sure.replaceChildren(...(last ?? []).map(({ id, p, likeliest }) => {
      const column = make("div", p >= SURE[0] ? "al-col" : p >= SURE[1] ? "al-col al-likely" : "al-col al-guess"), bar = make("i");
      bar.style.height = `${Math.max(2, 44 * p)}px`;
      const [, second] = likeliest, track = make("div", "al-track");
      track.append(bar);
      column.append(track, make("span", "al-p", percent(p)), piece(id), make("small", "", p < 0.995 ? `${textOf([second[0]]).trim()} ${percent(second[1])}` : ""));
      return column;
    }));
    read.replaceChildren(...(lastPrompt ?? []).map(piece), ...(last ?? []).map(({ id }) => { const one = piece(id); one.classList.add("al-own"); return one; }));
  }

  function restart() {
    cancelAnimationFrame(running);
    running = null;
    turns = note.value.trim() ? [{ role: "system", text: note.value }] : [];
    last = lastPrompt = null;
    status.textContent = "";
    keep();
    paint();
  }

  function keep() {
    model.set("turns", turns.map((turn) => ({ ...turn })));
    model.save_changes();
  }

  function ask(text) {
    if (running !== null) return;
    turns = [...turns, { role: "user", text }];
    const prompt = promptOf(turns, how, template.checked, obey.checked), { block } = nets[model.get("who")];
    box.value = "";
    last = [];
    lastPrompt = prompt;
    if (prompt.length > block - 12) {
      status.textContent = `${prompt.length} tokens: the network sees ${block} in all. Begin a new conversation.`;
      turns = turns.slice(0, -1);
      last = lastPrompt = null;
      return paint();
    }
    const steps = say(nets[model.get("who")], prompt, special[given.end], given.longest);
    const work = () => {
      for (const until = performance.now() + SLICE; performance.now() < until;) {
        const { value, done } = steps.next();
        if (done) return finish();
        if (value) last.push(value);
      }
      paint();
      running = requestAnimationFrame(work);
    };
    const finish = () => {
      running = null;
      const ended = last.at(-1)?.id === special[given.end], words = textOf(last.slice(0, ended ? -1 : undefined).map(({ id }) => id));
      turns = [...turns, { role: "assistant", text: words }];
      const least = last.reduce((a, b) => (b.p < a.p ? b : a), last[0]);
      status.textContent = `${last.length} tokens; the least sure is ${JSON.stringify(textOf([least.id]).trim())}, ${percent(least.p)}.${ended ? "" : " It did not say that it was done."}`;
      keep();
      paint();
    };
    status.textContent = "reading …";
    paint();
    running = requestAnimationFrame(work);
  }

  function fromKernel() {
    radios.forEach((radio) => { radio.checked = radio.value === model.get("who"); });
    template.checked = model.get("template");
    obey.checked = model.get("obey");
    note.value = model.get("note");
  }
  const heard = () => {
    const same = radios.every((radio) => radio.checked === (radio.value === model.get("who"))) && template.checked === model.get("template")
      && obey.checked === model.get("obey") && note.value === model.get("note");
    if (same) return;
    fromKernel();
    restart();
  };
  const traits = ["who", "template", "obey", "note"];
  for (const trait of traits) model.on(`change:${trait}`, heard);
  fromKernel();
  restart();
  return () => {
    cancelAnimationFrame(running);
    for (const trait of traits) model.off(`change:${trait}`, heard);
  };
}
export default { render };
