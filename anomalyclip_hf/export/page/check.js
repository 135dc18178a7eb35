// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// A plain script, so that also a browser that cannot run the page gets one clear line.
(function () {
  "use strict";
  // A module with one function that contains a SIMD instruction.
  var simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  var problem = "";
  if (location.protocol === "file:") {
    problem =
      "A browser does not let a page read its model from a file. Run “python -m http.server” in this folder and open http://localhost:8000.";
  } else if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(simd))) {
    problem = "This browser has no WebAssembly SIMD, which the model needs. Use a current Firefox, Chrome, Edge or Safari.";
  } else if (!window.OffscreenCanvas || !window.DecompressionStream || !window.createImageBitmap) {
    problem = "This browser is too old for the page. Use a current Firefox, Chrome, Edge or Safari.";
  }
  if (problem) {
    var line = document.getElementById("problem");
    line.textContent = problem;
    line.hidden = false;
    document.documentElement.className = "unusable";
  }
})();
