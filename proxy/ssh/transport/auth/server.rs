//! The server: us, towards a user.
