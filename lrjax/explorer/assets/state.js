"use strict";
/*
 * What a reader can change, as data: the model, its training step, two objects, gates, the gauge. It is written to the URL's fragment
 * and read from there. Gates have the text form of lrjax (lrjax/gates.py), so that they can be pasted into Python.
 */
const State = (() => {
  const GATES = ["EE", "EP", "PE", "PP", "EB", "PB", "BE", "BP", "BB", "VE", "VP", "VB"];
  const ENCODERS = ["vision", "text"];
  const MOST = 1.5;

  /* Gates of both encoders, all 1. */
  const unitGates = (heads) =>
    Object.fromEntries(ENCODERS.map((e) => [e, Array.from({ length: heads }, () => GATES.map(() => 1))]));
  const number = (value) => String(Math.round(value * 100) / 100);

  /* The text of gates: for every encoder one clause for the terms that have the same value in the same heads; "" if all are 1. */
  function gatesText(gates) {
    const clauses = [];
    for (const encoder of ENCODERS) {
      const found = new Map();
      const heads = gates[encoder].length;
      GATES.forEach((term, i) => {
        const values = new Map();
        gates[encoder].forEach((row, h) => {
          if (row[i] !== 1) values.set(row[i], [...(values.get(row[i]) ?? []), h]);
        });
        for (const [value, at] of values) {
          const places = at.length === heads ? [] : at.map((h) => `h${h}`);
          const place = encoder === "vision" && !places.length ? "" : `${[encoder, ...places].join(".")}:`;
          const key = `${place}|${number(value)}`;
          found.set(key, [...(found.get(key) ?? []), term]);
        }
      });
      for (const [key, terms] of found) {
        const [place, value] = key.split("|");
        clauses.push(`${place}${terms.join("+")}=${value}`);
      }
    }
    return clauses.join(";");
  }

  /* The inverse of gatesText. What is no clause is left out: a fragment may come from anywhere. */
  function parseGates(text, heads) {
    const gates = unitGates(heads);
    for (const clause of text.split(";")) {
      const match = /^(?:(vision|text)((?:\.h\d+)*):)?([A-Z]{2}(?:\+[A-Z]{2})*)=(-?[\d.]+)$/.exec(clause.replace(/\s/g, ""));
      if (!match) continue;
      const [, encoder = "vision", places = "", terms, given] = match;
      const value = Math.min(MOST, Math.max(-MOST, Number(given)));
      if (Number.isNaN(value)) continue;
      const of = places.split(".h").slice(1).map(Number);
      gates[encoder].forEach((row, h) => {
        if (of.length && !of.includes(h)) return;
        for (const term of terms.split("+")) if (GATES.includes(term)) row[GATES.indexOf(term)] = value;
      });
    }
    return gates;
  }

  /* A scene as people write it, and back: objects [{ label, place }, ...] and the names of labels. null if the text is none. */
  function sceneText(objects, labels, cells) {
    const row = Array(cells).fill(".");
    for (const { label, place } of objects) row[place] = labels[label];
    return row.join(" ");
  }
  function parseScene(text, labels, cells) {
    const row = text.split(/[\s_]+/).filter(Boolean);
    const objects = row.flatMap((cell, place) => (cell === "." ? [] : [{ label: labels.indexOf(cell), place }]));
    const possible = row.length === cells && objects.length === 2 && objects.every(({ label }) => label >= 0);
    return possible && objects[0].label !== objects[1].label ? objects : null;
  }

  /* Objects with one of them at another place; where the other one stands, it goes one cell past that, or stays before it. */
  function moved(objects, i, place, cells) {
    const [from, other] = [objects[i].place, objects[1 - i].place];
    const to = Math.min(cells - 1, Math.max(0, place));
    const past = other + Math.sign(to - from);
    const free = to !== other ? to : past >= 0 && past < cells ? past : other - Math.sign(to - from);
    return objects.map((object, k) => (k === i ? { ...object, place: free } : object));
  }
  /* Objects with another label in one of them; if the other one has it, the two exchange labels. */
  function relabelled(objects, i, label) {
    const from = objects[i].label;
    return objects.map((object, k) =>
      k === i ? { ...object, label } : object.label === label ? { ...object, label: from } : object,
    );
  }

  /* The fragment of a URL: `given` is an ordered { name: text }, of which empty texts are left out. */
  function fragment(given) {
    const safe = (text) => encodeURI(text.replace(/ /g, "_")).replace(/#/g, "%23").replace(/&/g, "%26");
    return Object.entries(given)
      .filter(([, text]) => text !== "")
      .map(([name, text]) => `${name}=${safe(text)}`)
      .join("&");
  }
  function parseFragment(text) {
    const found = {};
    for (const part of text.replace(/^#/, "").split("&")) {
      const at = part.indexOf("=");
      if (at < 1) continue;
      try {
        found[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1));
      } catch {
        // a broken escape: this part says nothing
      }
    }
    return found;
  }

  return {
    GATES,
    ENCODERS,
    MOST,
    unitGates,
    gatesText,
    parseGates,
    sceneText,
    parseScene,
    moved,
    relabelled,
    fragment,
    parseFragment,
  };
})();
if (typeof module !== "undefined") module.exports = State;
