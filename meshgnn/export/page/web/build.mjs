// One file that runs without a module loader; the licence text of three.js is kept at its top.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

const licence = readFileSync("node_modules/three/LICENSE", "utf8").trim();
const made = await build({
  entryPoints: ["src/main.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  charset: "utf8",
  write: false,
});
// A page must name no address: those in messages of three.js go, XML namespaces (which nobody fetches) stay.
const text = made.outputFiles[0].text.replace(/https?:\/\/(?!www\.w3\.org\/)[^\s"'`)\\]+/g, "");
writeFileSync("../assets/page.js", `/*!\nContains three.js.\n\n${licence}\n*/\n${text}`);
console.log(`page.js ${(text.length / 1e3).toFixed(0)} kB`);
