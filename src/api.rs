//! HTTP: /metrics and the JSON API.
