/** From probabilities to labels, as petinfer/decision.py does it. */

/** The indices of a photo's labels, the most probable first: one, or with a threshold all over it, in float32 as in torch. */
export function decided(probabilities, threshold) {
  const order = Array.from(probabilities, (_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  if (threshold === null) return order.slice(0, 1);
  return order.filter((i) => Math.fround(probabilities[i]) > Math.fround(threshold));
}
