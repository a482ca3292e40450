// All frames arrive once; moving the slider only paints. Nothing travels to the kernel but the frame's number, at rest.
function render({ model, el }) {
  const [K, H, W] = model.get("shape");
  const data = model.get("frames");
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const captions = model.get("captions");
  const scale = 410 / W < 2 ? 410 / W : Math.min(8, Math.floor(410 / W)); // large sheets fit, small ones stay crisp

  el.classList.add("al-player");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // or JupyterLab takes the arrow keys

  const row = document.createElement("div");
  row.className = "al-panels";
  const painters = model.get("titles").map((title, panel) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    const canvas = document.createElement("canvas");
    canvas.width = W;
    canvas.height = H;
    canvas.style.width = `${W * scale}px`;
    canvas.setAttribute("role", "img");
    figure.append(caption, canvas);
    row.append(figure);
    const context = canvas.getContext("2d");
    const image = context.createImageData(W, H);
    const pixels = new Uint32Array(image.data.buffer);
    return (k) => {
      const start = (panel * K + k) * H * W;
      for (let i = 0; i < H * W; i++) pixels[i] = 0xff000000 | (bytes[start + i] * 0x010101);
      context.putImageData(image, 0, 0);
      canvas.setAttribute("aria-label", `${title}, ${captions[k]}`);
      canvas.dataset.frame = k;
    };
  });

  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: K - 1, step: 1 });
  slider.setAttribute("aria-label", model.get("label"));
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "▶ play" });
  const says = document.createElement("output");
  const controls = document.createElement("div");
  controls.className = "al-controls";
  controls.append(button, slider, says);
  el.append(row, controls);

  const paint = (k) => {
    for (const painter of painters) painter(k);
    says.textContent = captions[k];
    slider.setAttribute("aria-valuetext", captions[k]);
  };
  let rest = null;
  const settle = () => { // tell the kernel once the hand is still: a message for each frame would slow the painting
    clearTimeout(rest);
    rest = setTimeout(() => {
      model.set("frame", +slider.value);
      model.save_changes();
    }, 300);
  };
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶ play";
  };
  slider.addEventListener("input", () => { stop(); paint(+slider.value); });
  slider.addEventListener("change", settle);
  button.addEventListener("click", () => {
    if (timer) { stop(); settle(); return; }
    if (+slider.value === K - 1) slider.value = 0;
    button.textContent = "❚❚ pause";
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      paint(+slider.value);
      if (+slider.value >= K - 1) { stop(); settle(); }
    }, Math.max(40, Math.min(150, 4000 / K)));
  });
  const fromKernel = () => {
    if (+slider.value === model.get("frame")) return;
    slider.value = model.get("frame");
    paint(+slider.value);
  };
  model.on("change:frame", fromKernel);
  slider.value = model.get("frame");
  paint(+slider.value);
  return () => { stop(); clearTimeout(rest); model.off("change:frame", fromKernel); };
}
export default { render };
