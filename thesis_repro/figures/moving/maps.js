// Slice, quantity and distribution: one influence for each choice, computed beforehand.
start(function (data) {
  const side = 28, scale = 8, picture = canvas(480, 240);
  const image = add(picture, make("image", { x: 0, y: 8, width: 224, height: 224,
    style: "image-rendering: pixelated", href: gray(unhex(data.image), side) }));
  const place = add(picture, make("g", {}));
  const slice = choice("slice", data.slices, draw);
  const quantity = choice("quantity", data.quantities, draw);
  const distribution = choice("distribution", data.distributions, draw);
  const told = words();
  image.setAttribute("aria-hidden", "true");

  function draw() {
    const values = data.maps[slice.value][quantity.value][distribution.value];
    const top = Math.max(...values.map(Math.abs), 1);
    place.textContent = "";
    if (slice.value === 0) {
      values.forEach((value, at) => {
        const strength = Math.abs(value) / top;
        if (strength > 0.03) add(place, make("rect", {
          x: 248 + (at % side) * scale, y: 8 + Math.floor(at / side) * scale, width: scale, height: scale,
          fill: value > 0 ? ORANGE : "#5E3C99", "fill-opacity": strength.toFixed(2) }));
      });
      add(place, make("rect", { x: 248, y: 8, width: 224, height: 224, fill: "none",
        stroke: "currentColor", "stroke-width": 0.5 }));
    } else {
      const ranked = [...values].sort((a, b) => b - a), step = 224 / ranked.length;
      ranked.forEach((value, at) => add(place, make("rect", {
        x: (248 + at * step).toFixed(2), width: Math.max(step, 0.5).toFixed(2),
        y: (120 - Math.max(value, 0) / top * 110).toFixed(1),
        height: Math.max(Math.abs(value) / top * 110, 0.3).toFixed(1),
        fill: value > 0 ? ORANGE : "#5E3C99" })));
      add(place, make("line", { x1: 248, x2: 472, y1: 120, y2: 120, stroke: "currentColor" }));
    }
    const positive = values.filter((value) => value > 0).reduce((a, b) => a + b, 0);
    const all = values.reduce((a, b) => a + Math.abs(b), 0) || 1;
    const strong = [...values].map(Math.abs).sort((a, b) => b - a);
    const few = strong.slice(0, Math.ceil(strong.length / 10)).reduce((a, b) => a + b, 0);
    const text = `${data.quantities[quantity.value]} Slice: ${data.slices[slice.value]}; ` +
      `distribution: ${data.distributions[distribution.value]}. ` +
      `${(100 * positive / all).toFixed(0)}% of the influence speaks for it (orange), the rest against ` +
      `(purple); the strongest tenth of the units has ${(100 * few / all).toFixed(0)}% of it.`;
    told.textContent = text;
    picture.setAttribute("aria-label", text);
  }
  draw();
});
