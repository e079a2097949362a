// One digit: its logits, the bottom logit at the radius, and the way to the closest attack found.
start(function (data) {
  const side = 28, wide = 480, high = 260, left = 190;
  const picture = canvas(wide, high);
  const image = add(picture, make("image", { x: 0, y: 20, width: 168, height: 168,
    style: "image-rendering: pixelated" }));
  const caption = add(picture, make("text", { x: 84, y: 210, "text-anchor": "middle", "font-size": 14,
    fill: "currentColor" }));
  const bars = data.classes.map((name, at) => {
    const x = left + at * 26;
    add(picture, make("text", { x: x + 10, y: 250, "text-anchor": "middle", "font-size": 14,
      fill: "currentColor" }, name));
    return add(picture, make("rect", { x, width: 20 }));
  });
  const bottom = add(picture, make("line", { x1: left - 6, x2: wide, stroke: "currentColor",
    "stroke-width": 2, "stroke-dasharray": "6 4" }));
  const label = add(picture, make("text", { x: wide, "text-anchor": "end", "font-size": 13,
    fill: "currentColor" }, "bottom logit"));
  const which = choice("digit", data.digits.map((d, at) => `${at + 1}: a “${d.label}”`), again);
  const radius = slider("radius ε", 0, 1, 0.01, 0, draw);
  const told = words();

  function again() {
    radius.span((1.25 * data.digits[which.value].distance).toFixed(2), 0);
    draw();
  }

  function draw() {
    const digit = data.digits[which.value], epsilon = radius.value;
    const raised = digit.logits.map((y, i) => y + epsilon * digit.slopes[i]);
    const lowest = Math.max(...raised.filter((_, i) => i !== digit.answer));
    const ends = [...digit.logits, lowest], low = Math.min(...ends), top = Math.max(...ends);
    const y = (value) => 230 - 205 * (value - low) / (top - low || 1);
    bars.forEach((bar, at) => {
      bar.setAttribute("y", y(digit.logits[at]));
      bar.setAttribute("height", Math.max(232 - y(digit.logits[at]), 1));
      bar.setAttribute("fill", at === digit.answer ? BLUE : GREY);
    });
    bottom.setAttribute("y1", y(lowest));
    bottom.setAttribute("y2", y(lowest));
    label.setAttribute("y", Math.max(y(lowest) - 5, 12));
    const share = Math.min(epsilon / digit.distance, 1);
    const from = unhex(digit.image), to = unhex(digit.attack);
    image.setAttribute("href", gray(from.map((p, at) => Math.round(p + share * (to[at] - p))), side));
    const reached = epsilon >= digit.distance;
    caption.textContent = reached ? `read as “${data.classes[digit.after]}”` : "towards the attack";
    const state = epsilon < digit.radius
      ? "proved: nothing this near gets another label."
      : reached ? `the attack has arrived: this picture is read as “${data.classes[digit.after]}”.`
        : "rejected: not proved, and the attack has not arrived. Neither side knows.";
    const text = `Radius ${epsilon.toFixed(2)}, “${data.classes[digit.answer]}” has the logit ` +
      `${digit.logits[digit.answer].toFixed(1)}, the bottom logit is ${lowest.toFixed(1)}: ${state} ` +
      `Proved up to ${digit.radius.toFixed(2)}; closest attack found at ${digit.distance.toFixed(2)}.`;
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    radius.says(`${epsilon.toFixed(2)}, ${epsilon < digit.radius ? "proved" : reached ? "attacked" : "rejected"}`);
  }
  again();
});
