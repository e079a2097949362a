"""Tables and figures of the chapter explanations/influence."""
