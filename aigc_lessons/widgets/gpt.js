// models/gpt.py in the modern style, one token at a time, with its cache. A browser test compares the logits with Python's.
const EPS = 2 ** -23; // of float32, as in F.rms_norm

// y = W x, W (rows, columns) row by row; four sums side by side, or each addition would wait for the one before
function times(W, x, rows) {
  const n = x.length, y = new Float32Array(rows);
  for (let row = 0, at = 0; row < rows; row++, at += n) {
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < n; i += 4) {
      a += W[at + i] * x[i];
      b += W[at + i + 1] * x[i + 1];
      c += W[at + i + 2] * x[i + 2];
      d += W[at + i + 3] * x[i + 3];
    }
    y[row] = a + b + c + d;
  }
  return y;
}

function norm(x, from = 0, to = x.length) { // RMSNorm of a stretch
  let sum = 0;
  for (let i = from; i < to; i++) sum += x[i] * x[i];
  const scale = 1 / Math.sqrt(sum / (to - from) + EPS), y = new Float32Array(to - from);
  for (let i = from; i < to; i++) y[i - from] = scale * x[i];
  return y;
}

export class GPT {
  // weights: embedding; for each block qkv, projection, and the two of the feed-forward; head: all (out, in), one after the other
  constructor({ vocab_size: V, block_size, n_layer, n_head, n_embd: C }, weights) {
    let at = 0;
    const next = (n) => weights.subarray(at, (at += n));
    Object.assign(this, { V, C, block: block_size, heads: n_head, size: C / n_head, length: 0 });
    this.embed = next(V * C);
    this.blocks = Array.from({ length: n_layer }, () => ({
      qkv: next(3 * C * C), proj: next(C * C), fc: next(4 * C * C), back: next(4 * C * C),
      keys: new Float32Array(block_size * C), values: new Float32Array(block_size * C),
    }));
    this.head = next(V * C);
    this.turns = Float64Array.from({ length: this.size / 2 }, (_, j) => 10000 ** (-2 * j / this.size));
  }

  cut(length) { this.length = length; } // forget the later tokens: new ones will be written over them

  says(x) { return times(this.head, norm(x), this.V); } // what the head reads in the stream

  // one token more: the logits of the one after it. `writes(part, x)` hears of the stream before each part (two a block) and
  // at the end, and says whether the part may write
  read(id, writes = () => true) {
    const { C, size, heads, turns } = this, position = this.length;
    let x = norm(this.embed, id * C, (id + 1) * C), part = 0;
    const add = (y) => { if (writes(part++, x)) for (let i = 0; i < C; i++) x[i] += y[i]; };
    for (const block of this.blocks) {
      const qkv = times(block.qkv, norm(x), 3 * C), q = new Float32Array(C), y = new Float32Array(C);
      for (let h = 0; h < heads; h++) {
        for (const [part, into, start] of [[0, q, 0], [C, block.keys, position * C]]) {
          const one = norm(qkv, part + h * size, part + (h + 1) * size);
          for (let j = 0; j < size / 2; j++) { // RoPE turns pairs
            const [cos, sin] = [Math.cos(position * turns[j]), Math.sin(position * turns[j])];
            into[start + h * size + 2 * j] = one[2 * j] * cos - one[2 * j + 1] * sin;
            into[start + h * size + 2 * j + 1] = one[2 * j] * sin + one[2 * j + 1] * cos;
          }
        }
      }
      block.values.set(qkv.subarray(2 * C), position * C);
      for (let h = 0; h < heads; h++) {
        const scores = new Float64Array(position + 1), first = h * size;
        let most = -Infinity, sum = 0;
        for (let t = 0; t <= position; t++) {
          let dot = 0;
          for (let i = first; i < first + size; i++) dot += q[i] * block.keys[t * C + i];
          scores[t] = dot / Math.sqrt(size);
          most = Math.max(most, scores[t]);
        }
        for (let t = 0; t <= position; t++) sum += scores[t] = Math.exp(scores[t] - most);
        for (let t = 0; t <= position; t++) {
          for (let i = first; i < first + size; i++) y[i] += (scores[t] / sum) * block.values[t * C + i];
        }
      }
      add(times(block.proj, y, C));
      const wide = times(block.fc, norm(x), 4 * C);
      for (let i = 0; i < wide.length; i++) wide[i] = Math.max(0, wide[i]) ** 2;
      add(times(block.back, wide, C));
    }
    this.length = position + 1;
    writes(part, x);
    return this.says(x);
  }
}
