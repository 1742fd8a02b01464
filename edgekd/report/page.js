"use strict";
const touch = matchMedia("(pointer: coarse)").matches;
const boxes = document.querySelectorAll(".plot");
for (const box of boxes) {
  const figure = JSON.parse(document.getElementById(box.id + "-data").textContent);
  // A finger that moves over a picture wants to scroll the page, not to zoom.
  figure.layout.dragmode = touch ? false : "zoom";
  Plotly.newPlot(box, figure.data, figure.layout, { displayModeBar: false, responsive: true });
}
matchMedia("print").addEventListener("change", () => {
  for (const box of boxes) Plotly.Plots.resize(box);
});
