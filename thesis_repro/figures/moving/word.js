// A hidden word: how well nets that saw it show it when they are read backwards.
start(function (data) {
  const side = data.side, wide = 152, gap = 12, names = ["a training image",
    `read backwards: “${data.class}”`, "what the word changed"];
  const picture = canvas(3 * wide + 2 * gap, wide + 26);
  const images = names.map((name, at) => {
    const x = at * (wide + gap);
    add(picture, make("text", { x: x + wide / 2, y: 15, "text-anchor": "middle", "font-size": 13,
      fill: "currentColor" }, name));
    return add(picture, make("image", { x, y: 24, width: wide, height: wide,
      style: "image-rendering: pixelated" }));
  });
  const opacity = slider("opacity of the word", 0, data.opacities.length - 1, 1, 4, draw);
  const training = choice("training", data.trainings.map((one) => one.name), draw);
  const told = words();

  function draw() {
    const at = opacity.value, set = data.trainings[training.value], net = set.nets[at];
    [data.marked[at], net.image, net.change].forEach((pixels, i) =>
      images[i].setAttribute("href", gray(unhex(pixels), side)));
    const percent = `${+(100 * data.opacities[at]).toFixed(1)}%`, seen = net.z > data.threshold;
    const text = `${set.name} training, opacity ${percent}: the reconstructions correlate with the word to ` +
      `${net.true.toFixed(2)} in its place and to ${net.others.toFixed(2)} elsewhere, z = ${net.z.toFixed(1)}. ` +
      `The adversary who has this net alone says “${seen ? "it was there" : "it was not there"}”. ` +
      `Accuracy ${net.accuracy.toFixed(1)}%.`;
    told.textContent = text;
    picture.setAttribute("aria-label", text);
    opacity.says(`${percent}, z ${net.z.toFixed(1)}`);
  }
  draw();
});
