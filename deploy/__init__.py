"""What runs beside the service. Imports none of the project's code but its own."""
