"""What a training or a validation draws from: slices, volumes, collections of both."""
