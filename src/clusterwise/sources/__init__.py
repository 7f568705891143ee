"""Where rows live: in memory or on disk, in chunks of a fixed shape."""
