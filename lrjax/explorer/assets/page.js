"use strict";
/* The page: the state, what is drawn of it, and its text in the URL's fragment. */
const Explorer = (() => {
  const lab = Lab(JSON.parse(document.getElementById("data").textContent));
  const get = (id) => document.getElementById(id);
  const POSITION = ["EP", "PP", "BP"];
  const CURVES = { single: "one object", seen_pair: "trained pairs", unseen_pair: "unseen pairs" };
  const MEASURED = { order: "order right", labels: "labels right", top: "both: top-1" };
  const SHOWN = 7; // captions
  const PAUSE = 120; // milliseconds without a change before all images are measured

  // model and at: the numbers of the model and of its checkpoint; encoder and head: which gates the sliders show
  const state = { model: 0, at: 0, objects: [], gates: null, gauge: 0, encoder: "vision", head: "all" };
  const controls = Controls(lab, state, change);
  let asked = 0;
  let measuring = 0;

  /* Change parts of the state; what is seen follows with the next frame. */
  function change(changes) {
    Object.assign(state, changes);
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  }

  function draw() {
    controls.draw();
    const seen = lab.look(state);
    drawKnown();
    drawCaptions(seen);
    drawHeads(seen);
    drawTraining();
    drawGauge();
    drawMeasure();
    const gates = State.gatesText(state.gates);
    get("python").textContent = python(gates);
    history.replaceState(null, "", `#${State.fragment(asFields(gates))}`);
    dispatchEvent(new Event("explored")); // a notebook's widget listens
  }

  function drawKnown() {
    const { labels, heldout } = lab.model(state);
    const told = [
      "were trained together, in some layouts.",
      "never stood together in training.",
      "never stood together in training.",
    ];
    const names = lab.ordered(state.objects).map(({ label }) => labels[label]);
    const unseen = state.objects.filter(({ label }) => label < heldout).length;
    get("known").textContent = `${names.join(" and ")} ${told[unseen]}${unseen === 2 ? " Each was only ever shown alone." : ""}`;
  }

  function drawCaptions({ similarity, real, swapped }) {
    const order = [...similarity.keys()].sort((a, b) => similarity[b] - similarity[a]);
    const rank = new Map(order.map((key, i) => [key, i + 1]));
    const marked = [...real, ...swapped];
    const others = order.filter((key) => !marked.includes(key)).slice(0, SHOWN - marked.length);
    const shown = [...marked, ...others].sort((a, b) => rank.get(a) - rank.get(b));
    const kind = (key) => (real.includes(key) ? "true" : swapped.includes(key) ? "swapped" : "");
    const text = (key) => lab.model(state).captions[key].text;
    const row = (key) => ({ key, rank: rank.get(key), text: text(key), similarity: similarity[key], kind: kind(key) });
    Draw.captions(get("captions"), shown.map(row));
    drawVerdict(similarity[real[0]] - similarity[swapped[0]], kind(order[0]), text(order[0]));
  }

  /* By how much the true caption leads the swapped one; `kind` and `text` are of the best caption of all. */
  function drawVerdict(margin, kind, text) {
    const leader = margin > 0 ? "true" : "swapped";
    const by = Math.abs(margin).toFixed(2);
    get("verdict").className = `verdict ${kind && leader}`;
    get("verdict").textContent = `The ${leader} caption leads by ${by}${kind ? "." : ", but the best caption names other labels."}`;
    const marks = { true: `✓ ${text}, by ${by}`, swapped: `✗ ${text}, by ${by}` };
    get("bar").className = `bar ${kind}`;
    get("bar").textContent = marks[kind] ?? `other labels: ${text}`;
  }

  function drawHeads({ gates, patterns, pushes, terms }) {
    const { cells, labels } = lab.model(state);
    const objects = Object.fromEntries(state.objects.map(({ label, place }) => [place + 1, labels[label]]));
    const names = ["CLS", ...Array.from({ length: cells }, (_, i) => String(i + 1))];
    const centred = (row) => row.map((value) => value - row.slice(1).reduce((a, b) => a + b) / cells);
    const rows = pushes.map((_, h) => Forward.TERMS.map((term) => centred(terms[term][h])));
    const reach = (of, t, side) => of.reduce((sum, row) => sum + Math.max(0, side * row[t]), 0);
    const far = (side) => Math.max(0.1, ...rows.flatMap((of) => names.map((_, t) => reach(of, t, side))));
    const most = { up: far(1), down: far(-1), push: Math.max(0.02, ...pushes.flat().map(Math.abs)) };
    const figure = (push, h) => {
      const gated = rows[h].map((row, k) => row.map((value) => value * gates[h][State.GATES.indexOf(Forward.TERMS[k])]));
      const sum = names.map((_, t) => gated.reduce((total, row) => total + row[t], 0));
      const byTerm = Object.fromEntries(Forward.TERMS.map((term, k) => [term, gated[k]]));
      const picture = Draw.head({ terms: byTerm, sum, pattern: patterns[h], push }, names, objects, most);
      return Draw.figure(`Head ${h}`, lookText(patterns[h], push), picture);
    };
    get("heads").replaceChildren(...pushes.map(figure));
  }
  function lookText(pattern, push) {
    const [left, right] = lab.ordered(state.objects).map(({ place }) => pattern[place + 1]);
    const side = right > left ? "right" : "left";
    const total = push.reduce((a, b) => a + b);
    return `looks ${side} ${Draw.percent(Math.max(left, right) / (left + right))}, pushes ${Draw.signed(total)}`;
  }

  function drawTraining() {
    const { checkpoints, history: made } = lab.model(state);
    const { step } = checkpoints[state.at];
    const curves = Object.entries(CURVES)
      .filter(([name]) => name in made)
      .map(([name, text]) => ({ name, text }));
    Draw.training(
      get("training"),
      made,
      curves,
      checkpoints.map((checkpoint) => checkpoint.step),
      step,
    );
    get("step").max = checkpoints.length - 1;
    get("step").value = state.at;
    get("step").setAttribute("aria-valuetext", `step ${step}`);
    get("step-shown").textContent = `step ${step}`;
  }

  function drawGauge() {
    const byTerm = lab.gradient(state, POSITION);
    const total = byTerm.EP.map((_, h) => POSITION.reduce((sum, term) => sum + byTerm[term][h], 0));
    const sizes = total.map(Math.abs);
    const head = sizes.indexOf(Math.max(...sizes));
    Draw.shares(
      get("gauge-bars"),
      POSITION.map((name) => ({ name, value: byTerm[name][head] })),
    );
    const acts = state.gates.vision.some((row) => Forward.TERMS.some((term) => row[State.GATES.indexOf(term)] !== 1));
    const moved = lab.gaugeMoves(state);
    const most = moved < 1e-12 ? "1e-12" : moved.toExponential(0);
    const all = `Position gradient of head ${head}, the largest: ${Draw.signed(total[head])} in all, wherever the slider stands.`;
    const still = `With all gates at 1 no similarity moves by more than ${most}.`;
    const caution = acts ? " A gate on scores acts now, so what it takes away depends on the gauge." : "";
    get("gauge-told").textContent = `${all} ${still}${caution}`;
  }

  function drawMeasure() {
    const asking = { ...state };
    const show = () => {
      const [now, before] = [lab.measured(asking), lab.measured(lab.plain(asking))];
      const meter = ([of, name]) => ({ name, value: now[of], before: before[of] });
      Draw.meters(get("measure"), Object.entries(MEASURED).map(meter));
      get("measure").dataset.fragment = location.hash; // of what the meters show
      get("measure-title").textContent = `On all ${now.images} images of held-out pairs`;
    };
    clearTimeout(measuring);
    measuring = setTimeout(show, lab.isMeasured(asking) ? 0 : PAUSE);
  }

  function python(gates) {
    const { fields, checkpoints, labels, cells, run } = lab.model(state);
    const { step } = checkpoints[state.at];
    const at = step === checkpoints.at(-1).step ? "" : `.at(${step})`;
    const chosen = Object.entries(fields)
      .filter(([name]) => name !== "run")
      .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
      .join(", ");
    const lines = ["import lrjax", "", `run = lrjax.load("${lab.data.runs[run].source}")${at}`];
    lines.push(`model = run.model(${chosen})${gates && `.ablate("${gates}")`}`);
    lines.push(`model.rank("${State.sceneText(state.objects, labels, cells)}")`);
    if (state.gauge) lines.push("# the gauge: lrjax.analysis.gauge.move_cls");
    return lines.join("\n");
  }

  // ---- the fragment ----

  function asFields(gates) {
    const { fields, checkpoints, labels, cells } = lab.model(state);
    const axes = Object.fromEntries(lab.data.axes.map(({ name }) => [name, String(fields[name])]));
    const scene = State.sceneText(state.objects, labels, cells);
    return { ...axes, step: String(checkpoints[state.at].step), scene, gates, gauge: state.gauge ? String(state.gauge) : "" };
  }

  /* The model that a fragment names best; without any name the first one of the most labels. */
  function named(given) {
    const { axes, models } = lab.data;
    const agree = models.map(({ fields }) => axes.filter(({ name }) => given[name] === String(fields[name])).length);
    const labels = models.map(({ fields }) => fields.n_labels);
    const scores = Math.max(...agree) ? agree : labels;
    return scores.indexOf(Math.max(...scores));
  }

  function read() {
    const given = State.parseFragment(location.hash);
    state.model = named(given);
    const { checkpoints, labels, cells } = lab.model(state);
    const wanted = Number(given.step); // no number: the last step
    const away = checkpoints.map(({ step }) => Math.abs(step - wanted));
    state.at = Number.isFinite(wanted) ? away.indexOf(Math.min(...away)) : checkpoints.length - 1;
    const usual = [0.25, 0.75].map((share, label) => ({ label, place: Math.floor(cells * share) }));
    state.objects = State.parseScene(given.scene ?? "", labels, cells) ?? usual;
    state.gates = State.parseGates(given.gates ?? "", lab.heads(state));
    state.gauge = Math.min(1, Math.max(-1, Number(given.gauge) || 0));
  }

  addEventListener("hashchange", () => {
    read();
    draw();
  });
  new ResizeObserver(() => change({})).observe(get("training"));
  controls.build();
  read();
  draw();
  return { lab, state };
})();
