"use strict";
/*
 * The forward pass of a one-block encoder, over tables of rows (lrjax/explorer/tables.py). No page is needed: node runs this text too.
 *
 * An encoder is { heads, rows, width, tokens, scores, values, constant }. Its rows are those of E (`tokens` of them), then those of P.
 *   scores[f][h][o][r]  the readout's query of origin o (E, P, B) with the key of row r, over sqrt(d_head)
 *   values[h][r][e]     what head h writes where it reads row r, projected; the last row is the bias of the values
 *   constant[f][e]      what the readout holds whatever attention does
 * All three are flat. A sequence is { readout, tokens }: f, and the row of the token at every position that the readout may attend to.
 * Gates are one row of 12 numbers a head, in the order of GATES.
 */
const Forward = (() => {
  const GATES = ["EE", "EP", "PE", "PP", "EB", "PB", "BE", "BP", "BB", "VE", "VP", "VB"];
  const TERMS = ["EE", "PE", "BE", "EP", "PP", "BP"]; // those that differ from key to key: softmax sees no others
  const [VE, VP, VB] = ["VE", "VP", "VB"].map((name) => GATES.indexOf(name));
  const OF_ORIGINS = ["EPB", "EPB", "EPB"].map((keys, o) => [...keys].map((key) => GATES.indexOf("EPB"[o] + key)));

  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
  const HEADER = 6; // bits in which a row says how many bits an entry has

  const unitGates = (heads) => Array.from({ length: heads }, () => GATES.map(() => 1));
  const product = (shape) => shape.reduce((a, b) => a * b, 1);

  /* The bytes of a text in base 85, as Python's base64.b85encode writes them. */
  function bytesOf(text) {
    const bytes = new DataView(new ArrayBuffer((text.length / 5) * 4));
    for (let at = 0; at < text.length; at += 5) {
      let value = 0;
      for (let i = at; i < at + 5; i++) value = value * 85 + DIGITS.indexOf(text[i]);
      bytes.setUint32((at / 5) * 4, value);
    }
    return new Uint8Array(bytes.buffer);
  }

  /* The encoders of a checkpoint: `spec` and `data` as lrjax/explorer/packing.py writes them. */
  function unpack(spec, data, tokens) {
    const bytes = bytesOf(data);
    let at = 0; // in bits
    const take = (bits) => {
      let value = 0;
      for (const end = at + bits; at < end; at++) value = 2 * value + ((bytes[at >> 3] >> (7 - (at & 7))) & 1);
      return value;
    };
    const signed = (bits) => {
      const value = take(bits);
      return value < 2 ** (bits - 1) ? value : value - 2 ** bits;
    };
    let row = 0; // of all rows that are written: row i has entries in its first i + 1 places alone
    const encoders = {};
    for (const { encoder, name, shape, step } of spec) {
      const found = (encoders[encoder] ??= { tokens: tokens[encoder] });
      const [width, array] = [shape.at(-1), new Float64Array(product(shape))];
      for (let first = 0; first < array.length; first += width) {
        const bits = take(HEADER);
        const entries = name === "scores" ? width : Math.min(++row, width);
        for (let i = 0; i < entries; i++) array[first + i] = step * signed(bits);
      }
      found[name] = array;
      if (name === "scores") [, found.heads, , found.rows] = shape;
      else found.width = width;
    }
    return encoders;
  }

  /* The keys' scores under gates, [h][r], for one readout. */
  function gatedScores(encoder, readout, gates) {
    const { heads, rows, tokens, scores } = encoder;
    const found = new Float64Array(heads * rows);
    for (let h = 0; h < heads; h++) {
      for (let o = 0; o < 3; o++) {
        const at = ((readout * heads + h) * 3 + o) * rows;
        for (let r = 0; r < rows; r++) found[h * rows + r] += gates[h][OF_ORIGINS[o][r < tokens ? 0 : 1]] * scores[at + r];
      }
    }
    return found;
  }

  /* What a head's query gives to every position of a sequence: softmax of its scores. */
  function patternOf(encoder, gated, head, sequence) {
    const at = head * encoder.rows;
    const scores = sequence.tokens.map((token, t) => gated[at + token] + gated[at + encoder.tokens + t]);
    const most = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  /* An encoder under gates, made ready for many sequences. */
  function prepare(encoder, gates) {
    const readouts = encoder.constant.length / encoder.width;
    return { encoder, gates, gated: Array.from({ length: readouts }, (_, readout) => gatedScores(encoder, readout, gates)) };
  }

  /* The embedding of one sequence before it is made a unit vector, and the pattern of every head. */
  function run({ encoder, gates, gated }, sequence) {
    const { heads, rows, width, tokens, values, constant } = encoder;
    const x = new Float64Array(constant.subarray(sequence.readout * width, (sequence.readout + 1) * width));
    const patterns = [];
    const add = (factor, row) => {
      if (factor === 0) return;
      for (let e = 0, at = row * width; e < width; e++) x[e] += factor * values[at + e];
    };
    for (let h = 0; h < heads; h++) {
      const pattern = patternOf(encoder, gated[sequence.readout], h, sequence);
      const first = h * (rows + 1);
      sequence.tokens.forEach((token, t) => {
        add(pattern[t] * gates[h][VE], first + token);
        add(pattern[t] * gates[h][VP], first + tokens + t);
      });
      add(gates[h][VB], first + rows);
      patterns.push(pattern);
    }
    return { x, patterns };
  }

  const norm = (x) => Math.sqrt(dot(x, x));
  function dot(a, b, at = 0) {
    let sum = 0;
    for (let e = 0; e < a.length; e++) sum += a[e] * b[at + e];
    return sum;
  }
  function unit(x) {
    const length = norm(x);
    return x.map((value) => value / length);
  }

  /* The unit embedding of one sequence. */
  const embed = (prepared, sequence) => unit(run(prepared, sequence).x);

  /* The unit embeddings of many sequences, one after another in one array. */
  function embedAll(prepared, sequences) {
    const width = prepared.encoder.width;
    const found = new Float64Array(sequences.length * width);
    sequences.forEach((sequence, i) => found.set(embed(prepared, sequence), i * width));
    return found;
  }

  /* The terms of the readout's row of scores, { EE: [h][t], ... }, before gates. */
  function termsOf(encoder, sequence) {
    const { heads, rows, tokens, scores } = encoder;
    const found = {};
    for (const term of TERMS) {
      const [o, ofPosition] = ["EPB".indexOf(term[0]), term[1] === "P"];
      found[term] = Array.from({ length: heads }, (_, h) => {
        const at = ((sequence.readout * heads + h) * 3 + o) * rows;
        return sequence.tokens.map((token, t) => scores[at + (ofPosition ? tokens + t : token)]);
      });
    }
    return found;
  }

  /* How far what each head reads at each position moves the embedding along a direction: [h][t], over the embedding's length. */
  function pushes({ encoder, gates }, sequence, { x, patterns }, direction) {
    const { rows, width, tokens, values } = encoder;
    const length = norm(x);
    const along = (row) => dot(direction, values, row * width);
    return patterns.map((pattern, h) => {
      const first = h * (rows + 1);
      const of = (token, t) => gates[h][VE] * along(first + token) + gates[h][VP] * along(first + tokens + t);
      return sequence.tokens.map((token, t) => (pattern[t] * of(token, t)) / length);
    });
  }

  /*
   * The same function with a part of CLS's vector moved between the token row `cls` and position 0: share 1 moves all of E_cls to P_0,
   * share -1 all of P_0 to E_cls. In an image CLS stands at position 0 alone, so that only the sum of the two is ever read.
   */
  function regauge(encoder, cls, share) {
    if (!share) return encoder;
    const { heads, rows, width, tokens } = encoder;
    const [from, to, fromOrigin, toOrigin] = share > 0 ? [cls, tokens, 0, 1] : [tokens, cls, 1, 0];
    const moved = Math.abs(share);
    const scores = Float64Array.from(encoder.scores);
    const values = Float64Array.from(encoder.values);
    const move = (array, a, b, size) => {
      for (let i = 0; i < size; i++) {
        array[b + i] += moved * array[a + i];
        array[a + i] *= 1 - moved;
      }
    };
    for (let h = 0; h < heads; h++) {
      const at = h * 3 * rows;
      move(scores, at + fromOrigin * rows, at + toOrigin * rows, rows);
      for (let o = 0; o < 3; o++) move(scores, at + o * rows + from, at + o * rows + to, 1);
      move(values, (h * (rows + 1) + from) * width, (h * (rows + 1) + to) * width, width);
    }
    return { ...encoder, scores, values };
  }

  return { GATES, TERMS, unitGates, unpack, prepare, run, embed, embedAll, termsOf, pushes, regauge, unit, dot };
})();
if (typeof module !== "undefined") module.exports = Forward;
