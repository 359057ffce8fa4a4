//! Hard links that outlive foreign deletions.
