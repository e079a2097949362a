"""Part I: what a net uses. Internal influence, its special cases, and expert units."""
