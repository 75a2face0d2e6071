// Two files that run without a module loader; the licence texts of what they hold are kept at their tops.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

async function bundle(entry, out, held, assets = "../assets") {
  const made = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    legalComments: "none",
    charset: "utf8",
    write: false,
    nodePaths: ["node_modules"],
  });
  // A page must name no address: those in messages of libraries go, XML namespaces (which nobody fetches) stay.
  const text = made.outputFiles[0].text.replace(/https?:\/\/(?!www\.w3\.org\/)[^\s"'`)\\]+/g, "");
  const licences = held.map(([name, folder, file = "LICENSE"]) => `Contains ${name}.\n\n${readFileSync(`node_modules/${folder}/${file}`, "utf8").trim()}`);
  writeFileSync(`${assets}/${out}`, `/*!\n${licences.join("\n\n")}\n*/\n${text}`);
  console.log(`${out} ${(text.length / 1e3).toFixed(0)} kB`);
}

await bundle("src/main.js", "page.js", [["three.js", "three"]]);
await bundle("src/network/main.js", "network.js", [["d3-force", "d3-force"]]);
// The mapping page lies elsewhere and is built alike.
const clipping = [["polyclip-ts", "polyclip-ts"], ["splaytree-ts", "splaytree-ts"], ["bignumber.js", "bignumber.js", "LICENCE.md"]];
await bundle("../../../mapping/web/src/main.js", "mapping.js", clipping, "../../../mapping/assets");
