"""An endpoint on a Docker Engine: a front door's container, and one for each deployment behind it."""
