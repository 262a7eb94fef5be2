// Shows the API's description with Swagger UI, light or dark as the reader's system is.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // The schemas are shown where they are used; the list of them all is long on a phone.
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  // Nothing is asked of any other server.
  validatorUrl: null,
});
