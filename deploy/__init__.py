"""What a team needs to run Sightglass: image, manifests, dashboards, alerts, and their checks."""
