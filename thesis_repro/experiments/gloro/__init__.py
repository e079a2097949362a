"""Tables and figures of the chapter robustness/gloro."""
