"""The table sample-rates."""

import sample_table

TABLE = sample_table.RATES
