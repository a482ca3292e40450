// From logits to a token: what all explorers of text share; it stands before their own scripts.
// Math is float32 where torch's is: equal logits stay equal, and a sum that reaches p there reaches it here.
const f32 = Math.fround;

// filter_logits() of language/generation.py, and greedy at temperature 0: -Infinity is out. A browser test compares them.
export function filterLogits(logits, temperature, topK, topP, minP = null) {
  const V = logits.length;
  if (temperature === 0) {
    const likeliest = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    return logits.map((_, i) => (i === likeliest ? 0 : -Infinity));
  }
  const T = f32(temperature), kept = logits.map((l) => l / T);
  if (topK !== null && topK < V) {
    const smallest = kept.slice().sort()[V - topK];
    kept.forEach((l, i) => { if (l < smallest) kept[i] = -Infinity; });
  }
  if (topP !== null && topP < 1) {
    const p = softmax(kept), limit = f32(topP);
    let mass = 0;
    for (const i of ranked(p)) {
      mass += p[i];
      if (f32(f32(mass) - p[i]) >= limit) kept[i] = -Infinity;
    }
  }
  if (minP) { // a ratio of probabilities is a difference of logits
    const least = f32(kept.reduce((a, b) => Math.max(a, b)) + f32(Math.log(minP)));
    kept.forEach((l, i) => { if (l < least) kept[i] = -Infinity; });
  }
  return kept;
}

// penalise() of language/generation.py: every token of `seen` once, downwards on both sides of zero
export function penalise(logits, seen, penalty) {
  const made = logits.slice();
  for (const i of new Set(seen)) made[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
  return made;
}

export function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const e = logits.map((l) => Math.exp(f32(l - most)));
  const sum = f32(e.reduce((a, b) => a + b, 0));
  return e.map((x) => x / sum);
}

export const entropy = (p) => p.reduce((sum, x) => (x > 0 ? sum - x * Math.log(x) : sum), 0);

// indices from the largest to the smallest; of equals the first comes first
const ranked = (x) => Uint32Array.from(x, (_, i) => i).sort((i, j) => x[j] - x[i] || i - j);

// number n of a seed, in 0 .. 1: a counter, well mixed; any n can be asked for again
export function uniform(seed, n) {
  let z = Math.imul(seed, 0x9e3779b9) + Math.imul(n + 1, 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
}

// the token at which the probabilities, summed in the order of the ids, pass u
export function pick(p, u) {
  const goal = u * p.reduce((a, b) => a + b, 0);
  let mass = 0, last = 0;
  for (let i = 0; i < p.length; i++) {
    if (p[i] === 0) continue;
    mass += p[i];
    last = i;
    if (mass > goal) break;
  }
  return last;
}
