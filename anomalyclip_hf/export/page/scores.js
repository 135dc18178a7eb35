// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// The score of an image, and what it means beside those of known normal images.

const TOP_SHARE = 0.01; // of the map, for "top1%"

/**
 * Compute the score of an image from that of the whole image and its map, as `combine_scores` does.
 * @param {number} score Of the whole image.
 * @param {Float32Array} values Of the map, at the model's size.
 * @param {number} maximum Largest value that a map can have.
 * @param {string} kind "paper", "fusion" or "top1%".
 */
export function combineScores(score, values, maximum, kind) {
  if (kind === "paper") return score;
  const ascending = Float32Array.from(values).sort();
  if (kind === "fusion") return Math.min(Math.max((score + ascending.at(-1) / maximum) / 2, 0), 1);
  const highest = ascending.slice(-Math.ceil(TOP_SHARE * ascending.length));
  return Math.min(Math.max(highest.reduce((sum, value) => sum + value, 0) / highest.length / maximum, 0), 1);
}

/**
 * Return the share of normal images that score as high or higher, and the decision, as `judge` does.
 * @param {number} score
 * @param {{normal_scores: number[], normal_counts: number[], threshold: number, review_threshold: ?number}} calibration
 */
export function judge(score, { normal_scores, normal_counts, threshold, review_threshold }) {
  const total = normal_counts.reduce((sum, count) => sum + count, 0);
  const asHigh = normal_counts.reduce((sum, count, index) => sum + (normal_scores[index] >= score ? count : 0), 0);
  const decision = review_threshold !== null && score >= review_threshold ? "look" : "accept";
  return { p_value: (1 + asHigh) / (1 + total), decision: score >= threshold ? "reject" : decision };
}
