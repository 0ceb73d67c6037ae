"""Service 27: how the export to the warehouse stands, and a scheduler's push for it."""
