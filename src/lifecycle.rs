//! What may be read of each segment, and what has ended.
