"""HTTP for every service: declarations, the guard, schemas, the error table, request ids, metrics and the OpenAPI document."""
