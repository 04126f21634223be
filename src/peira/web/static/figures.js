// Figures to zoom into and point at: plotly draws the printed figure's own data, when it is asked to.
const WIDE = 640;
let plotly = null;

function library() {
  plotly ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "/plotly.js";
    script.onload = () => done(window.Plotly);
    script.onerror = failed;
    document.head.append(script);
  });
  return plotly;
}

// The printed inks, by the names that the page's theme gives them.
const INKS = { "#222222": "--ink", "#6b6b6b": "--soft", "#9a9a9a": "--soft", "#e4e4e4": "--line", "#444444": "--c6" };
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Inks too dark for a dark page, half way to white; colours of heat maps are written as rgb() and stay.
function lifted(whole, hex) {
  const parts = hex.match(/../g).map((part) => parseInt(part, 16));
  if (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] > 110) return whole;
  return `"rgb(${parts.map((part) => Math.round(part + (255 - part) * 0.42)).join(",")})"`;
}

function themed(text) {
  for (const [printed, name] of Object.entries(INKS)) text = text.replaceAll(printed, ink(name));
  if (getComputedStyle(document.documentElement).colorScheme === "dark") text = text.replace(/"#([0-9a-f]{6})"/g, lifted);
  return JSON.parse(text);
}

function layout(drawn, width) {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("--ink") };
  const found = { ...drawn.layout, font, autosize: true, dragmode: "zoom", hovermode: "closest",
    height: Math.max(340, Math.min(900, drawn.height * Math.min(1.3, width / drawn.width))) + (drawn.layout.showlegend ? 40 : 0),
    margin: { l: 8, r: 12, t: drawn.layout.showlegend ? 76 : 44, b: 8, autoexpand: true }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", xanchor: "left" },
    hoverlabel: { font: { family: font.family, size: 12 }, align: "left" } };
  for (const name of Object.keys(found).filter((key) => /^[xy]axis/.test(key))) {
    found[name] = { ...found[name], gridcolor: ink("--line"), linecolor: ink("--soft"), tickcolor: ink("--soft") };
  }
  return found;
}

async function draw(button, place) {
  const found = place.told ?? await fetch(button.dataset.from);
  if (found.ok === false) throw new Error(`figure: ${found.status}`);
  place.told = place.told ?? await found.text();
  const [Plotly, drawn] = [await library(), themed(place.told)];
  place.parentElement.hidden = false;
  place.nextElementSibling.textContent = drawn.caption;
  await Plotly.react(place, drawn.data, layout(drawn, place.clientWidth),
    { displayModeBar: false, responsive: true, doubleClick: "reset+autosize" });
}

async function turn(button) {
  const figure = button.closest("figure");
  const [place, picture, open] = [figure.querySelector(".plot"), figure.querySelector("img"), button.getAttribute("aria-pressed") !== "true"];
  button.disabled = true;
  try {
    if (open) await draw(button, place);
    place.parentElement.hidden = !open;
    picture.hidden = open;
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? "As printed" : "Explore";
  } finally {
    button.disabled = false;
  }
}

const buttons = [...document.querySelectorAll("button.turn")];
const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    turn(target.querySelector("button.turn"));
  }
}, { rootMargin: "200px" });
for (const button of buttons) {
  button.hidden = false;
  button.addEventListener("click", () => turn(button));
  if (innerWidth >= WIDE) near.observe(button.closest("figure"));
}

// Light or dark: what is drawn is drawn again in the other's inks.
new MutationObserver(() => {
  for (const button of buttons) if (button.getAttribute("aria-pressed") === "true") draw(button, button.closest("figure").querySelector(".plot"));
}).observe(document.documentElement, { attributeFilter: ["data-theme"] });
