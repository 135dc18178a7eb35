// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// Resize as Pillow's BICUBIC does, antialias included: canvas resizes otherwise, and scores would differ.

const SUPPORT = 2; // pixels on either side that the cubic kernel reaches, times the factor of reduction
const A = -0.5; // the cubic kernel's parameter in Pillow
const PRECISION = 22; // bits of the weights behind the point; Pillow computes in integers
const STRIP = 256; // rows read at once: a canvas of a whole photo is too large for some phones

const cubic = (x) => {
  x = Math.abs(x);
  if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * A : 0;
};

/** Return, per output position, the first input position and the integer weights from there on. */
function weightsOf(inputSize, outputSize) {
  const scale = inputSize / outputSize;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: outputSize }, (_, position) => {
    const centre = (position + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - SUPPORT * stretch + 0.5), 0);
    const last = Math.min(Math.trunc(centre + SUPPORT * stretch + 0.5), inputSize);
    const weights = [];
    for (let x = first; x < last; x++) weights.push(cubic((x - centre + 0.5) / stretch));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const rounded = weights.map((weight) => Math.trunc((weight / sum) * 2 ** PRECISION + 0.5 * Math.sign(weight)));
    return { first, weights: Int32Array.from(rounded) };
  });
}

/**
 * Resize one axis of RGB pixels.
 * @param {Uint8Array | Uint8ClampedArray} pixels Values in steps of `step` along the axis and `lineStep` across it.
 * @param {Uint8ClampedArray} output Written at `outputStep`, `outputLineStep` and from `offset` on.
 */
function resizeAxis(pixels, lines, step, lineStep, table, output, outputStep, outputLineStep, offset = 0) {
  for (let line = 0; line < lines; line++) {
    for (let position = 0; position < table.length; position++) {
      const { first, weights } = table[position];
      let red = 2 ** (PRECISION - 1), green = red, blue = red; // rounds to nearest
      let place = line * lineStep + first * step;
      for (let index = 0; index < weights.length; index++, place += step) {
        red += weights[index] * pixels[place];
        green += weights[index] * pixels[place + 1];
        blue += weights[index] * pixels[place + 2];
      }
      const target = offset + line * outputLineStep + position * outputStep;
      output[target] = red >> PRECISION; // clamped to 0…255 by the type of the array
      output[target + 1] = green >> PRECISION;
      output[target + 2] = blue >> PRECISION;
    }
  }
}

/**
 * Resize an image to the model's size; transparent pixels are laid over white.
 * @param {ImageBitmap} bitmap The image.
 * @param {number} height Of the result, in pixels.
 * @param {number} width Of the result, in pixels.
 * @returns {Uint8ClampedArray} RGB, row by row.
 */
export function resizeImage(bitmap, height, width) {
  const narrow = new Uint8ClampedArray(bitmap.height * width * 3);
  const table = weightsOf(bitmap.width, width);
  const context = new OffscreenCanvas(bitmap.width, Math.min(STRIP, bitmap.height)).getContext("2d", {
    willReadFrequently: true,
  });
  for (let top = 0; top < bitmap.height; top += STRIP) {
    const rows = Math.min(STRIP, bitmap.height - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, bitmap.width, rows);
    resizeAxis(data, rows, 4, bitmap.width * 4, table, narrow, 3, width * 3, top * width * 3);
  }
  const output = new Uint8ClampedArray(height * width * 3);
  resizeAxis(narrow, width, width * 3, 3, weightsOf(bitmap.height, height), output, width * 3, 3);
  return output;
}

/**
 * Normalise RGB pixels for the model.
 * @param {Uint8ClampedArray} pixels From `resizeImage`.
 * @param {number[]} mean Per channel.
 * @param {number[]} std Per channel.
 * @returns {Float32Array} Channel by channel.
 */
export function normalise(pixels, mean, std) {
  const count = pixels.length / 3;
  return Float32Array.from({ length: pixels.length }, (_, index) => {
    const channel = Math.trunc(index / count);
    return (pixels[(index % count) * 3 + channel] / 255 - mean[channel]) / std[channel];
  });
}
