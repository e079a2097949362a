"""The table sample-empty."""

import sample_table

TABLE = sample_table.EMPTY
