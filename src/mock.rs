//! A stand-in upstream.
