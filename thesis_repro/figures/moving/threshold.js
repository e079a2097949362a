// An attack's threshold on its ROC: who is called a member, and how many of the calls are right.
start(function (data) {
  const size = 300, edge = 34, picture = canvas(size + edge + 8, size + edge + 8);
  const x = (share) => edge + size * share, y = (share) => 4 + size * (1 - share);
  add(picture, make("path", { d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}`, fill: "none", stroke: "currentColor" }));
  add(picture, make("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "#8a8a8a",
    "stroke-dasharray": "3 3" }));
  add(picture, make("text", { x: x(0.5), y: size + edge, "text-anchor": "middle", "font-size": 13,
    fill: "currentColor" }, "false alarms: share of non-members"));
  add(picture, make("text", { x: 14, y: y(0.5), "text-anchor": "middle", "font-size": 13,
    fill: "currentColor", transform: `rotate(-90 14 ${y(0.5)})` }, "found: share of members"));
  const curve = add(picture, make("path", { fill: "none", stroke: BLUE, "stroke-width": 2 }));
  const mark = add(picture, make("circle", { r: 6, fill: ORANGE, stroke: "currentColor" }));
  const training = choice("trained with", data.trainings.map((t) => t.name), draw);
  const attack = choice("attack", data.attacks, draw);
  const claimed = slider("called members", 1, data.steps - 1, 1, Math.round(data.steps / 4), draw);
  const told = words();

  function draw() {
    const set = data.trainings[training.value], [right, wrong] = set.counts[attack.value];
    const step = claimed.value;
    curve.setAttribute("d", right.map((r, at) =>
      `${at ? "L" : "M"}${x(wrong[at] / set.n).toFixed(1)} ${y(r / set.n).toFixed(1)}`).join(""));
    mark.setAttribute("cx", x(wrong[step] / set.n));
    mark.setAttribute("cy", y(right[step] / set.n));
    const all = right[step] + wrong[step], percent = (share) => `${(100 * share).toFixed(1)}%`;
    const text = `${all.toLocaleString("en")} of ${(2 * set.n).toLocaleString("en")} points are called members: ` +
      `precision ${percent(right[step] / (all || 1))}, recall ${percent(right[step] / set.n)}, ` +
      `false alarms ${percent(wrong[step] / set.n)}, accuracy ` +
      `${percent((right[step] + set.n - wrong[step]) / (2 * set.n))}.`;
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    claimed.says(`${all} points, precision ${percent(right[step] / (all || 1))}`);
  }
  draw();
});
