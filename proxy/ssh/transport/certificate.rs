//! User and host certificates.
