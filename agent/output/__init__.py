"""What programs print: kept within bounds, sent, and searched for failures."""
