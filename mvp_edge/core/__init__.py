"""What everything else stands on: errors, devices and random streams, atomic files, places."""
