"use strict";

// Shows /api/openapi.json with Swagger UI. Nothing is asked of another host: no validator badge, no remote fonts.
window.addEventListener("load", () => {
  const place = document.getElementById("docs");
  if (typeof window.SwaggerUIBundle !== "function") {
    place.textContent = "Swagger UI is not installed on this server; the API is described in /api/openapi.json.";
    return;
  }
  window.SwaggerUIBundle({
    url: "/api/openapi.json",
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    filter: true,
    persistAuthorization: false,
    tryItOutEnabled: false,
    displayRequestDuration: true,
    validatorUrl: null,
    presets: [window.SwaggerUIBundle.presets.apis],
  });
});
