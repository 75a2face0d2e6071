// The piece of section around a node, turned so that the pial surface lies above and white matter below.

import { sharp } from "./dom.js";

const WIDE_MM = 9;

export function drawPatch(canvas, { image, section, column, row, angle, size }) {
  const context = sharp(canvas, size, size);
  const perPixel = (size / WIDE_MM) * section.pixelMm; // CSS pixels for one full-resolution pixel
  context.fillStyle = "#f1f1ee";
  context.fillRect(0, 0, size, size);
  context.save();
  context.translate(size / 2, size / 2);
  context.rotate((-(90 + angle) * Math.PI) / 180);
  const scale = perPixel / section.shrink;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, -column * perPixel, -row * perPixel, section.width * scale, section.height * scale);
  context.restore();

  context.strokeStyle = "#b3123f";
  context.lineWidth = 1.4;
  for (const side of [-1, 1]) {
    context.beginPath();
    context.moveTo(size / 2 + side * 5, size / 2);
    context.lineTo(size / 2 + side * 13, size / 2);
    context.stroke();
  }
  const bar = size / WIDE_MM;
  context.fillStyle = "#ffffffc0";
  context.fillRect(7, size - 25, bar + 8, 20);
  context.fillStyle = "#1d2430";
  context.fillRect(11, size - 11, bar, 2.5);
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText("1 mm", 11 + bar / 2, size - 14);
}
