// Weak features that all lean to class 1: how far a rule leans that weighs them too much.
start(function (data) {
  const wide = 360, high = 200, left = 44, most = 0.5, last = data.counts.length - 1;
  const picture = canvas(left + wide + 24, high + 48);
  const x = (at) => left + wide * at / last, y = (share) => 8 + high * (1 - share / most);
  const ink = (attributes, text) => add(picture, make("text",
    { "font-size": 12, fill: "currentColor", ...attributes }, text));
  add(picture, make("path", { d: `M${left} 8V${y(0)}H${x(last)}`, fill: "none", stroke: "currentColor" }));
  for (let at = 0; at <= last; at += 4)
    ink({ x: x(at), y: high + 24, "text-anchor": "middle" }, data.counts[at].toLocaleString("en"));
  for (let share = 0; share <= most; share += 0.1)
    ink({ x: left - 6, y: y(share) + 4, "text-anchor": "end" }, Math.round(100 * share));
  ink({ x: x(last / 2), y: high + 42, "text-anchor": "middle" }, "weak features");
  ink({ x: 13, y: y(most / 2), "text-anchor": "middle",
    transform: `rotate(-90 13 ${y(most / 2)})` }, "bias (points)");
  const curve = add(picture, make("path", { fill: "none", stroke: BLUE, "stroke-width": 2 }));
  const mark = add(picture, make("circle", { r: 6, fill: ORANGE, stroke: "currentColor" }));
  const count = slider("weak features", 0, last, 1, 4, draw);
  const weight = choice("weight of each", data.weights.map((w) =>
    w === 1 ? "as in the best rule" : `${w} times the best rule's`), draw, 3);
  const learned = choice("intercept learned", data.learned.map((l) => `${Math.round(100 * l)}%`), draw, 3);
  const side = choice("they point to", ["class 1, all of them", "both classes, half and half"], draw, 0);
  const told = words();

  function draw() {
    const [bias, right] = data.rules[side.value][weight.value][learned.value], at = count.value;
    curve.setAttribute("d", bias.map((b, i) =>
      `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(b / 1000).toFixed(1)}`).join(""));
    mark.setAttribute("cx", x(at));
    mark.setAttribute("cy", y(bias[at] / 1000));
    const best = data.rules[side.value][0][0][1][at];
    const text = `${data.counts[at].toLocaleString("en")} weak features: bias ${(bias[at] / 10).toFixed(1)} points, ` +
      `accuracy ${(right[at] / 10).toFixed(1)}%; the best rule has no bias and ${(best / 10).toFixed(1)}%.`;
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    count.says(`${data.counts[at]} weak features, bias ${(bias[at] / 10).toFixed(1)} points`);
  }
  draw();
});
