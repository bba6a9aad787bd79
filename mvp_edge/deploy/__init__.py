"""What an app developer needs, made from a result of `prune`: a folder for one kind of device."""
