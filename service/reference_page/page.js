// Swagger UI over the service's own document. By default it would have that judged by validator.swagger.io.
SwaggerUIBundle({ url: 'openapi.json', dom_id: '#reference', deepLinking: true, validatorUrl: null })
