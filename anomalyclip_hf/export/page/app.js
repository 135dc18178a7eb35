// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// The page: takes an image, has it scored by worker.js, and draws the result as often as a slider moves.

import { paintOverlay } from "./maps.js";
import { judge } from "./scores.js";

const DISPLAY_SIDE = 1280; // pixels; larger images are shown smaller, but scored as they are
const SAVED_SIDE = 4096; // pixels; a larger canvas is refused by some phones
const MAX_PIXELS = 100_000_000;
const ROWS_SHOWN = 8; // regions in the table; the JSON file has all

const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const worker = new Worker("worker.js", { type: "module" });

let settings;
let isReady = false;
let waiting = null; // the image that is being scored: {name, bitmap}
let shown = null; // the scored one: {name, bitmap, score, map, peak, regions, threshold}

// ------------------------------------------------------------------------------------------------------- messages

function element(kind, text, attributes = {}) {
  return Object.assign(document.createElement(kind), { textContent: text, ...attributes });
}

function say(text) {
  find("status").textContent = text;
}

function showProblem(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

function showProgress(share) {
  find("progress").hidden = share === null;
  find("progress").classList.toggle("endless", share === undefined);
  if (share) find("progress").firstElementChild.style.transform = `scaleX(${share})`;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const number = (value) => Number(value.toPrecision(4)).toString();

const answers = {
  progress({ share, total }) {
    if (!waiting) say(`Loading the model: ${megabytes(share * total)} of ${megabytes(total)}`);
    showProgress(share < 1 ? share : undefined);
  },
  ready({ runtime }) {
    isReady = true;
    settings.computes_with = runtime;
    find("about").textContent = `${settings.name} · ${runtime} · ONNX Runtime ${settings.runtime.version} (MIT)`;
    if (waiting) return;
    say("Ready.");
    showProgress(null);
    keepOffline();
  },
  scored({ type, milliseconds, ...result }) {
    shown?.bitmap.close();
    shown = { ...waiting, ...result };
    waiting = null;
    showProgress(null);
    say(`${shown.name}: scored ${shown.score.toFixed(3)} in ${(milliseconds / 1000).toFixed(1)} s.`);
    for (const name of ["save-png", "save-json"]) find(name).disabled = false;
    redraw();
    keepOffline();
  },
  regions({ regions, threshold }) {
    Object.assign(shown, { regions, threshold });
    showRegions();
    askForRegions();
  },
  problem({ during, text }) {
    showProblem(text);
    showProgress(null);
    waiting = null;
    if (during === "start") say("The model could not be loaded.");
  },
};

worker.onmessage = ({ data }) => answers[data.type](data);
worker.onerror = (event) => {
  answers.problem({ during: "start", text: `The page cannot compute in this browser: ${event.message ?? "worker.js"}` });
};

// --------------------------------------------------------------------------------------------------------- images

/** Score an image and show it. */
async function take(file, name = file.name || "image") {
  showProblem("");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    showProblem(`${name} is not an image that this browser can read; use PNG, JPEG or WebP.`);
    return;
  }
  const megapixels = Math.round((bitmap.width * bitmap.height) / 1e6);
  if (megapixels * 1e6 > MAX_PIXELS) {
    showProblem(`${name} has ${megapixels} megapixels; this page takes up to ${MAX_PIXELS / 1e6}.`);
    return;
  }
  waiting = { name, bitmap };
  showImage(bitmap);
  say(isReady ? `${name}: scoring …` : `${name}: waiting for the model …`);
  showProgress(undefined);
  worker.postMessage({ type: "score", bitmap, threshold: value("pixel-threshold") });
}

/** Show an image without a result yet. */
function showImage(bitmap) {
  find("stage").classList.remove("empty");
  find("invitation").hidden = true;
  canvas.hidden = false;
  canvas.setAttribute("aria-label", "The image, not scored yet");
  find("panel").classList.add("old");
  draw(canvas, bitmap, DISPLAY_SIDE);
}

/** Draw an image on a canvas, at most `side` pixels long, and return the context. */
function draw(target, bitmap, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  target.width = Math.max(1, Math.round(bitmap.width * scale));
  target.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = target.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // under transparent pixels, as in the score
  context.fillRect(0, 0, target.width, target.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, target.width, target.height);
  return context;
}

function takeFirst(files) {
  const image = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (image) take(image);
}

function listenForImages() {
  for (const [button, input] of [["choose", "file"], ["photograph", "capture"]]) {
    find(button).disabled = false;
    find(button).onclick = () => find(input).click();
    find(input).onchange = () => {
      takeFirst(find(input).files);
      find(input).value = ""; // so that the same file can be chosen again
    };
  }
  if (navigator.mediaDevices?.getUserMedia && !matchMedia("(pointer: coarse)").matches) find("photograph").onclick = openCamera;
  document.onpaste = (event) => takeFirst(event.clipboardData.files);
  document.ondragover = (event) => {
    event.preventDefault();
    find("stage").classList.add("over");
  };
  document.ondragleave = (event) => event.relatedTarget ?? find("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    find("stage").classList.remove("over");
    takeFirst(event.dataTransfer.files);
  };
}

/** Take a photo with a camera of this computer; phones and tablets open their own camera instead. */
async function openCamera() {
  const dialog = find("camera");
  const video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
  } catch (error) {
    showProblem(`The camera cannot be used: ${error.message}.`);
    return;
  }
  video.srcObject = stream;
  find("cancel").onclick = () => dialog.close();
  find("shoot").onclick = async () => {
    const photo = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    photo.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    take(await photo.convertToBlob(), "photo.png");
  };
  dialog.onclose = () => stream.getTracks().forEach((track) => track.stop());
  dialog.showModal();
}

