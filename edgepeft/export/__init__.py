"""What an exporter is handed, whichever package it comes from, and what it says of the bundle it made."""
