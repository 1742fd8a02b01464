"""Flow: what joins the parts, for the command line and for Python alike."""
