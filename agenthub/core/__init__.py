"""The lowest floor: errors, types, ids, time and JSON. Standard library and orjson only."""