function showSamples() {
  find("samples").hidden = !settings.samples.length;
  for (const path of settings.samples) {
    const name = path.split("/").pop();
    const title = name.replace(/\.\w+$/, "").replaceAll("_", " ");
    const button = element("button", "", { type: "button", title });
    button.append(element("img", "", { src: path, alt: title, loading: "lazy" }));
    button.onclick = async () => take(await (await fetch(path)).blob(), name);
    find("samples").append(button);
  }
}

// --------------------------------------------------------------------------------------------------------- result

const value = (slider) => Number(find(slider).value);

function redraw() {
  find("panel").classList.remove("old");
  drawOverlay(canvas, DISPLAY_SIDE);
  showVerdict();
  showRegions();
}

function drawOverlay(target, side) {
  const context = draw(target, shown.bitmap, side);
  const picture = context.getImageData(0, 0, target.width, target.height);
  const scale = { colours: settings.colours, middle: settings.middle, maximum: settings.map_maximum };
  paintOverlay(picture, shown.map, { ...scale, opacity: value("opacity"), threshold: value("pixel-threshold") });
  context.putImageData(picture, 0, 0);
}

const label = () => settings.labels[Number(shown.score >= value("threshold"))];

/** Return p-value and decision at the slider's threshold, if the model has been calibrated. */
const judged = () =>
  settings.calibration ? judge(shown.score, { ...settings.calibration, threshold: value("threshold") }) : {};

function showVerdict() {
  const scale = element("div", "", { className: "scale" });
  scale.append(element("i", ""), element("b", ""));
  scale.firstChild.style.width = `${100 * shown.score}%`;
  scale.lastChild.style.left = `${100 * value("threshold")}%`;
  const line = element("p", "");
  line.append(element("strong", shown.score.toFixed(3)), element("span", label()));
  find("verdict").className = label();
  const note = `Score from 0 to 1; anomalous from ${value("threshold")} on. The heat map reaches ${number(shown.peak)}.`;
  const { p_value, decision } = judged();
  const known = decision ? ` p-value ${number(p_value)} beside known normal images: ${decision}.` : "";
  find("verdict").replaceChildren(line, scale, element("small", note + known));
}

const count = (regions) => (regions.length === 1 ? "1 region" : `${regions.length || "No"} regions`);

function showRegions() {
  const { regions, threshold, score, peak } = shown;
  canvas.setAttribute("aria-label", `Heat map over the image: score ${score.toFixed(3)}, ${count(regions).toLowerCase()}`);
  const parts = [element("h2", `${count(regions)} from map value ${number(threshold)} on`)];
  if (regions.length) {
    const table = element("table", "");
    const head = table.createTHead().insertRow();
    for (const name of ["left", "top", "right", "bottom", "area (px)", "peak"]) {
      head.append(element("th", name, { scope: "col" }));
    }
    const body = table.createTBody();
    for (const { box, area, peak } of regions.slice(0, ROWS_SHOWN)) {
      const row = body.insertRow();
      for (const cell of [box.xmin, box.ymin, box.xmax, box.ymax, area, number(peak)]) row.append(element("td", cell));
    }
    parts.push(table);
  }
  if (regions.length > ROWS_SHOWN) parts.push(element("p", `The first ${ROWS_SHOWN}; the JSON file has all.`));
  find("regions").replaceChildren(...parts);
}

