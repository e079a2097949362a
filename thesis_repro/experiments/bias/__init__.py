"""Tables and figures of the chapter weaknesses/bias."""
