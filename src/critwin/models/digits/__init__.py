"""The shipped digits model: data with planted features, and a small class-conditional UNet."""
