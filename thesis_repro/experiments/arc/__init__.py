"""Tables and figures of the chapter arc/arc."""
