// Appended to report.html by test_report.py: works its switches, notes what the browser shows.
const style = (tile) => {
  const css = getComputedStyle(tile);
  return [css.backgroundImage.slice(-80), css.backgroundPosition, css.backgroundSize];
};
const channels = (colour) => {
  const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
};
const behind = (element) => {  // the colour behind a text: backgrounds over one another
  if (!element) return [255, 255, 255];
  const [r, g, b, a] = channels(getComputedStyle(element).backgroundColor);
  if (a === 1) return [r, g, b];
  const under = behind(element.parentElement);
  return [r, g, b].map((v, i) => a * v + (1 - a) * under[i]);
};
const light = (rgb) => {  // WCAG 2's relative luminance
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (element) => {
  const ink = channels(getComputedStyle(element).color).slice(0, 3);
  const [low, high] = [light(ink), light(behind(element))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const texts = [...document.querySelectorAll("body :not(script, svg, svg *)")].filter(
  (e) => e.offsetParent && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
const contrasts = texts.map((e) => [contrast(e), e.outerHTML.slice(0, 80)]);
const least = contrasts.sort((a, b) => a[0] - b[0])[0];

const seen = [];
let turn = 0;
for (const cell of Object.keys(data.methods)) {
  for (const sensor of [null, 0, 1, 2, 1, 2]) {
    $("method").value = cell;
    $("scene").value = turn++ % data.scenes.length;
    if (sensor === null) show(); else sensors[sensor].click();
    const on = sensors.filter((s) => s.checked).map((s) => s.value).join("+");
    const tiles = [...document.querySelectorAll("#first .tile")].map(style);
    seen.push([cell, on, Number($("scene").value), tiles, $("first").textContent]);
  }
  sensors[0].click();
}
const choose_other = (cell) => {
  $("other").value = cell;
  $("other").dispatchEvent(new Event("input", { bubbles: true }));
};
const beside = Object.keys(data.methods).map((cell) => {
  choose_other(cell);
  const on = sensors.filter((s) => s.checked).map((s) => s.value).join("+");
  const tiles = [...document.querySelectorAll("#second .tile")].map(style);
  return [cell, on, Number($("scene").value), tiles, $("second").textContent];
});
const both = $("second").offsetParent !== null;
choose_other("");
const alone = $("second").offsetParent === null;
const dimmed = sensors.map((sensor) => {  // with each switched off in turn, how the tiles look
  sensors.forEach((s) => { if (s.checked === (s === sensor)) s.click(); });
  return [...document.querySelectorAll("#seen .tile")].map((t) => Number(getComputedStyle(t).opacity));
});
const metrics = [...$("metric").options].map((option) => {
  $("metric").value = option.value;
  $("metric").dispatchEvent(new Event("input"));
  return document.querySelector(".heat .value").textContent;
});
const charts = [...$("fault-sensor").options].map((option) => {
  $("fault-sensor").value = option.value;
  $("fault-sensor").dispatchEvent(new Event("input"));
  const shown = [...document.querySelectorAll("[data-sensor]")].filter((f) => f.offsetParent);
  return shown.map((f) => f.dataset.sensor);
});
const kinds = [...$("fault-kind").options].map((option) => {
  $("fault-kind").value = option.value;
  $("fault-kind").dispatchEvent(new Event("input"));
  const shown = [...document.querySelectorAll("[data-kind]")].filter((f) => f.offsetParent);
  return [option.value, ...new Set(shown.map((f) => f.dataset.kind))];
});
const drawn = () => [...document.querySelectorAll("#pictures .tile rect:not(.camera)")].filter(
  (r) => r.getBoundingClientRect().width > 0).length;
const boxes = [true, false, true].map((on) => {
  if ($("show-boxes").checked !== on) $("show-boxes").click();
  return drawn();
});
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const width = document.documentElement.clientWidth;
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const page = light(behind(document.body));
const told = { seen, beside, both, alone, dimmed, wide, width, dark, page, least, metrics, charts, kinds, boxes };
const outermost = window.parent.document.body;
const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
const urls = new Set(rules.flatMap((rule) => rule.style?.backgroundImage.match(/url\("(.*)"\)/)?.[1] ?? []));
for (const picture of document.images) urls.add(picture.src);
const widths = [...urls].map((url) => new Promise((done) => {
  const picture = new Image();
  picture.onload = picture.onerror = () => done(picture.naturalWidth);
  picture.src = url;
}));
if (window.parent === window) document.body.innerHTML = "";
Promise.all(widths).then((pictures) => {
  outermost.dataset.probe = JSON.stringify({ ...told, pictures });
});
