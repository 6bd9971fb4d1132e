"use strict";
/*
 * What the page asks of its models: one scene, all unseen pairs, the position gradient. A state is { model, at, objects, gates, gauge }
 * (see page.js); every answer is of the state that is given. What was computed is kept until many others were.
 */
const Lab = (data) => {
  const ANSWERS = 60; // kept at a time
  const TIE = 1e-6; // cosines closer than this are equal, as in lrjax/models/retrieval.py
  const kept = new Map();

  function once(key, make) {
    if (!kept.has(key)) {
      if (kept.size >= ANSWERS) kept.delete(kept.keys().next().value);
      kept.set(key, make());
    }
    return kept.get(key);
  }

  const model = (state) => data.models[state.model];
  const checkpoint = (state) => model(state).checkpoints[state.at];
  const place = (state) => `${state.model}/${state.at}`;
  const tables = (state) =>
    once(`tables ${place(state)}`, () => Forward.unpack(checkpoint(state).spec, checkpoint(state).data, model(state).rows));
  const heads = (state) => tables(state).vision.heads;
  const vision = (state) =>
    once(`vision ${place(state)} ${state.gauge}`, () => Forward.regauge(tables(state).vision, model(state).rows.cls, state.gauge));
  const plain = (state) => ({ ...state, gates: State.unitGates(heads(state)), gauge: 0 });

  /* The gates that an encoder is run with: the reader's times those that the model was trained with. */
  function inForce(state, encoder) {
    const trained = checkpoint(state).gates?.[encoder];
    const gates = state.gates[encoder];
    return trained ? gates.map((row, h) => row.map((gate, i) => gate * trained[h][i])) : gates;
  }

  const captions = (state) =>
    once(`captions ${place(state)} ${JSON.stringify(state.gates.text)}`, () =>
      Forward.embedAll(Forward.prepare(tables(state).text, inForce(state, "text")), model(state).captions),
    );
  const prepared = (state) => Forward.prepare(vision(state), inForce(state, "vision"));

  function imageOf(state, objects) {
    const { cells, rows } = model(state);
    const tokens = [rows.cls, ...Array(cells).fill(rows.background)];
    for (const { label, place } of objects) tokens[place + 1] = rows.label + label;
    return { readout: 0, tokens };
  }

  const ordered = (objects) => [...objects].sort((a, b) => a.place - b.place);

  /* Numbers of the captions that are true of objects, and of those that are true of the same with labels swapped: word by word. */
  function facts(state, objects) {
    const byNames = once(`names ${state.model}`, () => {
      const found = new Map();
      model(state).captions.forEach(({ names }, i) => found.set(String(names), [...(found.get(String(names)) ?? []), i]));
      return found;
    });
    const [left, right] = ordered(objects).map(({ label }) => label);
    return { real: byNames.get(`${left},${right}`), swapped: byNames.get(`${right},${left}`) };
  }

  const compare = (embedding, all) => {
    const found = new Float64Array(all.length / embedding.length);
    for (let i = 0; i < found.length; i++) found[i] = Forward.dot(embedding, all, i * embedding.length);
    return found;
  };

  /*
   * One scene: the cosines with all captions, which captions are true and swapped, the pattern of every head, what each head pushes
   * towards the true caption and away from the swapped one ([h][t]), and the terms of CLS's row of scores.
   */
  function look(state) {
    const [ready, image, every] = [prepared(state), imageOf(state, state.objects), captions(state)];
    const found = Forward.run(ready, image);
    const { real, swapped } = facts(state, state.objects);
    const width = ready.encoder.width;
    const caption = (i) => every.subarray(i * width, (i + 1) * width);
    const direction = caption(real[0]).map((value, e) => value - caption(swapped[0])[e]);
    return {
      similarity: compare(Forward.unit(found.x), every),
      real,
      swapped,
      gates: ready.gates,
      patterns: found.patterns,
      pushes: Forward.pushes(ready, image, found, direction),
      terms: Forward.termsOf(ready.encoder, image),
    };
  }

  /* All images of two held-out labels, as lists of objects. */
  function* unseen({ heldout, cells }) {
    for (let a = 0; a < heldout; a++) {
      for (let b = 0; b < heldout; b++) {
        for (let i = 0; a !== b && i < cells; i++) {
          for (let j = i + 1; j < cells; j++)
            yield [
              { label: a, place: i },
              { label: b, place: j },
            ];
        }
      }
    }
  }

  /* Shares of all images of unseen pairs: order, label set and top-1 as lrjax evaluates them, and the number of images. */
  function measure(state) {
    const [ready, every] = [prepared(state), captions(state)];
    const sum = { order: 0, labels: 0, top: 0, images: 0 };
    for (const objects of unseen(model(state))) {
      const similarity = compare(Forward.embed(ready, imageOf(state, objects)), every);
      const { real, swapped } = facts(state, objects);
      const least = similarity.reduce((a, b) => Math.max(a, b)) - TIE;
      const ties = similarity.reduce((n, value) => n + (value >= least), 0);
      const share = (of) => of.filter((i) => similarity[i] >= least).length / ties;
      const wins = real.map((i, word) => similarity[i] - similarity[swapped[word]]);
      sum.order += wins.reduce((n, by) => n + (Math.abs(by) <= TIE ? 0.5 : by > 0 ? 1 : 0), 0) / wins.length;
      sum.labels += share([...real, ...swapped]);
      sum.top += share(real);
      sum.images += 1;
    }
    const { images } = sum;
    return { order: sum.order / images, labels: sum.labels / images, top: sum.top / images, images };
  }
  const measureKey = (state) => `measure ${place(state)} ${state.gauge} ${JSON.stringify(state.gates)}`;
  const measured = (state) => once(measureKey(state), () => measure(state));
  const isMeasured = (state) => kept.has(measureKey(state)) && kept.has(measureKey(plain(state)));

  /* The position gradient by term, { EP: [h], ... }: mean over i < j of s_j - s_i over the cells. Gates do not count. */
  function gradient(state, terms) {
    const rows = Forward.termsOf(vision(state), imageOf(state, []));
    const slope = (row) => {
      let [sum, pairs] = [0, 0];
      for (let i = 1; i < row.length; i++) for (let j = i + 1; j < row.length; j++, pairs++) sum += row[j] - row[i];
      return sum / pairs;
    };
    return Object.fromEntries(terms.map((term) => [term, rows[term].map(slope)]));
  }

  /* How far the gauge moves any similarity of a scene while all gates are 1: rounding. */
  function gaugeMoves(state) {
    const [then, now] = [look(plain(state)).similarity, look({ ...plain(state), gauge: state.gauge }).similarity];
    return now.reduce((most, value, i) => Math.max(most, Math.abs(value - then[i])), 0);
  }

  return { data, model, checkpoint, heads, plain, ordered, look, measured, isMeasured, gradient, gaugeMoves };
};
if (typeof module !== "undefined") module.exports = Lab;
