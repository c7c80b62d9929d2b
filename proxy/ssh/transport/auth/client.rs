//! The client: us, towards an upstream.
