//! What lands where.
