//! Gap records, durable before anything else follows from them.
