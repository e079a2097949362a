"""Tables and figures of the chapter weaknesses/leakage."""
