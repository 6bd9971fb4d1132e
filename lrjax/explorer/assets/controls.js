"use strict";
/* What a reader can touch, made once. `change` takes the parts of the state that are new; draw functions show the state again. */
const Controls = (lab, state, change) => {
  const { element } = Draw;
  const get = (id) => document.getElementById(id);
  const FAMILIES = [
    ["what token stands there", ["EE", "PE", "BE"]],
    ["where it stands", ["EP", "PP", "BP"]],
    ["what is read there", ["VE", "VP", "VB"]],
  ];
  const RUN = "run"; // the axis of runs
  const NAMES = { run: "Recipe", n_labels: "Labels in training", seed: "Seed", initial: "Initial values" };
  const PLAY = 700; // milliseconds a step of training is shown
  const gateNumber = (term) => State.GATES.indexOf(term);
  let playing = 0;
  let alsoChanged = []; // names of the axes that the last pick changed beside its own

  // ---- the scene ----

  /* One object: a slider that is dragged, or moved by arrow keys. */
  function handle(i) {
    const move = (place) => change({ objects: State.moved(state.objects, i, place, lab.model(state).cells) });
    const keys = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -99, End: 99 };
    let dragged = false;
    const under = (event) => {
      const box = get("scene").getBoundingClientRect();
      return Math.floor(((event.clientX - box.left) / box.width) * lab.model(state).cells);
    };
    const mark = (on) => (event) => {
      dragged = on;
      event.currentTarget.classList.toggle("dragged", on);
      if (on) event.currentTarget.setPointerCapture(event.pointerId);
    };
    return element("button", {
      type: "button",
      class: `object object-${i}`,
      role: "slider",
      "aria-valuemin": 1,
      onpointerdown: mark(true),
      onlostpointercapture: mark(false),
      onpointermove: (event) => dragged && under(event) !== state.objects[i].place && move(under(event)),
      onkeydown: (event) => {
        if (!(event.key in keys)) return;
        event.preventDefault();
        move(state.objects[i].place + keys[event.key]);
      },
    });
  }

  function another() {
    const { heldout, cells } = lab.model(state);
    const below = (n) => Math.floor(Math.random() * n);
    const two = (n, first) => [first, (first + 1 + below(n - 1)) % n];
    const [labels, places] = [two(heldout, below(heldout)), two(cells, below(cells))];
    change({ objects: labels.map((label, i) => ({ label, place: places[i] })) });
  }

  function buildScene() {
    get("swap").onclick = () => {
      const [a, b] = state.objects;
      change({
        objects: [
          { ...a, place: b.place },
          { ...b, place: a.place },
        ],
      });
    };
    get("another").onclick = another;
    [get("left-label"), get("right-label")].forEach((select, side) => {
      select.onchange = () => {
        const i = state.objects.indexOf(lab.ordered(state.objects)[side]);
        change({ objects: State.relabelled(state.objects, i, Number(select.value)) });
      };
    });
  }

  function drawScene() {
    const { cells, labels } = lab.model(state);
    const strip = get("scene");
    if (strip.dataset.cells !== String(cells)) {
      strip.dataset.cells = cells;
      strip.style.setProperty("--cells", cells);
      const every = Array.from({ length: cells }, (_, i) => element("span", { class: "cell", text: i + 1 }));
      strip.replaceChildren(...every, handle(0), handle(1));
    }
    state.objects.forEach(({ label, place }, i) => {
      const object = strip.querySelector(`.object-${i}`);
      const side = place < state.objects[1 - i].place ? "left" : "right";
      object.textContent = labels[label];
      object.style.setProperty("--place", place);
      object.setAttribute("aria-valuenow", place + 1);
      object.setAttribute("aria-valuemax", cells);
      object.setAttribute("aria-label", `${labels[label]}, the ${side} object; arrow keys move it`);
    });
    lab.ordered(state.objects).forEach(({ label }, side) => drawLabels(get(side ? "right-label" : "left-label"), label));
  }

  function drawLabels(select, chosen) {
    const { labels, heldout } = lab.model(state);
    if (select.dataset.model !== String(state.model)) {
      select.dataset.model = state.model;
      const group = (label, names, from) =>
        element(
          "optgroup",
          { label },
          names.map((text, i) => element("option", { value: from + i, text })),
        );
      const groups = [group("held out, only ever alone", labels.slice(0, heldout), 0)];
      select.replaceChildren(...groups, group("trained in pairs", labels.slice(heldout), heldout));
    }
    select.value = chosen;
  }

  // ---- the model ----

  /*
   * The axes that models differ in, each with the values that models of the present run have. The two initial scales are one axis
   * where each says the other.
   */
  function axes() {
    const { run } = lab.model(state);
    const here = lab.data.models.filter((model) => model.run === run).map(({ fields }) => fields);
    const axis = ({ name, meaning }, of = (fields) => fields[name]) => {
      const every = lab.data.models.map(({ fields }) => fields);
      const values = (models) => [...new Set(models.map(of))];
      const options = values(name === RUN ? every : here).map((value) => ({ value, text: String(value) }));
      return { name, meaning, of, options, varies: values(every).length > 1 };
    };
    const scales = ["e_scale", "p_scale"].map((name) => lab.data.axes.find((given) => given.name === name));
    const of = ({ e_scale, p_scale }) => `E ${e_scale}, P ${p_scale}`;
    const pairs = new Set(lab.data.models.map(({ fields }) => of(fields)));
    if (!scales.every((scale) => scale?.values.length === pairs.size)) return lab.data.axes.map((given) => axis(given));
    const initial = { name: "initial", meaning: "standard deviations of E and P before training" };
    return [...lab.data.axes.filter((given) => !scales.includes(given)).map((given) => axis(given)), axis(initial, of)];
  }

  /*
   * Choose a model by one axis: of those that have the value, the one that agrees with the present one in most other axes, of the
   * same run if there is one. It is shown at the same share of its training.
   */
  function pick(name, value) {
    const known = axes();
    const { of } = known.find((axis) => axis.name === name);
    const { fields, checkpoints, run } = lab.model(state);
    const agrees = (other) => known.filter((axis) => axis.of(other.fields) === axis.of(fields)).length;
    const score = (other) => (String(of(other.fields)) === String(value) ? agrees(other) + known.length * (other.run === run) : -1);
    const scores = lab.data.models.map(score);
    const model = scores.indexOf(Math.max(...scores));
    const next = lab.data.models[model];
    const share = ({ step }, every) => step / every.at(-1).step || 0;
    const now = share(checkpoints[state.at], checkpoints);
    const away = next.checkpoints.map((checkpoint) => Math.abs(share(checkpoint, next.checkpoints) - now));
    const fits = state.objects.every(({ label }) => label < next.labels.length);
    const objects = fits ? state.objects : state.objects.map((object, label) => ({ ...object, label }));
    const others = known.filter((axis) => ![name, RUN].includes(axis.name) && axis.of(next.fields) !== axis.of(fields));
    alsoChanged = others.map((axis) => NAMES[axis.name] ?? axis.name);
    change({ model, at: away.indexOf(Math.min(...away)), objects });
  }

  function drawPickers() {
    const pickers = axes().filter(({ varies }) => varies);
    get("pickers").replaceChildren(
      ...pickers.map(({ name, options, meaning, of }) => {
        const group = element("div", { class: "segments", role: "radiogroup", "aria-label": NAMES[name] ?? name });
        Draw.segments(group, `pick-${name}`, options, of(lab.model(state).fields), (value) => pick(name, value));
        return element("div", { class: "picker" }, [element("span", { text: NAMES[name] ?? name, title: meaning }), group]);
      }),
    );
    const { name, recipe } = lab.data.runs[lab.model(state).run];
    const { steps, ...others } = recipe;
    const told = Object.entries(others).map(([field, value]) => `${field} ${value}`);
    const shown = [`${steps.toLocaleString("en-US")} steps`, ...told].join(", ");
    const also = alsoChanged.length ? `No model here has this value with the others unchanged; changed too: ${alsoChanged.join(", ")}` : "";
    get("recipe").textContent = [lab.data.runs.length > 1 ? `${name}: ${shown}` : "", also].filter(Boolean).join(". ");
  }

  function play() {
    const last = lab.model(state).checkpoints.length - 1;
    const stop = () => {
      clearInterval(playing);
      playing = 0;
      get("play").textContent = "▶";
      get("play").setAttribute("aria-label", "Play training");
    };
    if (playing) return stop();
    if (state.at === last) change({ at: 0 });
    get("play").textContent = "❚❚";
    get("play").setAttribute("aria-label", "Stop");
    playing = setInterval(() => (state.at < last ? change({ at: state.at + 1 }) : stop()), PLAY);
  }

  // ---- gates ----

  function setGate(term, value) {
    const of = (row) => row.map((gate, i) => (i === gateNumber(term) ? value : gate));
    const rows = state.gates[state.encoder].map((row, h) => (state.head === "all" || state.head === h ? of(row) : row));
    change({ gates: { ...state.gates, [state.encoder]: rows } });
  }

  /* All gates of vision at 1, but for what a button takes away: terms, or what all heads write but the one that pushes most. */
  function preset(name) {
    const gates = State.unitGates(lab.heads(state));
    const zero = (rows, terms) => rows.forEach((row) => terms.forEach((term) => (row[gateNumber(term)] = 0)));
    if (name === "head") {
      const pushes = lab.look(lab.plain(state)).pushes.map((row) => row.reduce((a, b) => a + b));
      const best = state.head === "all" ? pushes.indexOf(Math.max(...pushes)) : state.head;
      zero(
        gates.vision.filter((_, h) => h !== best),
        ["VE", "VP", "VB"],
      );
    } else if (name !== "all") {
      zero(gates.vision, name.split("+"));
    }
    change({ gates, encoder: "vision" });
  }

  function buildGates() {
    const range = (term) => ({
      type: "range",
      min: -State.MOST,
      max: State.MOST,
      step: 0.05,
      "data-term": term,
      "aria-label": `gate of ${term}`,
      oninput: (event) => setGate(term, Math.round(event.target.value * 100) / 100),
      ondblclick: () => setGate(term, 1),
    });
    const slider = (term) =>
      element("label", { class: `gate ${term}` }, [element("b", { text: term }), element("input", range(term)), element("output")]);
    const family = ([name, terms]) => element("fieldset", {}, [element("legend", { text: name }), ...terms.map(slider)]);
    get("gates").replaceChildren(...FAMILIES.map(family));
    for (const button of get("presets").children) button.onclick = () => preset(button.dataset.preset);
    const key = (term) => element("span", { class: `key ${term}`, text: term });
    const legend = ([name, terms]) => element("span", { class: "family" }, [element("em", { text: name }), ...terms.map(key)]);
    get("legend").replaceChildren(...FAMILIES.slice(0, 2).map(legend), key("sum"));
  }

  function drawGates() {
    const rows = state.gates[state.encoder];
    for (const input of get("gates").querySelectorAll("input")) {
      const i = gateNumber(input.dataset.term);
      const values = state.head === "all" ? rows.map((row) => row[i]) : [rows[state.head][i]];
      const one = values.every((value) => value === values[0]);
      const shown = one ? values[0].toFixed(2).replace("-", "−") : "mixed";
      input.value = values.reduce((a, b) => a + b) / values.length;
      input.closest("label").classList.toggle(
        "changed",
        values.some((value) => value !== 1),
      );
      input.nextElementSibling.textContent = shown;
      input.setAttribute("aria-valuetext", shown);
    }
    const option = (value) => ({ value, text: value === "all" ? "all heads" : String(value) });
    const encoders = State.ENCODERS.map((value) => ({ value, text: value }));
    Draw.segments(get("encoder"), "encoder", encoders, state.encoder, (encoder) => change({ encoder }));
    Draw.segments(get("head"), "head", ["all", ...rows.keys()].map(option), state.head, (head) => change({ head }));
  }

  // ---- all of it ----

  async function copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      get("copied").textContent = "Copied.";
    } catch {
      get("copied").textContent = "The address bar holds the link.";
    }
  }

  function build() {
    buildScene();
    buildGates();
    get("play").onclick = play;
    get("step").oninput = (event) => change({ at: Number(event.target.value) });
    get("gauge").oninput = (event) => change({ gauge: Number(event.target.value) });
    get("gauge").ondblclick = () => change({ gauge: 0 });
    get("copy-link").onclick = copyLink;
  }
  function draw() {
    drawScene();
    drawPickers();
    drawGates();
    get("gauge").value = state.gauge;
  }
  return { build, draw };
};
