// Starts Swagger UI on our document. A file of its own, because the content policy allows no inline scripts;
// nothing is fetched from anywhere but this server.
"use strict";

const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // the default one sends the document's address elsewhere
  // Whoever logs in on this page goes on as that person.
  responseInterceptor: (response) => {
    if (response.ok && /\/auth\/(register|signup|login|refresh)$/.test(response.url)) {
      const token = response.obj && response.obj.access_token;
      if (token) ui.preauthorizeApiKey("bearer", token);
    }
    return response;
  },
});
