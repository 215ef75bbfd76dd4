"""Image, manifests, dashboard and alerts to run Sightglass, and the checks of them."""
