"""HTTP: routes, the validation of bodies, and errors as answers. Decides nothing about a list."""
