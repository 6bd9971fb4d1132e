"use strict";
/* What the page draws: elements, captions, meters, the curves of training, the heads. Every function is of its arguments alone. */
const Draw = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST = 240;
  const signed = (value, digits = 2) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
  const percent = (value) => `${Math.round(100 * value)} %`;

  /* An element with attributes (text: its text; on...: a listener) and children. */
  function element(tag, attributes = {}, children = [], space = null) {
    const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }
  const svg = (tag, attributes, children) => element(tag, attributes, children, SVG);
  const frame = (width, height, children, label) =>
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, children);

  /* Choices of which one is chosen, as a group of radio buttons. options: [{ value, text, title }]. */
  function segments(group, name, options, chosen, onchange) {
    group.replaceChildren(
      ...options.map(({ value, text, title }) =>
        element("label", { title: title ?? false }, [
          element("input", {
            type: "radio",
            name,
            value,
            checked: String(value) === String(chosen),
            onchange: () => onchange(value),
          }),
          element("span", { text }),
        ]),
      ),
    );
  }

  /* The rows of captions move to their places; rows: [{ key, rank, text, similarity, kind }], best first. */
  function captions(list, rows) {
    const there = new Map([...list.children].map((row) => [row.dataset.key, row]));
    const wanted = new Set(rows.map(({ key }) => String(key)));
    for (const [key, row] of there) if (!wanted.has(key)) row.remove();
    list.style.setProperty("--rows", rows.length);
    rows.forEach(({ key, rank, text, similarity, kind }, place) => {
      let row = there.get(String(key));
      if (!row) {
        const parts = ["rank", "text", "kind", "value"].map((part) => element("span", { class: part }));
        row = element("li", { "data-key": key }, [element("span", { class: "fill" }), ...parts]);
        list.append(row);
      }
      row.className = kind;
      row.dataset.place = place;
      row.style.setProperty("--place", place);
      row.style.setProperty("--share", Math.max(0, similarity));
      const texts = { rank, text, kind, value: similarity.toFixed(3).replace("-", "−") };
      for (const [part, shown] of Object.entries(texts)) row.querySelector(`.${part}`).textContent = shown;
    });
    for (const row of [...list.children].sort((a, b) => a.dataset.place - b.dataset.place))
      row.style.zIndex = row.className ? 2 : 1;
  }

  /* Shares of images as meters; found: [{ name, value, before }], where `before` is the value with all gates at 1. */
  function meters(place, found) {
    place.replaceChildren(
      ...found.map(({ name, value, before }) =>
        element("div", { class: "meter" }, [
          element("span", { class: "name", text: name }),
          element("span", { class: "track" }, [
            element("span", { class: "fill", style: `width:${100 * value}%` }),
            element("span", { class: "mark", style: `left:${100 * before}%` }),
          ]),
          element("span", { class: "value", text: value.toFixed(2) }),
        ]),
      ),
    );
  }

  /* The accuracies of training, and the step that is shown. */
  function training(place, history, curves, steps, at) {
    const [height, left, right, top, bottom] = [150, 26, 92, 8, 20];
    const width = Math.max(LEAST, place.clientWidth); // a unit is a pixel, so that letters have their size
    const last = history.step.at(-1);
    const x = (step) => left + ((width - left - right) * step) / last;
    const y = (value) => top + (height - top - bottom) * (1 - value);
    const children = [0, 0.5, 1].flatMap((value) => [
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: left - 6, y: y(value) + 4, class: "tick end" }, [String(value)]),
    ]);
    children.push(svg("line", { x1: x(at), x2: x(at), y1: top, y2: height - bottom, class: "now" }));
    for (const step of steps)
      children.push(svg("line", { x1: x(step), x2: x(step), y1: height - bottom, y2: height - bottom + 4, class: "grid" }));
    children.push(
      svg("text", { x: left, y: height - 4, class: "tick" }, ["0"]),
      svg("text", { x: width - right, y: height - 4, class: "tick end" }, [`${last} steps`]),
    );
    const ends = spread(
      curves.map(({ name }) => y(history[name].at(-1) ?? 0)),
      15,
    );
    curves.forEach(({ name, text }, i) => {
      const points = history.step.map((step, k) => `${x(step).toFixed(1)},${y(history[name][k] ?? 0).toFixed(1)}`).join(" ");
      const now = history[name][history.step.indexOf(at)];
      children.push(svg("polyline", { points, class: `curve ${name}` }));
      if (now !== undefined) children.push(svg("circle", { cx: x(at), cy: y(now ?? 0), r: 3.5, class: `dot ${name}` }));
      children.push(svg("text", { x: width - right + 8, y: ends[i] + 4, class: `name ${name}` }, [text]));
    });
    place.replaceChildren(frame(width, height, children, "Accuracies during training"));
  }

  /* Heights that are at least `gap` apart, as near to the given ones as their order allows. */
  function spread(heights, gap) {
    const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
    const found = [...heights];
    order.forEach((i, k) => {
      if (k) found[i] = Math.max(found[i], found[order[k - 1]] + gap);
    });
    return found;
  }

  /* Parts of one amount, side by side, and what they are; parts: [{ name, value }]. */
  function shares(place, parts) {
    const most = parts.reduce((sum, { value }) => sum + Math.abs(value), 0) || 1;
    const bar = ({ name, value }) => element("span", { class: `term ${name}`, style: `width:${(100 * Math.abs(value)) / most}%` });
    const key = ({ name, value }) => element("span", { class: `key ${name}`, text: `${name} ${signed(value)}` });
    place.replaceChildren(element("div", { class: "shares" }, parts.map(bar)), element("div", { class: "legend" }, parts.map(key)));
  }

  /*
   * One head: its attention, its scores by term, its pushes. shown: { terms: { EE: [t] }, sum: [t], pattern: [t], push: [t] },
   * names: [t] of the keys, objects: { t: label }, most: { up, down, push } of the scales.
   */
  function head(shown, names, objects, most) {
    const [step, gap, left] = [30, 3, 4];
    const width = left + step * names.length;
    const rows = { attention: 16, scores: 64, scoresEnd: 184, push: 206, pushEnd: 262, names: 278 };
    const at = (t) => left + step * t + (t ? 3 : 0);
    const children = [];
    const title = (y, text) => children.push(svg("text", { x: left, y, class: "row" }, [text]));
    const rect = (t, y, height, className, extra = {}) =>
      children.push(svg("rect", { x: at(t), y, width: step - gap, height: Math.max(0, height), class: className, ...extra }));
    for (const t of Object.keys(objects)) rect(Number(t), rows.attention, rows.pushEnd - rows.attention, "here");
    title(11, "attention");
    shown.pattern.forEach((share, t) => {
      rect(t, rows.attention, 26, "cell", { rx: 3 });
      rect(t, rows.attention, 26, "attention", { rx: 3, "fill-opacity": share.toFixed(3) });
      if (share >= 0.1)
        children.push(
          svg("text", { x: at(t) + (step - gap) / 2, y: rows.attention + 17, class: `tick mid ${share > 0.5 ? "on" : "share"}` }, [
            String(Math.round(100 * share)),
          ]),
        );
    });
    title(rows.scores - 6, `scores by term, −${most.down.toFixed(1)} to +${most.up.toFixed(1)}`);
    stacks(children, rect, shown, rows, most, at, step - gap);
    title(rows.push - 6, "push: towards true above, swapped below");
    const [zero, unit] = [(rows.push + rows.pushEnd) / 2, (rows.pushEnd - rows.push) / 2 / most.push];
    children.push(svg("line", { x1: left, x2: width, y1: zero, y2: zero, class: "zero" }));
    shown.push.forEach((push, t) =>
      rect(t, push > 0 ? zero - push * unit : zero, Math.abs(push) * unit, push > 0 ? "true" : "swapped"),
    );
    names.forEach((name, t) => {
      const object = objects[t];
      children.push(
        svg("text", { x: at(t) + (step - gap) / 2, y: rows.names, class: object ? "tick mid object" : "tick mid" }, [
          object ?? name,
        ]),
      );
    });
    return frame(
      width + 4,
      rows.names + 6,
      children,
      `attention ${shown.pattern.map((share, t) => `${objects[t] ?? names[t]} ${percent(share)}`).join(", ")}`,
    );
  }

  function stacks(children, rect, shown, rows, most, at, width) {
    const unit = (rows.scoresEnd - rows.scores) / (most.up + most.down);
    const zero = rows.scores + unit * most.up;
    const inside = (y) => Math.min(rows.scoresEnd, Math.max(rows.scores, y));
    children.push(svg("line", { x1: at(0), x2: at(shown.sum.length), y1: zero, y2: zero, class: "zero" }));
    shown.sum.forEach((sum, t) => {
      const reached = { up: zero, down: zero };
      for (const [term, values] of Object.entries(shown.terms)) {
        const size = values[t] * unit;
        const [from, to] = size > 0 ? [reached.up - size, reached.up] : [reached.down, reached.down - size];
        rect(t, inside(from), inside(to) - inside(from), `term ${term}`);
        if (size > 0) reached.up = from;
        else reached.down = to;
      }
      const y = inside(zero - sum * unit);
      for (const name of ["halo", "sum"])
        children.push(svg("line", { x1: at(t) + 2, x2: at(t) + width - 2, y1: y, y2: y, class: name }));
    });
  }

  /* A picture with a title and what is to be said of it. */
  const figure = (title, text, picture) =>
    element("figure", {}, [element("figcaption", {}, [element("b", { text: title }), element("span", { text })]), picture]);

  return { element, segments, captions, meters, training, shares, head, figure, signed, percent };
})();