let isAsking = false;
/** Ask the worker for the regions at the slider's threshold; positions that it has passed meanwhile are left out. */
function askForRegions() {
  isAsking = shown && !waiting && shown.threshold !== value("pixel-threshold");
  if (isAsking) worker.postMessage({ type: "regions", threshold: value("pixel-threshold") });
}

function prepareSliders() {
  const maximum = settings.map_maximum;
  const step = settings.calibration ? 0.001 : 0.01;
  const roundUp = (threshold, step) => Math.ceil(threshold / step - 1e-6) * step; // a calibrated one is not lowered
  const middle = roundUp(settings.middle, maximum * step);
  Object.assign(find("pixel-threshold"), { max: maximum, step: maximum * step, value: middle });
  Object.assign(find("threshold"), { step, value: roundUp(settings.threshold, step) });
  find("middle").textContent = number(settings.middle);
  find("maximum").textContent = number(maximum);
  const colours = settings.colours.map((colour) => `rgb(${colour})`);
  find("legend").firstElementChild.style.background = `linear-gradient(90deg, ${colours})`;
  for (const slider of document.querySelectorAll("#sliders input")) {
    const output = document.querySelector(`output[for=${slider.id}]`);
    output.textContent = number(Number(slider.value));
    slider.oninput = () => {
      output.textContent = number(Number(slider.value));
      if (!shown || waiting) return;
      if (slider.id === "threshold") showVerdict();
      else requestAnimationFrame(() => drawOverlay(canvas, DISPLAY_SIDE));
      if (!isAsking) askForRegions();
    };
  }
}

// -------------------------------------------------------------------------------------------------------- downloads

function save(blob, ending) {
  const link = element("a", "", { href: URL.createObjectURL(blob), download: shown.name.replace(/\.\w+$/, "") + ending });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function savePng() {
  const target = document.createElement("canvas");
  drawOverlay(target, SAVED_SIDE);
  target.toBlob((blob) => (blob ? save(blob, "_overlay.png") : showProblem("The picture is too large for this browser.")));
}

function saveJson() {
  const { name, bitmap, score, peak, regions, threshold } = shown;
  const result = {
    image: name,
    score,
    label: label(),
    ...judged(),
    map_peak: peak,
    regions,
    threshold: value("threshold"),
    pixel_threshold: threshold,
    height: bitmap.height,
    width: bitmap.width,
    model: settings.name,
    runtime: settings.computes_with,
  };
  save(new Blob([JSON.stringify(result, null, 2)], { type: "application/json" }), "_result.json");
}

// ---------------------------------------------------------------------------------------------------------- start

/** Keep the page's files for visits without a network, once the model has arrived. */
async function keepOffline() {
  if (!navigator.serviceWorker) return; // only over https and on localhost
  try {
    await navigator.serviceWorker.register("service_worker.js");
    await navigator.serviceWorker.ready;
    find("offline").textContent = "· Works offline";
  } catch (error) {
    console.warn(`The page will not work offline: ${error.message}`);
  }
}

async function loadJson(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing (status ${response.status})`);
  return response.json();
}

async function start() {
  if (document.documentElement.className === "unusable") return say("");
  const [model, page] = await Promise.all(["anomalyclip.json", "page.json"].map(loadJson));
  const { threshold, pixel_threshold } = model.calibration ?? model;
  settings = { ...model, ...page, threshold, middle: pixel_threshold ?? model.pixel_threshold ?? model.map_maximum / 2 };
  document.title = `${settings.name}: find what is wrong in an image`;
  if (settings.note) find("about").before(element("p", settings.note));
  prepareSliders();
  find("save-png").onclick = savePng;
  find("save-json").onclick = saveJson;
  showSamples();
  listenForImages();
  const runtime = new URLSearchParams(location.search).get("runtime"); // webgpu or wasm, for comparisons
  worker.postMessage({ type: "start", settings, runtime });
}

start().catch((error) => showProblem(`The page could not start: ${error.message}`));
