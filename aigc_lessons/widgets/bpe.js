// Byte-pair encoding in the browser: language/bpe.py. A browser test compares the two, text by text.
// \s is \p{White_Space} in Python's regex and not quite that in JavaScript, so it is written out.
const PATTERN = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const utf8 = new TextEncoder();

export const split = (text) => text.match(PATTERN) ?? [];

// Everything that is known of one tokenizer: pair -> id, and id -> bytes
export function build(merges, byteOrder) {
  const idOfByte = new Array(256), newId = new Map(), bytes = byteOrder.map((byte) => [byte]);
  byteOrder.forEach((byte, id) => { idOfByte[byte] = id; });
  merges.forEach(([left, right], k) => {
    newId.set(left * 65536 + right, 256 + k);
    bytes.push([...bytes[left], ...bytes[right]]);
  });
  return { idOfByte, newId, bytes, merges };
}

// Again and again the pair that was learned first, all its places from the left, until no pair can be merged
export function applyMerges(ids, newId, limit) {
  for (;;) {
    let first = limit;
    for (let i = 0; i + 1 < ids.length; i++) first = Math.min(first, newId.get(ids[i] * 65536 + ids[i + 1]) ?? limit);
    if (first === limit) return ids;
    const merged = [];
    for (let i = 0; i < ids.length; i++) {
      if (i + 1 < ids.length && newId.get(ids[i] * 65536 + ids[i + 1]) === first) { merged.push(first); i++; } else merged.push(ids[i]);
    }
    ids = merged;
  }
}

export function encode(text, { idOfByte, newId }, used) {
  return split(text).flatMap((word) => applyMerges(Array.from(utf8.encode(word), (byte) => idOfByte[byte]), newId, 256 + used));
}
