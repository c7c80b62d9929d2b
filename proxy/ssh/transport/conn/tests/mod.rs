//! Two transports at each other, and one at what no transport would send.
