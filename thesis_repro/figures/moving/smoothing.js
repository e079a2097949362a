// Randomized smoothing: the radius over the number of noisy copies, their noise, and their votes.
start(function (data) {
  const wide = 360, high = 220, left = 44, below = 40, tallest = 4.5;
  const picture = canvas(left + wide + 34, high + below + 8);
  const last = data.copies.length - 1;
  const x = (at) => left + wide * at / last, y = (radius) => 8 + high * (1 - radius / tallest);
  const ink = (attributes, text) => add(picture, make("text",
    { "font-size": 12, fill: "currentColor", ...attributes }, text));
  add(picture, make("path", { d: `M${left} 8V${y(0)}H${x(last)}`, fill: "none", stroke: "currentColor" }));
  for (let at = 0; at <= last; at += 4)
    ink({ x: x(at), y: high + 24, "text-anchor": "middle" }, data.copies[at].toLocaleString("en"));
  for (let radius = 0; radius <= 4; radius++)
    ink({ x: left - 6, y: y(radius) + 4, "text-anchor": "end" }, radius);
  ink({ x: x(last / 2), y: high + 42, "text-anchor": "middle" }, "noisy copies");
  ink({ x: 13, y: y(tallest / 2), "text-anchor": "middle",
    transform: `rotate(-90 13 ${y(tallest / 2)})` }, "certified radius");
  const limit = add(picture, make("path", { fill: "none", stroke: "#8a8a8a", "stroke-dasharray": "4 3" }));
  const curve = add(picture, make("path", { fill: "none", stroke: PINK, "stroke-width": 2 }));
  const mark = add(picture, make("circle", { r: 6, fill: ORANGE, stroke: "currentColor" }));
  const sigma = slider("noise σ", 0.1, 1, 0.05, 0.5, draw);
  const copies = slider("noisy copies", 0, last, 1, 8, draw);
  const share = choice("copies that agree", data.shares.map((s) => `${+(100 * s).toFixed(1)}%`), draw);
  const told = words();

  function draw() {
    const noise = sigma.value, at = copies.value, radii = data.radii[share.value];
    const most = data.limits[share.value], own = noise * radii[at] / 1000;
    const low = (Math.floor(100 * own) / 100).toFixed(2);  // what is certified is rounded down
    curve.setAttribute("d", radii.map((r, i) =>
      `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(noise * r / 1000).toFixed(1)}`).join(""));
    limit.setAttribute("d", most === null ? "" : `M${left} ${y(noise * most / 1000)}H${x(last)}`);
    mark.setAttribute("cx", x(at));
    mark.setAttribute("cy", y(own));
    const n = data.copies[at].toLocaleString("en"), hits = data.hits[share.value][at].toLocaleString("en");
    const text = `${hits} of ${n} copies with σ = ${noise.toFixed(2)} agree: ` +
      (radii[at] ? `certified to ${low}` : "too few to certify anything") +
      `, wrong with probability at most ${data.alpha}. ` +
      (most === null ? "If all agree, more copies go on raising it, ever more slowly."
                     : `However many are asked, it stays below ${(Math.ceil(noise * most / 10) / 100).toFixed(2)} (dashed).`);
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    sigma.says(`σ ${noise.toFixed(2)}, radius ${low}`);
    copies.says(`${n} copies, radius ${low}`);
  }
  draw();
});
