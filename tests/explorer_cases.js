"use strict";
/*
 * Run the page's own scripts on cases: node tests/explorer_cases.js ASSETS CASES, which prints what they find as JSON.
 * CASES is { data: what a page holds, states: [{ model, at, objects, gates, gauge }], measures: [state], texts: [[gates, heads]] }.
 */
const fs = require("fs");
const path = require("path");
const [assets, cases] = process.argv.slice(2);
for (const [name, file] of Object.entries({ Forward: "forward.js", State: "state.js", Lab: "lab.js" })) {
  globalThis[name] = require(path.resolve(assets, file));
}
const { data, states, measures, texts } = JSON.parse(fs.readFileSync(cases, "utf-8"));
const lab = Lab(data);
const plain = (value) => (ArrayBuffer.isView(value) ? [...value] : value);
const seen = states.map((state) =>
  Object.fromEntries(Object.entries(lab.look(state)).map(([name, value]) => [name, plain(value)])),
);
const read = texts.map(([text, heads]) => {
  const gates = State.parseGates(text, heads);
  return { gates, text: State.gatesText(gates) };
});
console.log(JSON.stringify({ seen, measured: measures.map((state) => lab.measured(lab.plain(state))), read }));
