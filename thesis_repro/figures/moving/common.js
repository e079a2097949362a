// What every moving figure needs: elements, a slider, choices, words that are read aloud.
const home = document.getElementById(NAME);
const body = home.querySelector(".moving-body");
const BLUE = "#0072B2", ORANGE = "#E69F00", GREEN = "#009E73", PINK = "#CC79A7", GREY = "#BBBBBB";

function make(tag, attributes, text) {
  const svg = /^(svg|path|rect|circle|line|text|g|image)$/.test(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
                   : document.createElement(tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  return node;
}

function add(parent, ...children) { parent.append(...children); return children[0]; }

function readData() {
  try { return JSON.parse(home.querySelector(".moving-data").textContent); }
  catch (error) { return null; }
}

function canvas(width, height) {
  return add(body, make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }));
}

let count = 0;

function slider(label, low, high, step, value, change) {
  const id = `${NAME}-${++count}`, row = add(body, make("p", { class: "moving-row" }));
  const input = make("input", { type: "range", id, min: low, max: high, step, value });
  add(row, make("label", { for: id }, label), input);
  input.addEventListener("input", change);
  return { get value() { return Number(input.value); },
           says(words) { input.setAttribute("aria-valuetext", words); },
           span(largest, at) { input.max = largest; input.value = at; } };
}

function choice(label, options, change, first = 0) {
  const id = `${NAME}-${++count}`, row = add(body, make("p", { class: "moving-row" }));
  const select = make("select", { id });
  options.forEach((option, at) => add(select, make("option", { value: at }, option)));
  add(row, make("label", { for: id }, label), select);
  select.value = first;
  select.addEventListener("change", change);
  return { get value() { return Number(select.value); } };
}

function words() {
  return add(body, make("p", { class: "moving-words", "aria-live": "polite" }));
}

function gray(picture, side) {
  // pixels in two hex digits each, as one image: SVG would need a rectangle for each
  const sheet = make("canvas", { width: side, height: side }), brush = sheet.getContext("2d");
  const pixels = brush.createImageData(side, side);
  picture.forEach((value, at) => pixels.data.set([value, value, value, 255], 4 * at));
  brush.putImageData(pixels, 0, 0);
  return sheet.toDataURL();
}

function unhex(text) {
  return Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.substr(2 * at, 2), 16));
}

function start(draw) {
  const data = readData();
  body.textContent = "";
  if (!data) {
    body.textContent = "The data of this figure is missing: it was not computed in this run.";
    return;
  }
  draw(data);
}
