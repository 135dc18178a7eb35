// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// Keeps the files of the page for visits without a network. VERSION and FILES stand above, written by the export.

self.addEventListener("install", (event) => {
  const requests = FILES.map((file) => new Request(file, { cache: "no-cache" })); // no older version of a file
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(requests)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const isOld = (name) => name.startsWith("anomalyclip-") && name !== VERSION;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name)))));
});

/** Answer from the kept files. Isolated from other pages, WebAssembly may use several threads. */
async function answer(request) {
  const kept = await caches.match(request, { cacheName: VERSION, ignoreSearch: true });
  const response = kept ?? (await fetch(request));
  if (!response.ok) return response; // such as a redirect, which cannot be copied
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  if (new URL(event.request.url).origin === self.location.origin) event.respondWith(answer(event.request));
});
