// The plane: where a net can prove a label, or one of two, at the radius that is asked for.
start(function (data) {
  const side = data.side, size = 320, cell = size / side, colours = [BLUE, ORANGE, GREEN];
  const picture = canvas(size, size);
  const areas = [...colours, "#8a8a8a"].map(
    (fill) => add(picture, make("path", { fill, "fill-opacity": 0.45 })));
  const pairs = add(picture, make("path", { fill: PINK, "fill-opacity": 0.35 }));
  data.points.forEach(([x, y, label]) => add(picture, make("circle", {
    cx: x * size, cy: (1 - y) * size, r: 2.2, fill: colours[label] })));
  const radius = slider("radius ε", 0, data.largest, 0.005, data.start, draw);
  const guarantee = choice("prove", ["the label", "the label, or one of two"], draw);
  const told = words();

  function draw() {
    const epsilon = radius.value, relaxed = guarantee.value === 1;
    const paths = ["", "", "", "", ""];
    let rejected = 0;
    for (let row = 0; row < side; row++) {
      let begin = 0, current = null;
      for (let column = 0; column <= side; column++) {
        let kind = null;
        if (column < side) {
          const at = row * side + column;
          const one = data.one[at] / 1000 > epsilon, two = data.two[at] / 1000 > epsilon;
          kind = one ? Number(data.labels[at]) : relaxed && two ? 4 : 3;
          rejected += kind === 3;
        }
        if (kind !== current) {
          if (current !== null) {
            const y = (side - 1 - row) * cell, x = begin * cell, wide = (column - begin) * cell;
            paths[current] += `M${x.toFixed(1)} ${y.toFixed(1)}h${wide.toFixed(1)}v${cell.toFixed(1)}h-${wide.toFixed(1)}z`;
          }
          begin = column; current = kind;
        }
      }
    }
    areas.forEach((area, at) => area.setAttribute("d", paths[at]));
    pairs.setAttribute("d", paths[4]);
    const share = (100 * rejected / (side * side)).toFixed(1);
    const text = `Radius ${epsilon.toFixed(3)}: ${share}% of the plane is rejected (grey)` +
      (relaxed ? "; in pink, two labels are guaranteed together." : ".");
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    radius.says(`${epsilon.toFixed(3)}, ${share}% rejected`);
  }
  draw();
});
