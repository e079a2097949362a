"""Tables and figures of the chapter robustness/certifiers."""
