"""Mission: from a device and a budget to the student that keeps it, or to why none was found."""
