"""HTTP: routes, bodies, their validation, and errors as answers. Decides nothing about a list."""
